"""Strategy: how patches are chosen, and the options of each way to choose."""

from typing import Any

from magicgui.widgets import ComboBox, Label, PushButton, SpinBox, Widget

from napari_patchset.patching.strategies import STRATEGIES, FixedPatch, Strategy
from napari_patchset.plugin.form.rows import LARGEST, Part, choices, choices_of

_KINDS = choices_of(
    STRATEGIES,
    tiled="tiled: a regular grid",
    random="random",
    stratified="stratified: random, one a cell",
    fixed="clicked on the image",
    whole="whole planes or volumes",
)
_EDGES = choices(
    ("shift the last patch back", "shift"),
    ("spread the patches evenly", "balance"),
    ("drop what does not fit", "drop"),
    ("pad beyond the image", "pad"),
)
_PADS = choices(
    ("reflected pixels", "reflect"),
    ("mirrored pixels", "symmetric"),
    ("the last pixel", "edge"),
    ("zero", "constant"),
)
_SMALL = choices(
    ("is an error", "error"), ("is left out", "skip"), ("is padded (tiled only)", "pad")
)
_PER = choices(("in each plane or volume", "sample"), ("in all together", "total"))
_NO_LIMIT = 100

_DRAWN = ("n_patches", "per", "max_overlap", "seed")
_CLICKED = ("places", "place", "forget")
_FIELDS = ("edge", "pad", *_DRAWN, "small", *_CLICKED)
"""The fields in the order of the form."""

_SHOWN = {"count": {"n_patches"}, "patches": set(_CLICKED)}
"""What a strategy's field is here, where it has another name."""


def _used(kind: str) -> set[str]:
    """Name what is shown for a kind: the fields that it has, as far as they are here."""
    fields = STRATEGIES[kind].model_fields
    return {name for field in fields for name in _SHOWN.get(field, {field})}


class StrategySection(Part):
    """How patches are chosen. Its value is a strategy's fields but size, overlap and where."""

    def __init__(self) -> None:
        self.kind = ComboBox(
            label="Chosen", choices=_KINDS, tooltip="How the places of the patches are chosen."
        )
        self.patches: tuple[FixedPatch, ...] = ()
        self._make_border()
        self._make_drawn()
        self._make_clicked()
        self._fields: dict[str, Widget] = {name: getattr(self, name) for name in _FIELDS}
        super().__init__([self.kind, *self._fields.values()])
        self.kind.changed.connect(self._show)
        self.edge.changed.connect(self._show)
        self.forget.changed.connect(lambda: self.set_places(()))
        self._show()

    def _make_border(self) -> None:
        self.edge = ComboBox(
            label="At the border", choices=_EDGES, tooltip="What to do where the grid does not fit."
        )
        self.pad = ComboBox(
            label="Pad with", choices=_PADS, tooltip="What lies beyond the border of the image."
        )
        self.small = ComboBox(
            label="Small image",
            choices=_SMALL,
            tooltip="What becomes of an image that is smaller than one patch.",
        )

    def _make_drawn(self) -> None:
        self.n_patches = SpinBox(
            value=100, min=1, max=LARGEST, label="Count", tooltip="How many patches to draw."
        )
        self.per = ComboBox(label="Counted", choices=_PER, tooltip="What the count is of.")
        self.max_overlap = SpinBox(
            value=_NO_LIMIT,
            min=0,
            max=_NO_LIMIT,
            label="Max overlap %",
            tooltip="How much two patches may share, in per cent; 100 for no limit.",
        )
        self.seed = SpinBox(
            value=0,
            min=0,
            max=LARGEST,
            label="Seed",
            tooltip="Another number, other patches; the same number, the same patches.",
        )

    def _make_clicked(self) -> None:
        self.places = Label(value="")
        self.place = PushButton(
            text="Place one",
            tooltip="Place a patch in the middle of the view, as a click on the image does there; "
            "then Shift + arrow keys move it, and Del takes it away.",
        )
        self.forget = PushButton(text="Forget all", tooltip="Forget the patches that were clicked.")

    @property
    def value(self) -> dict[str, Any]:
        """The fields of the strategy, as it stands in a plan."""
        kind = self.kind.value
        if kind == "fixed":
            return {"kind": kind, "patches": self.patches}
        used = (name for name in self._fields if name in _used(kind))
        chosen = {name: getattr(self, name).value for name in used}
        if kind == "random":
            chosen["count"], limit = chosen.pop("n_patches"), chosen["max_overlap"]
            chosen["max_overlap"] = None if limit == _NO_LIMIT else limit / 100
        if chosen.get("edge") != "pad" and chosen.get("small") != "pad":
            chosen.pop("pad", None)
        return {"kind": kind, **chosen}

    def load(self, strategy: Strategy) -> None:
        """Set the fields from a strategy."""
        self.kind.value = strategy.kind
        if strategy.kind == "random":
            self.n_patches.value = strategy.count
        for name in set(self._fields) & set(type(strategy).model_fields):
            value = getattr(strategy, name)
            if name == "max_overlap":
                value = _NO_LIMIT if value is None else round(100 * value)
            getattr(self, name).value = value
        if strategy.kind == "fixed":
            self.set_places(strategy.patches)

    def set_places(self, places: tuple[FixedPatch, ...]) -> None:
        """Set the patches that were clicked."""
        self.patches = places
        n = len(places)
        self.places.value = f"{n} clicked" if n else "Click on the image."
        self.changed.emit(self)

    def _show(self) -> None:
        used = _used(self.kind.value)
        for name, field in self._fields.items():
            field.visible = name in used
        padded = self.edge.value == "pad" or self.small.value == "pad"
        self.pad.visible = "pad" in used and padded

    @property
    def said(self) -> str:
        """What is set, in a word."""
        return str(self.kind.value) if self.kind.value != "fixed" else self.places.value
