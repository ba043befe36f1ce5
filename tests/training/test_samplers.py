"""Samplers: every patch once, few tiles in a window, the same in every run; weights as stated."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import (
    ExportPlan,
    LazyPatchSet,
    PatchSet,
    Split,
    TileAwareSampler,
    Tiled,
    WeightedSampler,
    export,
)
from napari_patchset.errors import ArgumentError


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[LazyPatchSet, PatchSet]:
    """Return patches of two files of 4 x 4 tiles, in folds, lazy and exported."""
    folder = tmp_path_factory.mktemp("sampled")
    for i, name in enumerate("ab"):
        pixels = np.random.default_rng(i).integers(0, 999, (128, 128), np.uint16)
        tifffile.imwrite(folder / f"{name}.tif", pixels, tile=(32, 32))
    plan = ExportPlan(
        sources=[folder / "a.tif", folder / "b.tif"],
        out=folder / "a.patches.zarr",
        strategy=Tiled(size=(8, 8)),
        filters="mean>0",
        split=Split(folds=2, by="file"),
    )
    return LazyPatchSet(plan), export(plan)


@given(st.integers(1, 5), st.integers(0, 3), st.integers(1, 40), st.integers(0, 3))
def test_ranks_take_every_patch_of_an_epoch(
    sets: tuple, world_size: int, epoch: int, window: int, seed: int
) -> None:
    train = sets[0]["train"]
    samplers = [
        TileAwareSampler(train, epoch, rank, world_size, seed=seed, window=window)
        for rank in range(world_size)
    ]
    taken = [list(sampler) for sampler in samplers]
    assert {len(each) for each in taken} == {len(samplers[0])}
    counts = Counter(chain(*taken))
    assert sorted(counts) == list(range(len(train)))
    assert sum(counts.values()) - len(train) < world_size
    assert taken == [list(sampler) for sampler in samplers]


def test_a_window_has_few_tiles_and_an_order_of_its_own(sets: tuple) -> None:
    train = sets[0]["train"]
    sampler = TileAwareSampler(train, window=4)
    order = list(sampler)
    per_window = 4 * 16  # 16 patches begin in a tile
    for first in range(0, len(order), per_window):
        assert len(set(train.tiles[order[first : first + per_window]].tolist())) == 4
    assert order != sorted(order)
    sampler.set_epoch(1)
    assert list(sampler) != order
    assert list(TileAwareSampler(train, window=4, seed=1)) != order
    assert len(set(train.tiles.tolist())) == 2 * 16


def test_folds_and_pairs_have_tiles_too(sets: tuple) -> None:
    fold = sets[0].fold(0)
    order = list(TileAwareSampler(fold["train"], window=2))
    assert sorted(order) == list(range(len(fold["train"])))
    assert list(TileAwareSampler(fold.pairs("train"), window=2)) == order
    with pytest.raises(ArgumentError, match="on disk are read one by one and have no tiles"):
        TileAwareSampler(sets[1]["train"])
    for rank in (-1, 2):
        with pytest.raises(ArgumentError, match=f"no rank {rank} of 2"):
            TileAwareSampler(sets[0]["train"], 0, rank, 2)
    with pytest.raises(ArgumentError, match="seed is 'a'; it must be an integer"):
        TileAwareSampler(sets[0]["train"], seed="a")
    for each in (sets[0], fold, sets[1]):
        with pytest.raises(ArgumentError, match="one split; choose one of 'train'"):
            TileAwareSampler(each)
    with pytest.raises(ArgumentError, match="window of 0 tiles"):
        TileAwareSampler(sets[0]["train"], window=0)


def test_patches_are_drawn_by_their_weights(sets: tuple) -> None:
    column = "x_start"  # 0, 8, ..., 120: the first column of patches is never drawn
    drawn = list(WeightedSampler(sets[0], "train", column, count=60_000))
    weights = sets[0].column(column, "train")
    expected = 60_000 * weights / weights.sum()
    counts = np.bincount(drawn, minlength=len(weights))
    assert (counts[weights == 0] == 0).all()
    assert (np.abs(counts - expected) <= 6 * np.sqrt(expected)).all()
    assert drawn == list(WeightedSampler(sets[1], "train", column, count=60_000))
    shares = [
        list(WeightedSampler(sets[1], "train", column, 60_000, rank=rank, world_size=2))
        for rank in range(2)
    ]
    assert [*chain(*shares)] == drawn
    sampler = WeightedSampler(sets[1], "train", column)
    assert len(sampler) == len(list(sampler)) == len(sets[1]["train"])
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_the_patches_of_a_fold_are_drawn_by_their_weights(sets: tuple) -> None:
    for each in sets:
        fold = each.fold(1)
        for split in ("train", "val"):
            weights = fold.column("x_start", split)
            rows = [fold.locate(i, split)[1] for i in range(len(fold[split]))]
            assert weights.tolist() == [row["x_start"] for row in rows]
            drawn = list(WeightedSampler(fold, split, "x_start", count=500))
            assert max(drawn) < len(fold[split])
            assert weights[drawn].all()
        with pytest.raises(ArgumentError, match="no split 'test' in a fold"):
            WeightedSampler(fold, "test", "x_start")


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ("weight", r"has no column 'weight'; its columns are .*x_start, .*mean_Channel 0"),
        ("source", "holds texts, not weights"),
        ("pad_y", "holds no weights: it has values from 0 to 0"),
        ("y_start_um", "patches have no y_start_um"),
    ],
)
def test_a_column_without_weights_is_refused(sets: tuple, column: str, error: str) -> None:
    for each in sets:
        with pytest.raises(ArgumentError, match=error):
            WeightedSampler(each, "train", column)


def test_a_column_follows_the_split(sets: tuple) -> None:
    lazy, patches = sets
    rows = [row for row in patches.table.to_pylist() if row["split"] == "train"]
    for name in ("x_start", "mean_Channel 0", "source"):
        assert patches.column(name, "train").tolist() == [row[name] for row in rows]
        assert lazy.column(name, "train").tolist() == [row[name] for row in rows]
    with pytest.raises(ArgumentError, match="no split 'test'"):
        patches.column("x_start", "test")
    assert Path(patches.path).exists()
