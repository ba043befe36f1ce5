"""Several changes of a layer, drawn once."""

from collections.abc import Iterator
from contextlib import contextmanager

from napari.layers import Layer


@contextmanager
def drawn_once(layer: Layer) -> Iterator[None]:
    """Change settings of a layer, each of which would be drawn: a hidden layer is not."""
    was_visible = layer.visible
    with layer.events.visible.blocker():
        layer.visible = False
    try:
        yield
    finally:
        if was_visible:
            layer.visible = True
