"""Strategy: the way patches are chosen, and the options of each kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Label, LineEdit, PushButton, Widget
from psygnal import Signal

from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.class_pixels import BACKGROUND, FOREGROUND
from napari_patchset.patching.strategies import (
    STRATEGIES,
    Balanced,
    FixedPatch,
    Random,
    Strategy,
    Tiled,
)
from napari_patchset.patching.strategies.balanced import format_shares, parse_shares
from napari_patchset.plugin.form.fields import (
    Row,
    Section,
    choices,
    choices_of,
    description,
    small_button,
)
from napari_patchset.plugin.form.numbers import MAX_INT, Percent, WholeNumber
from napari_patchset.plugin.history import Edit

_KINDS = choices_of(
    STRATEGIES,
    tiled="tiled: a regular grid",
    random="random",
    stratified="stratified: one at random in each cell",
    balanced="balanced: random, by class of the labels",
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
_SMALL = choices(("stop with an error", "error"), ("skip it", "skip"), ("pad it (tiled)", "pad"))
_PER = choices(("per plane or volume", "sample"), ("in total", "total"))
_NO_LIMIT = 100

_RANDOM = ("n_patches", "classes", "per", "max_overlap", "seed")
_CLICKED = ("places", "place", "forget")
_FIELDS = ("edge", "pad", *_RANDOM, "small", *_CLICKED)
"""The fields in the order of the form."""

_SHOWN = {"count": {"n_patches"}, "patches": set(_CLICKED)}
"""The fields for a field of a strategy, where the names differ: `count` is a list's method."""


_ELSEWHERE = {
    *("kind", "size", "overlap", "region", "select", "min_inside"),
    *("region_classes", "exclude_classes"),
}
"""The fields of a strategy that other parts of the form show."""


def _fields_of(kind: str) -> set[str]:
    """Return the names of the fields that a kind of strategy has."""
    fields = STRATEGIES[kind].model_fields
    return {name for field in fields for name in _SHOWN.get(field, {field})}


class StrategySection(Section):
    """The way patches are chosen; its value is a strategy without size, overlap and region."""

    done = Signal(Edit)
    """Patches were placed, moved or removed by hand."""

    def __init__(self) -> None:
        self.kind = ComboBox(
            label="Strategy", choices=_KINDS, tooltip=description(Recipe, "strategy")
        )
        self.patches: tuple[FixedPatch, ...] = ()
        self._make_border_fields()
        self._make_random_fields()
        self._make_click_fields()
        self._fields: dict[str, Widget] = {name: getattr(self, name) for name in _FIELDS}
        self._fields["classes"] = Row([self.classes, self.all_classes], label="Class shares")
        self._others: dict[str, Any] = {}
        """What a loaded plan has besides: the share that must be covered."""
        self.kept, self.forget_kept = Label(value=""), small_button("×", "Remove these.", width=22)
        self.kept.native.setWordWrap(True)
        self._kept_row = Row([self.kept, self.forget_kept], label="From the plan", visible=False)
        super().__init__([self.kind, *self._fields.values(), self._kept_row])
        self.kind.changed.connect(self._show)
        self.edge.changed.connect(self._show)
        self.small.changed.connect(self._show)
        self.forget.changed.connect(lambda: self.change_places(()))
        self.forget_kept.changed.connect(lambda: self._keep({}))
        self._show()

    def _make_border_fields(self) -> None:
        self.edge = ComboBox(
            label="At the border", choices=_EDGES, tooltip=description(Tiled, "edge")
        )
        self.pad = ComboBox(
            label="Pad with", choices=_PADS, tooltip="What lies beyond the border of the image."
        )
        self.small = ComboBox(
            label="Small image",
            choices=_SMALL,
            tooltip="What to do with an image that is smaller than one patch.",
        )

    def _make_random_fields(self) -> None:
        self.n_patches = WholeNumber(
            value=100, min=1, max=MAX_INT, label="Count", tooltip="How many patches to draw."
        )
        self.classes = LineEdit(
            value="foreground=0.5,background=0.5",
            tooltip="How many patches are drawn around pixels of each class, relative to the "
            "others: mito=0.5,background=0.5 is one half each. A class is one of the "
            "annotations, or a value of the labels, as in 3=0.5,0=0.5; background is what is "
            "in none, foreground all else.",
        )
        self._known_classes: tuple[str, ...] = ()
        self._image: Path | None = None
        self._classes_of: dict[Path, str] = {}
        """What each image shown before has in the field of classes."""
        self._is_of_former = False
        self.all_classes = small_button("All", "Each class of the outlines, and what is in none.")
        self.all_classes.changed.connect(self._take_all_classes)
        self.classes.changed.connect(self._on_classes_typed)
        self.per = ComboBox(
            label="Count applies",
            choices=_PER,
            tooltip="Whether this number is drawn in each plane or volume, or in all together.",
        )
        self.max_overlap = Percent(
            value=_NO_LIMIT,
            max=_NO_LIMIT,
            label="Max overlap %",
            tooltip="The largest share of its pixels that two patches may have in common; "
            "100 for no limit.",
        )
        self.seed = WholeNumber(
            value=0,
            min=0,
            max=MAX_INT,
            label="Random seed",
            tooltip="Another number draws other patches; the same number draws the same ones "
            "again.",
        )

    def _make_click_fields(self) -> None:
        self.places = Label(value="")
        self.place = PushButton(
            text="Add patch",
            tooltip="Add a patch in the middle of the view, as a click on the image does there; "
            "then Shift + arrow keys move it, and Del removes it. Shift + click frames one that is "
            "there.",
        )
        self.forget = PushButton(text="Remove all", tooltip="Remove the patches that were clicked.")

    @property
    def value(self) -> dict[str, Any]:
        """The fields of the strategy, as a plan has them."""
        kind = self.kind.value
        if kind == "fixed":
            return {"kind": kind, "patches": self.patches} | self._used_others
        used = (name for name in self._fields if name in _fields_of(kind))
        fields = {name: getattr(self, name).value for name in used}
        if "n_patches" in fields:
            fields["count"] = fields.pop("n_patches")
        if kind == "random":
            limit = self.max_overlap.fraction
            fields["max_overlap"] = None if limit == 1 else limit
        if fields.get("edge") != "pad" and fields.get("small") != "pad":
            fields.pop("pad", None)
        return {"kind": kind, **fields} | self._used_others

    @property
    def _used_others(self) -> dict[str, Any]:
        fields = STRATEGIES[self.kind.value].model_fields
        return {name: value for name, value in self._others.items() if name in fields}

    def _keep(self, others: dict[str, Any]) -> None:
        """Keep fields of a plan that have no field here."""
        self._others = others
        self._show()
        self.changed.emit(self)

    def load(self, strategy: Strategy) -> None:
        """Set the fields from a strategy."""
        self._classes_of.clear()
        self._is_of_former = False
        self.kind.value = strategy.kind
        if isinstance(strategy, Random | Balanced):
            self.n_patches.value = strategy.count
        for name in set(self._fields) & set(type(strategy).model_fields):
            value = getattr(strategy, name)
            if name == "max_overlap":
                self.max_overlap.load(1 if value is None else value)
                continue
            if name == "classes":
                value = format_shares(value)
            getattr(self, name).value = value
        if strategy.kind == "fixed":
            self.set_places(strategy.patches)
        shown = _ELSEWHERE | {"count", "patches", *self._fields}
        self._keep(strategy.model_dump(exclude=shown, exclude_defaults=True))

    def turn_to(self, image: Path | None, is_alone: bool) -> None:
        """Take the classes that an image had before; of a new one, those that it turns out to have.

        Other images in the set, if it is not alone, may have more.
        """
        if image == self._image:
            return
        if self._image is not None:
            self._classes_of[self._image] = self.classes.value
        self._image = image
        if image in self._classes_of and is_alone:
            self.classes.value = self._classes_of[image]
        self._is_of_former = image not in self._classes_of and is_alone

    def expect_other_classes(self) -> None:
        """Have the classes to come replace those of former outlines of the image."""
        self._is_of_former = True

    def offer_classes(self, names: Sequence[str]) -> None:
        """Offer the classes of the annotations; former ones are no longer asked for."""
        self._known_classes = tuple(names)
        if names and self._is_of_former:
            self._is_of_former = False
            self._drop_unknown_classes()
        self._show()

    def _drop_unknown_classes(self) -> None:
        """Keep what the annotations have of the classes, or take all if there is none."""
        try:
            shares = parse_shares(self.classes.value)
        except ValueError:  # planning says so
            return
        has = {*self._known_classes, FOREGROUND, BACKGROUND}
        known = {name: share for name, share in shares.items() if name in has}
        if known == shares:
            return
        if known.keys() <= {BACKGROUND}:
            self._take_all_classes()
        else:
            self.classes.value = format_shares(known)

    def _on_classes_typed(self) -> None:
        self._is_of_former = False

    def _take_all_classes(self) -> None:
        self.classes.value = format_shares(dict.fromkeys((*self._known_classes, BACKGROUND), 1))

    def change_places(self, places: tuple[FixedPatch, ...]) -> None:
        """Change the patches that are clicked on the image, by hand."""
        edit = Edit("patches placed", lambda: self.patches, self.set_places, self.patches)
        self.done.emit(edit)
        self.set_places(places)

    def set_places(self, places: tuple[FixedPatch, ...]) -> None:
        """Set the patches that are clicked on the image."""
        self.patches = places
        n = len(places)
        self.places.value = f"{n} clicked" if n else "Click on the image."
        self.changed.emit(self)

    @property
    def summary(self) -> str:
        """A short summary of the settings."""
        kind = self.kind.value if self.kind.value != "fixed" else self.places.value
        n = len(self._used_others)
        return (
            f"{kind}, {n} {'setting' if n == 1 else 'settings'} from the plan" if n else str(kind)
        )

    @property
    def _kept_texts(self) -> list[str]:
        return [
            f"{name.replace('_', ' ')} {_format(value)}"
            for name, value in self._used_others.items()
        ]

    def _show(self) -> None:
        used = _fields_of(self.kind.value)
        for name, field in self._fields.items():
            field.visible = name in used
        self.all_classes.visible = bool(self._known_classes)
        padded = self.edge.value == "pad" or self.small.value == "pad"
        self.pad.visible = "pad" in used and padded
        self.kept.value = "\n".join(self._kept_texts)
        self._kept_row.visible = bool(self._kept_texts)


def _format(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
