"""Split: which patches train, validate and test, without a pixel in common.

A split keeps groups together: whole files, whole sites (scenes that overlap on the stage), whole
wells or animals, or blocks, rectangles that a site is cut into. `groups.assign_groups` decides by a
hash in which part each group is. A patch in blocks of several parts is in none. A column of the
samples sheet that states the split of each source, as train, val or test, is taken as it is.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from napari_patchset._model import Settings
from napari_patchset.errors import SplitError
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.groups import NO_SPLIT, TEST, TRAINING, VALIDATION, Codes
from napari_patchset.patching.splits.search import ANNOTATION, BY, MOST_LOST, SplitSearch
from napari_patchset.patching.splits.sheet_columns import (
    WELL,
    StatedSplit,
    check_values,
    list_values,
)
from napari_patchset.patching.splits.sites import Sites, find_sites
from napari_patchset.source import SourceInfo

TRAIN, VAL = 0, 1
"""The codes of the parts of a split without folds and test set."""

ALL = ("all",)
"""The names if nothing is split."""

ACROSS_SPLITS = "across the border of train and val"
"""The reason of a candidate that shares pixels with both splits."""

ACROSS_PARTS = "across the border of two splits"
"""The same where there is a test set or folds."""

_MAX_RATIO = 1.5


class Split(Settings):
    """Split patches into training, validation and test patches that share no pixel.

    All T, Z and channels of one place are in one split. What a group is for is decided by a hash of
    the seed and the source's key, scene and block, or the value in the samples sheet. The column
    `split` of a sheet, or another one whose values are all train, val or test (or training, valid,
    validation), is a stated split: it is named as `by`, without shares or folds, and taken as it
    is.

    Parameters
    ----------
    val : float or None
        The share of patches that validate, above 0 and below 1. Groups stay whole: of two files,
        one validates. See `remark`.
    by : str
        The groups that stay together: "file"; "scene", those that overlap on the stage as one;
        "block" of the plane, where a patch across the border of two splits is in neither;
        "annotation", blocks that are joined where patches touch one outline; "well" of
        plates, of the same name on all of them; or a column of the samples sheet, such as "animal",
        or one that states the split of each source.
        "auto" takes the first of files, scenes and blocks that comes near to the shares.
    seed : int
        Another seed chooses other groups.
    test : float or None
        The share of patches held back for a test. They are the same whatever `val` is,
        and with folds.
    folds : int or None
        Number of folds for a cross-validation, instead of `val`: each of them validates once, see
        `PatchSet.fold`.
    stratify : str or None
        A column of the samples sheet whose values have the same shares in every split, as nearly as
        whole groups allow.
    """

    val: float | None = Field(
        default=None, gt=0, lt=1, description="Approximate share of patches for validation."
    )
    by: str = Field(
        default="auto",
        min_length=1,
        description="What stays in one split as a whole: each file, scene, block of the image, "
        "annotation or well, or what has one value in a column of the samples sheet; auto takes "
        "the first of file, scene and block that comes near to the shares. A column whose values "
        "are all train, val or test states the split, without shares or folds.",
    )
    seed: int = Field(default=0, description="Random seed of the split.")
    test: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Approximate share of patches held back for a test.",
        exclude_if=lambda value: value is None,
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="Number of parts (folds) for a cross-validation: each is the validation once.",
        exclude_if=lambda value: value is None,
    )
    stratify: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the samples sheet whose values have the same shares in each split.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self._has_shares and self.by in BY:
            raise ValueError("a split needs a share for validation or for a test, or folds")
        if self.val is not None and self.folds is not None:
            raise ValueError(
                "val and folds exclude each other, as each fold validates once; omit val or folds"
            )
        if (self.val or 0) + (self.test or 0) >= 1:
            raise ValueError(
                f"{self.val} of the patches for validation and {self.test} for a test leave none "
                "to train"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the splits that there are shares for: "train", perhaps "val" and "test"."""
        shares = {TRAINING: True, VALIDATION: self.val, TEST: self.test}
        return tuple(name for name, share in shares.items() if share)

    def names_in(self, sources: Sequence[SourceInfo]) -> tuple[str, ...]:
        """Return the names of the splits, by code: those that the sources state, or `names`."""
        stated = self._stated(sources)
        return stated.names if stated else self.names

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the samples sheet, "well" among them, that the split reads."""
        named = [] if self.by in BY and self.by != WELL else [self.by]
        return tuple(dict.fromkeys([*named, *([self.stratify] if self.stratify else [])]))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that share no pixel, by code: the splits, or folds and test."""
        if self.folds is None:
            return self.names
        return (*(f"fold {i}" for i in range(self.folds)), *self.names[1:])

    @property
    def across(self) -> str:
        """The reason of a candidate that shares pixels with several parts."""
        return ACROSS_SPLITS if self.names == (TRAINING, VALIDATION) else ACROSS_PARTS

    def assign(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Codes:
        """Return the code of each patch's part, see `parts`, or `NO_SPLIT`.

        Raises
        ------
        SplitError
            If no split leaves a patch for each part, or each would leave out most patches; if a
            source lacks a value in the samples sheet; if the sheet states several splits for one
            place.
        """
        self.check_columns(sources)
        if self.by == ANNOTATION and grid.outline is None:
            raise SplitError("A split by annotation needs annotations; add outlines of them.")
        if not len(grid):
            return np.empty(0, np.int8)
        if stated := self._stated(sources):
            return stated.assign(grid)
        best = self._assign_best(grid, sources)
        n_lost = np.count_nonzero(best == NO_SPLIT)
        if n_lost > MOST_LOST * len(best):
            raise SplitError(
                f"The split would reject {n_lost} of {len(best)} patches, which lie "
                f"{self.across}. Choose smaller patches or less overlap, add sources and split by "
                "file or scene, or export without a split."
            )
        return best

    def split_of(self, part: Codes) -> Codes:
        """Return the code of each patch's split, see `names`, from that of its part."""
        if self.folds is None:
            return part
        is_test = part == self.folds
        return np.where(part == NO_SPLIT, part, is_test.astype(np.int8))

    def fold_of(self, part: Codes) -> Codes | None:
        """Return the fold of each patch, -1 if it is in none; None without folds."""
        if self.folds is None:
            return None
        return np.where(part < self.folds, part, np.int8(-1))

    def check_folds(self, part: Codes) -> None:
        """Raise SplitError if a fold has no patch left, once some were rejected by hand."""
        for fold in range(self.folds or 0):
            if not (part == fold).any():
                raise SplitError(
                    f"All patches of fold {fold} are rejected by hand. Keep some of them, or "
                    "choose fewer folds."
                )

    def remark(self, counts: Mapping[str, int], folds: Sequence[int] = ()) -> str | None:
        """Return a sentence if a part is 1.5 times larger or smaller than wanted, or a fold tiny.

        Parameters
        ----------
        counts : dict of str to int
            Patches in each split.
        folds : sequence of int
            Patches in each fold.
        """
        total = sum(counts.get(name, 0) for name in self.names)
        is_whole_image = self.by in ("file", "scene")
        remedy = "Split by block, or add sources" if is_whole_image else "Add sources"
        if self.by in ("auto", "block"):
            remedy = "Choose less overlap or smaller patches, or add scenes or files"
        why = "no closer share was found that keeps together what must stay together"
        rest = None if None in (self.val, self.test) else self._shares[0]
        for name, verb, wanted in (
            (VALIDATION, "are for validation", self.val),
            (TEST, "are for the test", self.test),
            (TRAINING, "are for training", rest),
        ):
            n = counts.get(name, 0)
            if wanted is None or not 0 < n < total:
                continue
            share = n / total
            smaller, actual = (v if wanted <= 0.5 else 1 - v for v in (wanted, share))
            if not smaller / _MAX_RATIO <= actual <= smaller * _MAX_RATIO:
                return (
                    f"{share:.0%} of the patches {verb}, not {100 * wanted:.4g}%: {why}. {remedy}."
                )
        if single := list(folds).count(1):
            return (
                f"{single} of the {len(folds)} folds have a single patch. Choose fewer folds or "
                "smaller patches, or add sources."
            )
        if folds and max(folds) > _MAX_RATIO * min(folds):
            return f"The folds have {min(folds)} to {max(folds)} patches: {why}. {remedy}."
        return None

    def check_columns(self, sources: Sequence[SourceInfo]) -> None:
        """Raise SplitError if a column lacks the value of a source, or does not fit the rest.

        A column that states the splits needs neither shares nor folds, and every other one does.
        """
        for name in self.columns:
            check_values(sources, name)
        if stated := self._stated(sources):
            others = ("val", "test", "folds", "stratify")
            stated.check({name: getattr(self, name) for name in others})
        elif not self._has_shares:
            raise SplitError(
                f"The split by {self.by} needs a share for validation or for a test, or folds. "
                "Only a column whose values are all train, val or test, train among them, needs "
                f"none; {self.by} is {list_values(sources, self.by)}."
            )

    @property
    def _has_shares(self) -> bool:
        return any(each is not None for each in (self.val, self.test, self.folds))

    def check_repeats(self, sources: Sequence[SourceInfo], repeats: Mapping[int, int]) -> None:
        """Raise SplitError if the sheet states two splits for sources that hold the same pixels.

        Parameters
        ----------
        repeats : dict of int to int
            The index of each source whose pixels are all in another one, and of that one.
        """
        if stated := self._stated(sources):
            stated.check_repeats(repeats)

    def _stated(self, sources: Sequence[SourceInfo]) -> StatedSplit | None:
        """Return the split that the column of the sheet states; None if none does."""
        return None if self.by in BY else StatedSplit.from_column(self.by, sources)

    @property
    def _shares(self) -> list[float]:
        """The wanted share of each part."""
        last = [share for share in (self.val, self.test) if share is not None]
        first = 1 - sum(last)
        return [first / (self.folds or 1)] * (self.folds or 1) + last

    def _assign_best(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> Codes:
        """Return the codes of the best split; raise SplitError if none is possible.

        The test patches are chosen first, as if there were nothing else to choose, and the rest is
        split then: by the same groups if that is good, else by others.
        """
        sites = find_sites(sources)
        search = self._search(sources, sites)
        if self.test is None or len(self.parts) == 2:
            _, codes = search.choose(grid, search.groupings(grid.size))
            if codes is None:
                raise SplitError(self._impossible(grid, sources))
            return codes
        alone = self.model_copy(update={"val": None, "folds": None})._search(sources, sites)
        grouping, chosen = alone.choose(grid, alone.groupings(grid.size))
        if grouping is None or chosen is None:
            raise SplitError(self._impossible(grid, sources))
        _, codes = search.choose(grid, chain([grouping], search.groupings(grid.size)), chosen)
        if codes is None:
            raise SplitError(
                f"{self._impossible(grid, sources)} The test set, which is the same whatever the "
                "rest is for, comes first; a smaller one may leave enough."
            )
        return codes

    def _search(self, sources: Sequence[SourceInfo], sites: Sites) -> SplitSearch:
        return SplitSearch(
            sources,
            sites,
            by=self.by,
            shares=tuple(self._shares),
            folds=self.folds or 1,
            stratify=self.stratify,
            seed=self.seed,
            # Beside a test, the rest may have to be split once more, which changes nothing of it.
            spare=int(self.names == (TRAINING, TEST) and self.folds is None),
        )

    def _impossible(self, grid: PatchGrid, sources: Sequence[SourceInfo]) -> str:
        n = len(self.parts)
        least = {2: "two", 3: "three"}.get(n, str(n))
        into = f" into {self.folds} folds" if self.folds else ""
        if self.folds and TEST in self.names:
            into += " and a test set"
        fewer, smaller = (", choose fewer folds", "fewer folds or ") if self.folds else ("", "")
        if self.by == "file":
            return (
                f"Splitting by file{into} needs patches in at least {least} files. Add "
                f"files{fewer}, or split by block."
            )
        if self.by == "scene":
            return (
                f"Splitting by scene{into} needs patches in at least {least} scenes that do not "
                f"overlap on the stage. Add scenes{fewer}, or split by block."
            )
        if self.by in self.columns:
            with_patches = [sources[i] for i in np.unique(grid.source_index).tolist()]
            return (
                f"Splitting by {self.by}{into} needs patches in at least {least} groups that do "
                f"not overlap on the stage; {self.by} is {list_values(with_patches, self.by)}. Add "
                f"sources{fewer}, or split by something else."
            )
        if self.by == ANNOTATION:
            return (
                f"Splitting by annotation{into} needs patches at {least} or more places that no "
                "outlines join, those that overlap or are touched by one patch. Choose "
                f"{smaller}smaller patches, add sources, or split by block."
            )
        places = "two or more" if n == 2 else f"{least} or more"
        by = "" if self.by == "auto" else f" by {self.by}"
        return (
            f"Splitting{by}{into} needs patches at {places} places that do not overlap. "
            f"Choose {smaller}smaller patches, add sources, or export without a split."
        )
