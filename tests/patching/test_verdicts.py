"""Verdicts: which candidates are kept, in which split, and why others are rejected."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.split import NO_SPLIT, Split
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patching.verdicts import (
    ACROSS_SPLITS,
    Verdicts,
    judge,
    otsu_threshold,
    resolve_limit,
)
from napari_patchset.source import SourceInfo
from support.strategy_makers import source

IMAGE = SourceInfo(key="k", axes="CYX", shape=(2, 512, 512), dtype="uint8", channels=("a", "b"))


def grid_of(sources: list[SourceInfo], overlap: int = 0) -> PatchGrid:
    return Tiled(size=(64, 64), overlap=(overlap, overlap)).plan(sources)


def judged(*texts: str, keep: float = 0, **metrics: object) -> Verdicts:
    """Judge four patches of two channels."""
    filters = [parse_filter(text) for text in texts]
    values = {name: np.array(column, float) for name, column in metrics.items()}
    return judge(grid_of([IMAGE])[:4], [IMAGE], filters=filters, keep_fraction=keep, metrics=values)


def test_without_filters_and_split_all_are_kept_in_one_group() -> None:
    verdicts = judge(grid_of([IMAGE]), [IMAGE])
    assert verdicts.kept.all()
    assert verdicts.splits == ("all",)
    assert not verdicts.split.any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("std>5", [0, -1, -1, -1]),
        ("std[all]>5", [0, 0, -1, -1]),
        ("std[b]>5", [0, 0, -1, -1]),
        ("std[a,1]>5", [0, -1, -1, -1]),
        ("5<std[a]<8", [0, -1, 0, -1]),
        ("std[a]<p50", [-1, 0, 0, -1]),
        ("std[a]>otsu", [0, -1, -1, -1]),
    ],
)
def test_a_patch_passes_by_any_or_all_of_its_channels(text: str, reason: list[int]) -> None:
    verdicts = judged(text, std_a=[1, 6, 9, np.nan], std_b=[2, 3, 8, np.nan])
    assert verdicts.reason.tolist() == reason
    assert verdicts.reasons == (text, ACROSS_SPLITS)
    assert list(verdicts.metrics) == ["std_a", "std_b"]


def test_a_channel_that_is_not_finite_fails_and_another_of_its_patch_may_pass() -> None:
    metrics = {"std_a": [-np.inf, 6, 6, 6], "std_b": [8, -np.inf, 8, 8]}
    assert judged("std>5", **metrics).kept.all()
    assert judged("std[all]>5", **metrics).reason.tolist() == [0, 0, -1, -1]
    assert judged("std[a]>5", **metrics).reason.tolist() == [0, -1, -1, -1]


def test_the_first_filter_that_fails_is_the_reason() -> None:
    verdicts = judged("std[a]>5", "max[a]<9", "mask>0.5", std_a=[1, 6, 1, 6], max_a=[1, 9, 10, 3])
    assert verdicts.reason.tolist() == [0, 1, 0, -1]


def test_a_patch_that_can_not_be_measured_fails() -> None:
    assert judged("std[a]<5", std_a=[-np.inf, 1, 1, 1]).reason.tolist() == [0, -1, -1, -1]


def test_resolved_limits_are_recorded() -> None:
    verdicts = judged("p25<std[a]<p75", "std[a]>1.5", "max<otsu", std_a=[0, 1, 2, 3])
    assert verdicts.limits == {"std_a": {"p25": 0.75, "p75": 2.25}}
    assert verdicts.reason.tolist() == [0, 1, -1, 0]


def test_a_fraction_of_the_rejected_is_kept_whatever_their_order() -> None:
    sources = [source(1, 1, 3200, 3200, key=key) for key in "ab"]
    grid = grid_of(sources)
    how = {"filters": [parse_filter("std>5")], "keep_fraction": 0.2}
    kept = judge(grid, sources, metrics={"std_a": np.zeros(5000)}, **how).kept
    assert 850 < kept.sum() < 1150
    again = judge(grid_of(sources[::-1]), sources[::-1], metrics={"std_a": np.zeros(5000)}, **how)
    np.testing.assert_array_equal(again.kept, np.roll(kept, 2500))
    all_kept = judge(grid, sources, metrics={"std_a": np.zeros(5000)}, **how | {"keep_fraction": 1})
    assert all_kept.kept.all()


@pytest.mark.parametrize("keep", [0, 1])
def test_candidates_that_pass_are_split(keep: int) -> None:
    image = [source(1, 1, 1024, 1024)]
    grid = grid_of(image, overlap=16)
    metrics = {"std_a": np.where(grid.start[:, 0] < 600, 0.0, 9.0)}
    how = {"filters": [parse_filter("std>5")], "keep_fraction": keep, "split": Split(val=0.2)}
    verdicts = judge(grid, image, metrics=metrics, **how)
    assert verdicts.splits == ("train", "val")
    assert 0.1 < verdicts.split[verdicts.kept].mean() < 0.3
    np.testing.assert_array_equal(verdicts.split == NO_SPLIT, ~verdicts.kept)
    counts = Counter(verdicts.reasons[i] for i in verdicts.reason if i >= 0)
    assert counts["std>5"] == (0 if keep else (metrics["std_a"] == 0).sum())
    assert 0 < counts[ACROSS_SPLITS] < 0.3 * verdicts.kept.sum()


def test_no_candidate_left_needs_no_split() -> None:
    filters = [parse_filter("mask>1")]
    image, metrics = [IMAGE], {"mask": np.zeros(64)}
    verdicts = judge(grid_of(image), image, filters=filters, metrics=metrics, split=Split(val=0.1))
    assert not verdicts.kept.any()


def test_a_channel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no channel 'c'"):
        judged("std[c]>5")


def test_a_million_patches_are_planned_and_split_in_64_mb() -> None:
    image = [source(1, 1, 48000, 48000)]
    tracemalloc.start()
    try:
        verdicts = judge(grid_of(image, overlap=16), image, split=Split(val=0.1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(verdicts.split) == 1_000_000
    assert peak <= 64 * 2**20


@given(hnp.arrays(float, st.integers(2, 60), elements=st.floats(-1e6, 1e6)))
def test_otsus_threshold_separates_the_classes_best(values: np.ndarray) -> None:
    assume(np.ptp(values) > 1e-6)
    _, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    binned = centres[np.clip(np.searchsorted(edges, values, "right") - 1, 0, 255)]

    def distance(threshold: float) -> float:
        low = binned <= threshold
        return low.sum() * (~low).sum() * (binned[low].mean() - binned[~low].mean()) ** 2

    best = max(distance(centre) for centre in centres[:-1])
    assert distance(otsu_threshold(values)) >= best * (1 - 1e-9)


def test_otsus_threshold_equals_scikit_images() -> None:
    skimage = pytest.importorskip("skimage.filters")
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(10, 3, 500), random.normal(40, 9, 200)])
    assert otsu_threshold(values) == pytest.approx(skimage.threshold_otsu(values), rel=1e-12)


@pytest.mark.parametrize("values", [[3.0, 3.0], [5e-324, 0.0], [1e9, 1e9 + 1e-7]])
def test_otsus_threshold_of_values_that_hardly_differ_is_the_least(values: list[float]) -> None:
    assert otsu_threshold(np.array(values)) == min(values)


def test_otsu_lies_between_two_clusters() -> None:
    assert 2 <= otsu_threshold(np.array([1, 1.5, 2, 9, 9.5, 9.5])) < 9


def test_limits_of_all_candidates_ignore_those_without_a_metric() -> None:
    metric = np.array([np.nan, 1, 2, 3, -np.inf])
    assert resolve_limit("p50", metric) == 2
    assert resolve_limit(7.5, metric) == 7.5
    assert np.isnan(resolve_limit("otsu", metric[:1]))
