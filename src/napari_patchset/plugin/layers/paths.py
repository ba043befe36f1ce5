"""A path that stands for a layer, so that a plan can name one."""

from pathlib import Path
from weakref import WeakValueDictionary

from napari.layers import Image, Labels

_LAYERS: WeakValueDictionary[str, Image | Labels] = WeakValueDictionary()
"""By the path that stands for each; a layer that is gone is not kept."""


def path_of(layer: Image | Labels) -> Path:
    """Give the path that stands for a layer while it is there."""
    path = f"layer:{layer.unique_id}"
    _LAYERS[path] = layer
    return Path(path)


def layer_at(path: str | Path) -> Image | Labels | None:
    """Give the layer that a path stands for, None if it is a file's."""
    return _LAYERS.get(str(path))
