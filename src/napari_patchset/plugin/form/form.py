"""The form as a whole: a recipe made of its sections, and a recipe loaded into them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.regions import Region
from napari_patchset.patching.splits.search import ANNOTATION
from napari_patchset.patching.strategies import STRATEGIES
from napari_patchset.patching.verdicts import Override
from napari_patchset.plugin.form.annotations import AnnotationsSection
from napari_patchset.plugin.form.fields import Fold, Section
from napari_patchset.plugin.form.filters import FiltersSection
from napari_patchset.plugin.form.numbers import check_numbers
from napari_patchset.plugin.form.output import OutputSection
from napari_patchset.plugin.form.patches import ChannelsSection, PatchesSection
from napari_patchset.plugin.form.pixel_size import PixelSizeSection
from napari_patchset.plugin.form.region import RegionSection, extents
from napari_patchset.plugin.form.source_section import PairsSection
from napari_patchset.plugin.form.split import SplitSection
from napari_patchset.plugin.form.strategy import StrategySection
from napari_patchset.plugin.history import Edit
from napari_patchset.source import PixelSize, SourceInfo


class RecipeForm:
    """The sections that make a recipe; `more` holds those that are folded away."""

    changed = Signal()
    done = Signal(Edit)
    """Patches were kept or rejected by hand."""

    def __init__(self) -> None:
        self.patches = PatchesSection()
        self.strategy, self.channels = StrategySection(), ChannelsSection()
        self.pixel_size = PixelSizeSection()
        self.region, self.annotations = RegionSection(), AnnotationsSection()
        self.filters = FiltersSection()
        self._offered: SourceInfo | None = None
        self.overrides: tuple[Override, ...] = ()
        """The patches that are kept or rejected by hand."""
        self.split, self.pairs, self.output = SplitSection(), PairsSection(), OutputSection()
        self._sections: dict[str, Section] = {
            "Strategy": self.strategy,
            "Channels": self.channels,
            "Pixel size": self.pixel_size,
            "Region": self.region,
            "Annotations": self.annotations,
            "Filters": self.filters,
            "Split": self.split,
            "Target and labels": self.pairs,
            "Output": self.output,
        }
        self.folds = {title: Fold(title, each.native) for title, each in self._sections.items()}
        self.more = Fold("More options", _column(list(self.folds.values())))
        self.pixel_size.changed.connect(self._fit)
        self.annotations.listed.connect(self._on_classes)
        for section in (self.patches, *self._sections.values()):
            section.changed.connect(self._on_change)
        self._show()

    def recipe(self, region: Region | None) -> Recipe:
        """Return the recipe that the form describes.

        Raises
        ------
        ArgumentError, ValidationError
            If a value is wrong, or values do not fit each other; the message names the section.
        """
        for title, section in self._sections.items():
            with blaming_section(title):
                check_numbers(section.native)
        with blaming_section("Pixel size"):
            pixel_size = self.pixel_size.value
        with blaming_section("Channels"):
            channels = self.channels.value
        with blaming_section("Filters"):
            self.filters.offer(self.channels.offered, self.channels.ticked)
            filters = self.filters.value
            if self.channels.boxes:
                for each in filters:
                    each.columns(self.channels.names, self.channels.unticked)
        with blaming_section("Split"):
            split = self.split.value
        return Recipe.model_validate(
            {
                "strategy": self._strategy(region),
                "depth_axis": self.patches.depth_axis.value,
                "channels": channels,
                "pixel_size": pixel_size,
                "filters": filters,
                "keep_fraction": self.filters.keep_fraction,
                "dedupe": self.filters.dedupe,
                "overrides": self.overrides,
                "split": split,
                **self.output.value,
            }
        )

    def offer(self, info: SourceInfo, channels: Sequence[tuple[str, str]]) -> None:
        """Offer a scene's depth axes, sizes, ranges, and channels by name and colour."""
        with self.changed.blocked():
            self._offered = info
            self._fit()
            self.region.offer(extents(info))
            self.channels.offer(channels)
            self.filters.offer([name for name, _ in channels])
            self.filters.colors = dict(channels)
        self._show()

    def show_hidden(self, channels: set[int]) -> None:
        """Show which channels are hidden in the viewer."""
        self.channels.set_hidden(channels)
        self._show()

    def decide(self, overrides: tuple[Override, ...]) -> None:
        """Keep and reject patches by hand."""
        what = "patches kept or rejected"
        self.done.emit(Edit(what, lambda: self.overrides, self._set_overrides, self.overrides))
        self._set_overrides(overrides)

    def _set_overrides(self, overrides: tuple[Override, ...]) -> None:
        self.overrides = overrides
        self._on_change()

    def load(self, recipe: Recipe) -> None:
        """Set every section from a recipe, but for the region: that is a layer."""
        strategy = recipe.strategy
        size, overlap = (getattr(strategy, name, ()) for name in ("size", "overlap"))
        self.overrides = recipe.overrides
        with self.changed.blocked():
            self.pixel_size.load(recipe.pixel_size)
            self.patches.load(recipe.depth_axis, size, overlap or (0,) * len(size))
            self.strategy.load(strategy)
            self.channels.load(recipe.channels)
            self.region.load(strategy.select, strategy.min_inside)
            self.annotations.load(strategy.region_classes, strategy.exclude_classes)
            self.filters.offer(self.channels.offered, self.channels.ticked)
            self.filters.load(recipe.filters, recipe.keep_fraction, recipe.dedupe)
            self.split.load(recipe.split)
            self.output.load(recipe)
        self._on_change()

    def _strategy(self, region: Region | None) -> dict[str, Any]:
        fields = self.strategy.value
        for name, row in (("size", self.patches.size), ("overlap", self.patches.overlap)):
            if name in STRATEGIES[fields["kind"]].model_fields:
                with blaming_section(row.label):
                    fields[name] = row.value
        return {
            **fields,
            "region": region,
            "select": self.region.select,
            "min_inside": self.region.inside.fraction,
            "region_classes": self.annotations.region_classes,
            "exclude_classes": self.annotations.exclude_classes,
        }

    def _fit(self) -> None:
        """Show sizes in the chosen unit, limited to the extent of the image in made pixels."""
        info = self._offered
        own, made = info.pixel_size if info else PixelSize(), None
        with suppress(ArgumentError):  # planning says so
            made = self.pixel_size.value
        pixel_size = own if made is None else made.model_copy(update={"z": own.z})
        with self.changed.blocked():
            self.patches.set_unit(self.pixel_size.unit_of_sizes, pixel_size)
            if info is not None:
                self.patches.fit(_extent(info, pixel_size), pixel_size)

    def turn_to(self, image: Path | None, is_alone: bool) -> None:
        """Take what belongs to the classes of an image, and none of what belongs to others."""
        self.strategy.turn_to(image, is_alone)
        self.annotations.turn_to(image, is_alone)
        self.channels.turn_to_other_image()
        self.reset_inside()

    @property
    def notices(self) -> list[str]:
        """What of the form means something else in this image than in the one before."""
        return [*self.channels.notices, *self.filters.notices]

    def reset_inside(self) -> None:
        """Have patches lie wholly inside of what comes next, if they lie inside of nothing now."""
        self._show()
        if not self.region.is_limited:
            with self.changed.blocked():
                self.region.inside.load(1)

    def expect_other_classes(self) -> None:
        """Have the classes of outlines to come replace those of former ones."""
        self.annotations.expect_others()
        self.strategy.expect_other_classes()

    def _on_classes(self) -> None:
        # Patches can't be drawn from a class that has no outline yet.
        has_outlines = (each for each in self.annotations.classes if each.n_outlines != 0)
        self.strategy.offer_classes([each.name for each in has_outlines])
        self.split.offer(ANNOTATION, self.annotations.outlines.value is not None)
        self._show()

    def _on_change(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        kind = self.strategy.kind.value
        self.region.has_classes = bool(
            self.annotations.region_classes or self.annotations.exclude_classes
        )
        self.patches.show_fields(kind != "whole", kind == "tiled")
        for title, section in self._sections.items():
            self.folds[title].sum_up(section.summary)


@contextmanager
def blaming_section(title: str) -> Iterator[None]:
    """Name the section of the form in the error."""
    try:
        yield
    except ArgumentError as error:
        raise type(error)(f"{title}: {error}") from None


def _extent(info: SourceInfo, pixel_size: PixelSize) -> dict[str, int]:
    """Return the pixels of an image by axis, once it has another pixel size."""
    extent, own = dict(info.layout.sizes), info.pixel_size
    for axis, was, made in (("Y", own.y, pixel_size.y), ("X", own.x, pixel_size.x)):
        if was and made:
            extent[axis] = max(1, int(extent[axis] * was / made + 1e-6))
    return extent


def _column(widgets: Sequence[QWidget]) -> QWidget:
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    for widget in widgets:
        layout.addWidget(widget)
    return column
