"""Fixed and Whole: what is refused, and what is counted."""

import pytest

from napari_patchset.errors import ArgumentError
from napari_patchset.patching.strategies import Fixed, Whole
from napari_patchset.patching.strategies.base import NOT_SELECTED, TWICE
from support.strategy_makers import source


def test_fixed_patches_that_do_not_fit_are_named() -> None:
    image = source(2, 1, 20, 30, key="k", name="image.czi")
    places = [
        {"source": "k", "sample": 0, "start": (10, 20)},
        {"source": "k", "sample": 1, "start": (11, 20)},
        {"source": "k", "sample": 2, "start": (0, 0)},
    ]
    with pytest.raises(ArgumentError, match="2 of the patches do not lie inside") as error:
        Fixed(size=(10, 10), patches=places).plan([image])
    assert "image.czi, sample 1, start (11, 20); image.czi, sample 2" in str(error.value)
    with pytest.raises(ArgumentError, match=r"none of the sources.*: x, scene 3, sample 0"):
        Fixed(size=(9, 9), patches=[{"source": "x", "scene": 3, "start": (0, 0)}]).plan([image])
    with pytest.raises(ArgumentError, match="one number per axis"):
        Fixed(size=(9, 9), patches=[{"source": "x", "start": (0, 0, 0)}])


def test_fixed_patches_listed_twice_or_not_selected_are_counted() -> None:
    places = [{"source": "k", "sample": i, "start": (0, 0)} for i in (0, 1, 1)]
    grid = Fixed(size=(9, 9), patches=places, select={"S": (1, None)}).plan([source(2, 1, 9, 9)])
    assert list(grid) == [(0, 1, (0, 0), (9, 9))]
    assert grid.excluded == {TWICE: 1, NOT_SELECTED: 1}


def test_whole_samples_of_several_shapes_are_refused() -> None:
    sources = [source(1, 1, 8, 9, name="a.czi"), source(1, 1, 8, 8, name="b.czi")]
    with pytest.raises(ArgumentError, match=r"a\.czi is 8 x 9, but b\.czi is 8 x 8"):
        Whole().plan(sources)
