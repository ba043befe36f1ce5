"""What is done to layers beside the plugin: painted, moved, turned or scaled."""

from weakref import WeakKeyDictionary

from napari.layers import Layer
from psygnal import Signal

_PLACING = ("scale", "translate", "rotate", "shear", "affine", "units")
"""The events of a layer that say where its pixels lie."""


class LayerEdits:
    """Tell of edits; each event of a layer is connected once, as napari takes a millisecond."""

    made = Signal()
    """The pixels of a layer are others now, or lie elsewhere."""

    def __init__(self) -> None:
        self._heard: WeakKeyDictionary[Layer, set[str]] = WeakKeyDictionary()

    def hear_painted(self, layer: Layer) -> None:
        """Tell when the pixels of a layer become others."""
        self._hear(layer, "data")

    def hear_moved(self, layer: Layer) -> None:
        """Tell when the pixels of a layer come to lie elsewhere."""
        self._hear(layer, *_PLACING)

    def _hear(self, layer: Layer, *names: str) -> None:
        heard = self._heard.setdefault(layer, set())
        for name in names:
            if name not in heard:
                getattr(layer.events, name).connect(self.made.emit)
        heard.update(names)
