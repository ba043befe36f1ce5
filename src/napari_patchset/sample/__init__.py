"""The sample microscope file: cells in several scenes, drawn here and written on first use."""

from napari_patchset.sample.cells import sample_plane
from napari_patchset.sample.contents import (
    CHANNELS,
    DEPTHS,
    PIXEL_SIZE_M,
    PLANE_DISTANCE_M,
    SCENES,
    TILE,
    TIMES,
    Channel,
    Scene,
)
from napari_patchset.sample.file import ensure_sample, sample_path, write_sample

__all__ = [
    "CHANNELS",
    "DEPTHS",
    "PIXEL_SIZE_M",
    "PLANE_DISTANCE_M",
    "SCENES",
    "TILE",
    "TIMES",
    "Channel",
    "Scene",
    "ensure_sample",
    "sample_path",
    "sample_plane",
    "write_sample",
]
