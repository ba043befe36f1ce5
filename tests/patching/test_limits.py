"""Limits of filters: numbers, percentiles and Otsu's threshold."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset.patching.limits import otsu_threshold, resolve_limit


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
