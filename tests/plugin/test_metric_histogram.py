"""The histogram of a filter: counts, limits and what is rejected, and how it is drawn."""

from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QColor

from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.verdicts import judge
from napari_patchset.plugin.form.threshold import ThresholdHistogram
from napari_patchset.plugin.metric_histogram import MetricHistogram, filter_histograms
from napari_patchset.source import SourceInfo

SOURCES = [
    SourceInfo(key=key, axes="CYX", shape=(2, 90, 90), dtype="uint16", channels=("DAPI", "EGFP"))
    for key in ("a", "b")
]
N = 50
DAPI, EGFP = np.arange(2.0 * N), np.arange(2.0 * N)[::-1] / 10


def histogram(text: str, shown: int = 0, **metrics: Any) -> MetricHistogram | None:
    """Return the histogram of a filter, of 50 patches in each of two sources."""
    rule = parse_filter(text)
    start = np.zeros((2 * N, 2), np.int32)
    source = np.repeat([0, 1], N).astype(np.int32)
    grid = PatchGrid((9, 9), source, np.zeros(2 * N, np.int32), start)
    metrics = metrics or {"std_DAPI": DAPI, "std_EGFP": EGFP}
    verdicts = judge(grid, SOURCES, filters=[rule], metrics=metrics)
    (made,) = filter_histograms([rule], SOURCES, grid, verdicts, shown)
    return made


def test_it_counts_the_patches_of_the_shown_scene() -> None:
    made = histogram("std[DAPI]>20", shown=1)
    assert made is not None
    assert made.channels == ("DAPI",)
    assert made.counts[0].sum() == made.n == made.n_measured == N
    assert (made.low, made.highest) == (50, 99)
    assert made.n_rejected == 0
    first = histogram("std[DAPI]>20")
    assert first is not None
    assert first.n_rejected == 21
    assert first.summary == "rejects 21\nof 50"


def test_limits_with_a_name_are_those_of_all_scenes() -> None:
    made = histogram("5<std[DAPI]<p30")
    assert made is not None
    assert made.positions["p10"] == (pytest.approx(9.9),)
    assert set(made.positions) == {"p10", "p30", "otsu"}
    assert made.n_rejected == 6 + 50 - 30
    assert made.places("p10") == (pytest.approx(9.9 / 49, rel=0.01),)
    assert made.places(-7) == (0,)
    assert made.places(1000) == (1,)


def test_several_channels_have_one_scale_and_a_place_each() -> None:
    made = histogram("std>p10")
    assert made is not None
    assert made.channels == ("DAPI", "EGFP")
    assert [counts.sum() for counts in made.counts] == [N, N]
    assert len(made.places("p10")) == 2
    assert len(made.places(5)) == 1


def test_of_several_channels_those_are_red_that_are_rejected() -> None:
    made = histogram("std>6", std_DAPI=DAPI, std_EGFP=DAPI[::-1] / 10)  # DAPI <= 6, EGFP > 9
    assert made is not None
    assert made.n_rejected == 0
    assert not np.any(made.rejected)
    made = histogram("std[all]>6")
    assert made is not None
    assert made.n_rejected == 18  # 7 of DAPI, and 11 of EGFP
    assert [rejected.sum() for rejected in made.rejected] == [18, 18]
    assert (made.rejected[0] <= made.counts[0]).all()


@pytest.mark.parametrize("scale", [1e-9, 0.37, 1.0, 1e6])
def test_the_number_at_a_place_is_read_back_there(scale: float) -> None:
    made = histogram("std[DAPI]>20", std_DAPI=DAPI * scale)
    assert made is not None
    for place in (0.1, 0.5, 0.93):
        value = made.value_at(place)
        assert made.places(value)[0] == pytest.approx(place, abs=0.01)
        assert len(f"{value:g}") <= 8
    assert made.value_at(-1) < made.low
    assert made.value_at(2) > made.highest


def test_what_is_not_measured_or_not_finite_is_left_out() -> None:
    metric = DAPI.copy()
    metric[:10], metric[10:13] = np.nan, -np.inf
    made = histogram("std[DAPI]>20", std_DAPI=metric)
    assert made is not None
    assert made.counts[0].sum() == N - 13
    assert made.summary == "rejects 11\nof 40…"
    assert histogram("std[DAPI]>20", std_EGFP=EGFP) is None
    assert histogram("std[DAPI]>20", std_DAPI=np.full(2 * N, np.nan)) is None


def test_equal_values_have_no_place() -> None:
    made = histogram("std[DAPI]>p10", std_DAPI=np.full(2 * N, 7.0))
    assert made is not None
    assert made.is_flat
    assert made.places("p10") == made.places(7) == ()


def test_a_few_great_values_do_not_hide_the_others() -> None:
    metric = DAPI.copy()
    metric[3] = 1e9
    made = histogram("std[DAPI]>20", std_DAPI=metric)
    assert made is not None
    assert made.high < 100
    assert made.value_at(1) > 1e9
    assert made.counts[0].sum() == N


def test_a_mask_has_no_channel() -> None:
    made = histogram("mask>0.2", mask=DAPI / 100)
    assert made is not None
    assert made.channels == ("",)


def test_bars_are_as_high_as_the_root_of_the_number_and_rejected_ones_red(qtbot: QtBot) -> None:
    bars = {3: 400, 20: 100, 40: 25, 60: 1}
    counts = np.zeros(64, np.int64)
    counts[list(bars)] = list(bars.values())
    made = MetricHistogram(
        channels=("",),
        counts=(counts,),
        rejected=(np.where(np.arange(64) < 32, counts, 0),),
        low=0,
        high=64,
        highest=64,
        positions={},
        n_rejected=500,
        n_measured=526,
        n=526,
    )
    widget = ThresholdHistogram()
    qtbot.addWidget(widget)
    widget.resize(64 * 10 + 8, 240)
    widget.follow(made, {})
    widget.set_limits({"above": 32.0})
    picture = widget.grab().toImage()
    scale = picture.width() / widget.width()

    def column(i: int) -> list[QColor]:
        x = round(scale * (4 + 10 * i + 5))
        return [picture.pixelColor(x, y) for y in range(picture.height())]

    empty = column(10)
    drawn = {i: [c for c, e in zip(column(i), empty, strict=True) if c != e] for i in bars}
    highest = len(drawn[3])
    assert highest > 150
    for i, n in bars.items():
        assert len(drawn[i]) == pytest.approx(highest * (n / 400) ** 0.5, abs=2 * scale), n
    is_red = {i: c[len(c) // 2].red() > 2 * c[len(c) // 2].blue() for i, c in drawn.items()}
    assert is_red == {3: True, 20: True, 40: False, 60: False}
