"""File > Open Sample: the sample file, written on first use."""

from napari_patchset.plugin.layers.scene import LayerTuple
from napari_patchset.plugin.reader import read_layers
from napari_patchset.sample import ensure_sample


def open_sample() -> list[LayerTuple]:
    """Open the first scene of the sample file."""
    return read_layers(str(ensure_sample()))
