"""Patches that are exported or rejected by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_patchset
from napari_patchset import ExportPlan, Override, Random, Tiled
from napari_patchset.errors import SplitError
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.split import ACROSS_SPLITS, Split
from napari_patchset.patching.verdicts import BY_HAND, judge, overridden_rows
from napari_patchset.source import SourceInfo
from support.czi_maker import MakeCzi
from support.export_makers import SCENES, plan_for

IMAGES = [
    SourceInfo(
        key=key, axes="TCYX", shape=(3, 1, 64, 64), dtype="uint8", channels=("a",), scene=scene
    )
    for key, scene in (("k", 0), ("k", 1), ("other", None))
]


def grid_of(overlap: int = 0) -> PatchGrid:
    return Tiled(size=(16, 16), overlap=(overlap, overlap)).plan(IMAGES)


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.booleans()), unique_by=lambda each: each[0], max_size=9
    )
)
def test_each_override_is_found_at_its_place_and_nowhere_else(
    wanted: list[tuple[int, bool]],
) -> None:
    grid = Random(size=(16, 16), count=70, seed=3).plan(IMAGES)
    overrides = [Override.of(grid, row, IMAGES, keep) for row, keep in wanted]
    places = [(spec.source_index, spec.sample, spec.start) for spec in grid]
    rows = overridden_rows(overrides, grid, IMAGES)
    for row, (chosen, _) in zip(rows.tolist(), wanted, strict=True):
        assert places[row] == places[chosen]
    stray = Override(keep=True, source="k", scene=0, start=(1, 2))
    others = [stray, stray.model_copy(update={"source": "else", "start": grid.start[0].tolist()})]
    others.append(stray.model_copy(update={"start": (0, 0, 0)}))
    assert overridden_rows(others, grid, IMAGES).tolist() == [-1, -1, -1]


def test_the_hand_has_the_last_word_but_for_pixels_of_two_splits() -> None:
    grid = grid_of()
    std = np.arange(len(grid), dtype=float)
    filters = [parse_filter("std>99")]
    overrides = [Override.of(grid, 0, IMAGES, True), Override.of(grid, 143, IMAGES, False)]
    verdicts = judge(grid, IMAGES, filters=filters, overrides=overrides, metrics={"std_a": std})
    assert np.flatnonzero(verdicts.kept).tolist() == [0, *range(100, 143)]
    assert verdicts.reasons[verdicts.reason[143]] == BY_HAND
    assert verdicts.reasons[verdicts.reason[1]] == "std>99"

    grid = grid_of(overlap=8)
    split = Split(val=0.3, by="block")
    reasons = judge(grid, IMAGES, split=split).reason
    across = int(np.flatnonzero(reasons >= 0)[0])
    verdicts = judge(grid, IMAGES, overrides=[Override.of(grid, across, IMAGES, True)], split=split)
    assert verdicts.reasons[verdicts.reason[across]] == ACROSS_SPLITS


@settings(max_examples=30)
@given(
    st.sets(st.integers(0, 143), max_size=30),
    st.sampled_from([Split(val=0.2, by="scene"), Split(val=0.2, by="block"), Split(folds=3)]),
)
def test_rejecting_by_hand_brings_no_other_patch_into_another_split(
    rejected: set[int], split: Split
) -> None:
    grid = grid_of()
    before = judge(grid, IMAGES, split=split)
    overrides = [Override.of(grid, row, IMAGES, keep=False) for row in sorted(rejected)]
    after = judge(grid, IMAGES, overrides=overrides, split=split)
    others = [row for row in range(len(grid)) if row not in rejected]
    np.testing.assert_array_equal(after.split[others], before.split[others])
    np.testing.assert_array_equal(after.reason[others], before.reason[others])
    assert not after.kept[sorted(rejected)].any()
    if split.folds:
        assert before.fold is not None
        assert after.fold is not None
        np.testing.assert_array_equal(after.fold[others], before.fold[others])


def test_a_fold_that_is_rejected_by_hand_is_an_error() -> None:
    grid = grid_of()
    fold = judge(grid, IMAGES, split=Split(folds=3)).fold
    assert fold is not None
    rows = np.flatnonzero(fold == 2).tolist()
    overrides = [Override.of(grid, row, IMAGES, keep=False) for row in rows]
    with pytest.raises(SplitError, match=r"All patches of fold 2 are rejected by hand\. Keep"):
        judge(grid, IMAGES, overrides=overrides, split=Split(folds=3))
    assert judge(grid, IMAGES, overrides=overrides[1:], split=Split(folds=3)).fold_sizes[2] == 1


def test_an_export_repeats_what_was_decided_by_hand(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", filters=["mean>p50"])
    assert "overrides" not in plan.model_dump_json()
    with napari_patchset.export(plan) as made:
        before = made.table.to_pylist()
    kept, rejected = ([row["kept"] for row in before].index(is_in) for is_in in (True, False))
    overrides = [
        Override(
            keep=row is before[rejected],
            source=row["source"],
            scene=int(row["scene"]),
            sample=row["sample"],
            start=(row["y_start"], row["x_start"]),
        )
        for row in (before[kept], before[rejected])
    ]
    update = {"overrides": tuple(overrides), "out": str(tmp_path / "b.patches.zarr")}
    saved = plan.model_copy(update=update).model_dump_json()
    with napari_patchset.export(ExportPlan.model_validate_json(saved)) as made:
        after = made.table.to_pylist()
    assert after[kept]["reason"] == BY_HAND
    assert after[rejected]["kept"]
    others = [i for i in range(len(before)) if i not in (kept, rejected)]
    assert [after[i]["kept"] for i in others] == [before[i]["kept"] for i in others]
