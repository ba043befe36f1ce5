"""What a gallery shows: the patches of a plan, or those of a set on disk; needs no window."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.reading.tile_reader import read_patch
from napari_patchset.patching.verdicts import Override
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.captions import metric_lines, patch_lines, place_text
from napari_patchset.plugin.layers.layer_stack import open_image
from napari_patchset.plugin.layers.patch_set import set_channels
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.preview.categories import CATEGORY_COLORS, category_of
from napari_patchset.preview.image import composite
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.metadata import Channel

RGBImage = NDArray[np.uint8]
"""YXC."""

Rows = NDArray[np.int64]

ALL = "all"


class GalleryPatches(ABC):
    """Patches by row: groups of them, metrics, words and pictures."""

    name: str
    metrics: Mapping[str, NDArray[np.float64]]
    """One value per row, by column."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def n_sources(self) -> int:
        """The number of images that the patches were cut from."""

    @property
    @abstractmethod
    def counts(self) -> dict[str, int]:
        """The number of patches in each group, all of them first."""

    @abstractmethod
    def rows(self, group: str) -> Rows:
        """Return the patches of a group."""

    @cached_property
    @abstractmethod
    def by_place(self) -> Rows:
        """All patches by scene, T, Z, Y and X."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Return where a patch lies, in short."""

    @abstractmethod
    def lines(self, row: int) -> list[str]:
        """Describe a patch."""

    @abstractmethod
    def source_name(self, row: int) -> str:
        """Return the file, and the scene, that a patch was cut from."""

    @abstractmethod
    def color(self, row: int) -> str:
        """Return the colour of a patch's frame, "#rrggbb"."""

    @abstractmethod
    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, RGBImage]]:
        """Yield pictures of patches; called in a background thread."""

    def decided(self, row: int) -> bool | None:
        """Return whether a patch is kept or rejected by hand, None for neither."""
        return None

    def sorted_rows(self, rows: Rows, by: str, seed: int = 0) -> Rows:
        """Return rows from the lowest to the highest metric, at random, or by place."""
        if by == RANDOM:
            return np.random.default_rng(seed).permutation(rows)
        if by not in self.metrics:
            is_chosen = np.zeros(len(self), bool)
            is_chosen[rows] = True
            return self.by_place[is_chosen[self.by_place]]
        return rows[np.argsort(self.metrics[by][rows], kind="stable")]


BY_PLACE, RANDOM = "place", "random"


@dataclass(eq=False)
class PlannedPatches(GalleryPatches):
    """The patches of a plan, those that are rejected too.

    Attributes
    ----------
    planned : PlanPreview
        The plan.
    channels : sequence of Channel
        The colour and contrast in which each channel of a patch is shown.
    """

    planned: PlanPreview
    channels: Sequence[Channel]

    def __post_init__(self) -> None:
        """Take the metrics, and look up what was decided by hand."""
        self.name = "the plan"
        self.metrics = self.planned.metrics
        rows = self.planned.overridden_rows.tolist()
        overrides = self.planned.state.recipe.overrides
        self._decided = {row: each.keep for row, each in zip(rows, overrides, strict=True)}

    def __len__(self) -> int:
        return len(self.planned.grid)

    @property
    def n_sources(self) -> int:
        """The number of images of the plan."""
        return len(self.planned.sources)

    @property
    def counts(self) -> dict[str, int]:
        """The number of patches in each group: splits, rejected ones, and these by reason."""
        verdicts = self.planned.verdicts
        kept = verdicts.kept
        counts = {ALL: len(self)}
        splits = np.bincount(verdicts.split[kept], minlength=len(verdicts.splits)).tolist()
        rejected = len(self) - sum(splits)
        if len(splits) > 1:
            counts |= dict(zip(verdicts.splits, splits, strict=True))
        elif rejected:
            counts["kept"] = splits[0]
        if rejected:
            counts["rejected"] = rejected
            n = np.bincount(verdicts.reason[~kept], minlength=len(verdicts.reasons)).tolist()
            reasons = {why: n for why, n in zip(verdicts.reasons, n, strict=True) if n}
            counts |= reasons if len(reasons) > 1 else {}
        return counts

    @cached_property
    def by_place(self) -> Rows:
        """All patches by scene, T, Z, Y and X."""
        grid = self.planned.grid
        starts = list(grid.start.T)
        outer = starts[:-2] if self.planned.state.recipe.depth_axis == "T" else []
        keys = [grid.source_index, *outer, grid.sample, *starts]
        return np.lexsort(keys[::-1])

    def rows(self, group: str) -> Rows:
        """Return the patches of a group."""
        verdicts = self.planned.verdicts
        if group == ALL:
            return np.arange(len(self))
        if group in ("kept", "rejected"):
            return np.flatnonzero(verdicts.kept == (group == "kept"))
        if group in verdicts.splits:
            return np.flatnonzero(verdicts.kept & (verdicts.split == verdicts.splits.index(group)))
        codes = [i for i, reason in enumerate(verdicts.reasons) if reason == group]
        return np.flatnonzero(np.isin(verdicts.reason, codes))

    def place(self, row: int) -> str:
        """Return where a patch lies, in short."""
        return place_text(self.planned, row)

    def lines(self, row: int) -> list[str]:
        """Describe a patch."""
        return patch_lines(self.planned, row)

    def source_name(self, row: int) -> str:
        """Return the file, and the scene, that a patch was cut from."""
        return self.planned.state.names[int(self.planned.grid.source_index[row])]

    def color(self, row: int) -> str:
        """Return the colour of a patch's category."""
        category, colors = self.planned.drawn
        return colors[int(category[row])]

    def decided(self, row: int) -> bool | None:
        """Return whether a patch is kept or rejected by hand, None for neither."""
        return self._decided.get(row)

    def decide(self, rows: Sequence[int], keep: bool | None) -> tuple[Override, ...]:
        """Return the overrides of the plan with those of some patches changed, None for none."""
        planned = self.planned
        changed = [Override.of(planned.grid, row, planned.sources, bool(keep)) for row in rows]
        places = {each.place for each in changed}
        others = [each for each in planned.state.recipe.overrides if each.place not in places]
        return (*others, *([] if keep is None else changed))

    def read(self, rows: Sequence[int], depth: int | None = None) -> Iterator[tuple[int, RGBImage]]:
        """Yield patches at full resolution, as an export reads them.

        `depth` is the plane of the image to show of a volume; None for the middle of each.
        """
        planned = self.planned
        with OpenImages(planned.state.preview_plan(), open_image) as sources:
            for row in rows:
                spec = planned.grid[int(row)]
                stack, chosen, _ = sources[spec.source_index, IMAGE]
                patch = read_patch(stack, chosen, spec, planned.state.recipe.strategy.padding)
                at = None if depth is None else depth - spec.start[0]
                yield row, _picture(patch, self.channels, at)


@dataclass(eq=False)
class SetPatches(GalleryPatches):
    """The patches of a set on disk, each with its split and its index there.

    The set is open only while it is read, so that an export can replace it.
    """

    path: Path
    manifest: Manifest
    names: tuple[str, ...]
    """The file, and the scene, of each source."""
    splits: tuple[str, ...]
    channels: Sequence[Channel]
    split: NDArray[np.int8]
    index: NDArray[np.int64]
    places: Mapping[str, NDArray[np.int64]]
    metrics: Mapping[str, NDArray[np.float64]]

    @classmethod
    def open(cls, path: Path) -> "SetPatches":
        """Read the table of a set; call it in a background thread.

        Raises
        ------
        ArgumentError
            If it holds no pixels.
        """
        with PatchSet(path) as patch_set:
            if not patch_set:
                raise ArgumentError(f"{path} holds coordinates only, no pixels to show.")
            names = tuple(map(_name_of, patch_set.provenance.sources))
            return cls(path, patch_set.manifest, names, patch_set.splits, *_read_table(patch_set))

    def __post_init__(self) -> None:
        """Name the set."""
        self.name = self.path.name

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_sources(self) -> int:
        """The number of images that the patches were cut from."""
        return len(self.manifest.sources)

    @property
    def counts(self) -> dict[str, int]:
        """The number of patches in each split."""
        n = np.bincount(self.split, minlength=len(self.splits)).tolist()
        of_splits = dict(zip(self.splits, n, strict=True))
        return {ALL: len(self), **(of_splits if len(n) > 1 else {})}

    @cached_property
    def by_place(self) -> Rows:
        """All patches by scene, T, Z, Y and X."""
        by_axis = sorted(self.places, key=list(_PLACES).index)
        return np.lexsort([self.places[name] for name in reversed(by_axis)])

    def rows(self, group: str) -> Rows:
        """Return the patches of a split."""
        if group not in self.splits:
            return np.arange(len(self))
        return np.flatnonzero(self.split == self.splits.index(group))

    def place(self, row: int) -> str:
        """Return where a patch lies, in short."""
        place = {_PLACES[name]: values[row] for name, values in self.places.items()}
        return " ".join(f"{axis}{n}" for axis, n in place.items() if axis and n >= 0)

    def source_place(self, row: int) -> tuple[SourceInfo, int, tuple[int, ...]]:
        """Return the source of a patch, its sample, and its start along (Z)YX."""
        source = self.manifest.sources[self.places["source_index"][row]]
        starts = (f"{axis.lower()}_start" for axis in source.layout.spatial_axes)
        start = tuple(int(self.places[name][row]) for name in starts)
        return source, int(self.places["sample"][row]), start

    def lines(self, row: int) -> list[str]:
        """Describe a patch."""
        image = self.manifest.arrays[f"{self._split(row)}/{IMAGE}"]
        size = " × ".join(map(str, image.shape[2:]))
        metrics = metric_lines({name: values[row] for name, values in self.metrics.items()})
        split = f": {self._split(row)}" if len(self.splits) > 1 else ""
        lines = [f"Patch {self.index[row]:,}{split}", self.place(row), f"{size} px", *metrics]
        if self.n_sources > 1:
            lines.insert(1, self.source_name(row))
        return lines

    def source_name(self, row: int) -> str:
        """Return the file, and the scene, that a patch was cut from."""
        return self.names[int(self.places["source_index"][row])]

    def color(self, row: int) -> str:
        """Return the colour of a patch's split."""
        return CATEGORY_COLORS[category_of(self._split(row))]

    def read(self, rows: Sequence[int]) -> Iterator[tuple[int, RGBImage]]:
        """Yield pictures of patches.

        Raises
        ------
        ArgumentError
            If another set has taken its name.
        """
        with PatchSet(self.path) as patch_set:
            if patch_set.manifest != self.manifest:
                raise ArgumentError(f"{self.name} was replaced; open it again.")
            for row in rows:
                patch = patch_set[self._split(row)][int(self.index[row])]
                yield row, _picture(patch, self.channels)

    def _split(self, row: int) -> str:
        return self.splits[int(self.split[row])]


def _name_of(source: Mapping[str, Any]) -> str:
    """Return the file and scene of a source as it is recorded: "cells.czi, scene 3"."""
    scene = source.get("scene")
    name = Path(str(source["path"])).name
    return name if scene is None else f"{name}, scene {scene}"


def _read_table(patch_set: PatchSet) -> tuple[Any, ...]:
    """Return the channels, and the split, index, places and metrics of the patches in the set."""
    splits = list(patch_set.splits)
    columns: dict[str, list[NDArray[Any]]] = {}
    for part in patch_set.table_parts():
        names = part.schema.names
        measured = names[names.index("reason") + 1 : names.index("checksum")]
        metrics = [name for name in measured if pa.types.is_floating(part.schema.field(name).type)]
        written = part.filter(part["kept"])
        for name in ("index", *_PLACES, *metrics):
            if name in names:
                kind = float if name in metrics else np.int64
                values = written[name].fill_null(-1 if kind is not float else np.nan)
                columns.setdefault(name, []).append(values.to_numpy().astype(kind))
        split = np.array([splits.index(s) for s in written["split"].to_pylist()], np.int8)
        columns.setdefault("split", []).append(split)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    split, index = whole.pop("split"), whole.pop("index")
    places = {name: whole.pop(name) for name in _PLACES if name in whole}
    return set_channels(patch_set), split, index, places, whole


_PLACES = {
    "source_index": "",
    "t": "t",
    "t_start": "t",
    "sample": "",
    "z": "z",
    "z_start": "z",
    "y_start": "y",
    "x_start": "x",
}
"""The axes of the columns of the table that tell where a patch lies, the outer ones first."""


def _picture(
    patch: NDArray[Any], channels: Sequence[Channel], depth: int | None = None
) -> RGBImage:
    """Return a patch, C(Z)YX, as RGB; of a volume the plane at a depth, the middle for None."""
    if patch.ndim == 4:
        patch = patch[:, patch.shape[1] // 2 if depth is None else depth]
    return composite(patch, channels)
