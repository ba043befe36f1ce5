"""The entries of the format table: zarr is imported when the first store is opened.

To import it takes longer than to open a slide of another kind.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from napari_patchset.axes import DepthAxis
from napari_patchset.source import SceneId
from napari_patchset.stacks.metadata import SceneSummary

if TYPE_CHECKING:
    from napari_patchset.stacks.zarr.stack import ZarrImageStack

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def is_zarr(path: Path, head: bytes) -> bool:
    """Whether a folder is a zarr group or array, at the top of a store or within one."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA_FILES)


def zarr_scenes(path: Path | str) -> list[SceneSummary]:
    """List the images of a store; see `opening`."""
    from napari_patchset.stacks.zarr import opening

    return opening.zarr_scenes(path)


def zarr_labels(path: Path | str, scene: SceneId | None = None) -> list[str]:
    """List the label images of an image; see `opening`."""
    from napari_patchset.stacks.zarr import opening

    return opening.zarr_labels(path, scene)


def open_zarr(path: Path | str, scene: SceneId | None, depth_axis: DepthAxis) -> "ZarrImageStack":
    """Open one image of a store as a stack; see `opening`."""
    from napari_patchset.stacks.zarr import opening

    return opening.open_zarr(path, scene, depth_axis)
