"""Metrics, filters and reasons in words."""

import pytest

from napari_patchset.patching.filters.measurements import column_words, filter_words, reason_words
from napari_patchset.patching.filters.patch_filters import FILTERS, parse_filter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("std>5", "contrast > 5"),
        ("std[DAPI]>p10", "contrast of DAPI > p10"),
        ("mean[DAPI,1]<otsu", "brightness of DAPI or #1 < otsu"),
        ("0.1<focus[all DAPI,EGFP]<2.5", "0.1 < sharpness of DAPI and EGFP < 2.5"),
        ("max[all]>5", "brightest pixel of every channel > 5"),
        ("shannon(bins=64)>2", "entropy (bins=64) > 2"),
        ("share[Tumor]>0.2", "share of Tumor > 0.2"),
    ],
)
def test_a_filter_in_words(text: str, words: str) -> None:
    assert filter_words(parse_filter(text)) == words
    assert reason_words(text) == words


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("std_DAPI", "contrast of DAPI"),
        ("focus_a_b", "sharpness of a_b"),
        ("shannon(bins=64,low=0,high=9)_0", "entropy (bins=64, low=0, high=9) of 0"),
        ("mask", "mask"),
        ("rest of max_DAPI", "rest of brightest pixel of DAPI"),
        ("animal_x", "animal_x"),
    ],
)
def test_a_column_in_words(column: str, words: str) -> None:
    assert column_words(column) == words


def test_every_metric_has_a_word_and_a_meaning_of_its_own() -> None:
    words = [model.word for model in FILTERS.values()]
    assert len({*words}) == len(words)
    assert all(model.word and model.meaning for model in FILTERS.values())
    assert reason_words("by hand") == "by hand"
