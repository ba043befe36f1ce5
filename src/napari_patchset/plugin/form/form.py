"""The whole form: a recipe out of its parts, and a recipe into them."""

from collections.abc import Mapping, Sequence
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_patchset.axes import DepthAxis
from napari_patchset.exporting.plan import Recipe
from napari_patchset.patching.regions import Region
from napari_patchset.plugin.form.filters import FiltersSection
from napari_patchset.plugin.form.output import OutputSection, SplitSection
from napari_patchset.plugin.form.patches import ChannelsSection, PatchesSection
from napari_patchset.plugin.form.rows import Fold, Part
from napari_patchset.plugin.form.source import PairsSection
from napari_patchset.plugin.form.strategy import StrategySection
from napari_patchset.plugin.form.where import Extent, RegionSection


class RecipeForm:
    """The parts of the form that make a recipe; `more` holds those that are folded away."""

    changed = Signal()

    def __init__(self) -> None:
        self.patches = PatchesSection()
        self.strategy, self.channels, self.where = (
            StrategySection(),
            ChannelsSection(),
            RegionSection(),
        )
        self.filters, self.split = FiltersSection(), SplitSection()
        self.pairs, self.output = PairsSection(), OutputSection()
        self.folds = self._folds()
        self.more = Fold("More", _column(list(self.folds.values())), "Everything else.")
        for part in (self.patches, *self._parts.values()):
            part.changed.connect(self._on_change)
        self._show()

    @property
    def _parts(self) -> dict[str, Part]:
        return {
            "Strategy": self.strategy,
            "Channels": self.channels,
            "Where": self.where,
            "Filters": self.filters,
            "Split": self.split,
            "Target and labels": self.pairs,
            "Output": self.output,
        }

    def recipe(self, region: Region | None) -> Recipe:
        """Give the recipe that the form describes.

        Raises
        ------
        ArgumentError, ValidationError
            If the values do not fit each other.
        """
        return Recipe.model_validate(
            {
                "strategy": self._strategy(region),
                "depth_axis": self.patches.depth_axis.value,
                "channels": self.channels.value,
                "filters": self.filters.value,
                "keep_fraction": self.filters.keep_fraction,
                "split": self.split.value,
                **self.output.value,
            }
        )

    def offer(
        self,
        depth_reasons: dict[DepthAxis, str],
        extents: Mapping[str, Extent],
        channels: Sequence[tuple[str, str]],
    ) -> None:
        """Offer what a scene has: depth axes, ranges, and channels by name and colour."""
        with self.changed.blocked():
            self.patches.offer_depth_axes(depth_reasons)
            self.where.offer(extents)
            self.channels.offer(channels)
            self.filters.offer([name for name, _ in channels])
        self._show()

    def load(self, recipe: Recipe) -> None:
        """Set every part from a recipe; its region is a layer's matter."""
        strategy = recipe.strategy
        with self.changed.blocked():
            self.patches.depth_axis.value = recipe.depth_axis
            self.patches.size.load(getattr(strategy, "size", ()))
            self.patches.overlap.load(getattr(strategy, "overlap", ()))
            self.strategy.load(strategy)
            self.channels.load(recipe.channels)
            self.where.load(strategy.select)
            self.filters.load(recipe.filters, recipe.keep_fraction)
            self.split.load(recipe.split)
            self.output.load(recipe)
        self._on_change()

    def _strategy(self, region: Region | None) -> dict[str, Any]:
        depth, n = self.patches.depth_axis.value, 2
        if depth != "none":
            n = 3
        fields = self.strategy.value
        if fields["kind"] != "whole":
            fields["size"] = self.patches.size.value[-n:]
        if fields["kind"] == "tiled":
            fields["overlap"] = self.patches.overlap.value[-n:]
        return {**fields, "region": region, "select": self.where.select}

    def _folds(self) -> dict[str, Fold]:
        return {title: Fold(title, part.native) for title, part in self._parts.items()}

    def _on_change(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        kind = self.strategy.kind.value
        self.patches.show_fields(kind != "whole", kind == "tiled")
        for title, part in self._parts.items():
            self.folds[title].say(part.said)


def _column(widgets: Sequence[QWidget]) -> QWidget:
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(10, 0, 0, 0)
    layout.setSpacing(2)
    for widget in widgets:
        layout.addWidget(widget)
    return column
