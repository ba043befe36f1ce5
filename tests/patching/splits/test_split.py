"""The split: no pixel in common, the wanted share, whatever the order of the sources."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import list_scenes, open_stack
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid, axis_padding_indices
from napari_patchset.patching.splits.groups import NO_SPLIT, _exchange_groups
from napari_patchset.patching.splits.sheet_columns import value_of
from napari_patchset.patching.splits.sites import find_sites
from napari_patchset.patching.splits.split import TRAIN, VAL, Split
from napari_patchset.patching.strategies import Random, Stratified, Tiled, Whole
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.metadata import describe
from napari_patchset.verification.check_split import find_leak
from support.strategy_makers import cases, every_strategy, make_strategy, plan, source

KINDS = ("auto", "file", "scene", "block")
SHEET = ("animal", "well")


@st.composite
def splits(draw: st.DrawFn, kinds: Sequence[str] = (*KINDS, *SHEET)) -> Split:
    """Draw a split of every kind: shares for validation and for a test, or folds."""
    test = draw(st.none() | st.floats(0.05, 0.4))
    folds = draw(st.none() | st.integers(2, 4))
    val = st.floats(0.05, 0.55) if test else st.floats(0.05, 0.95)
    return Split(
        val=None if folds else draw(val),
        test=test,
        folds=folds,
        by=draw(st.sampled_from(kinds)),
        seed=draw(st.integers(0, 9)),
        stratify=draw(st.none() | st.just("treatment")),
    )


def assigned(split: Split, grid: PatchGrid, sources: Sequence[SourceInfo]) -> np.ndarray | None:
    """Return the codes, or None if there is no way to split."""
    try:
        return split.assign(grid, sources)
    except ArgumentError as error:
        if "needs patches" not in str(error) and "would reject" not in str(error):
            raise
        return None


def shown_places(
    grid: PatchGrid, codes: np.ndarray, code: int, sources: Sequence[SourceInfo]
) -> set:
    """Return the places, on the stage if known, that the patches of a split show.

    Padding shows pixels of the image, as "reflect" does.
    """
    places = set()
    for spec, of in zip(grid, codes.tolist(), strict=True):
        info = sources[spec.source_index]
        left, top = info.rect[:2] if info.rect else (0, 0)
        plane = (info.key, None if info.rect else info.scene)
        if of == code:
            rows, columns = (
                (axis_padding_indices(first, size, n, "reflect") + corner).tolist()
                for first, size, n, corner in zip(
                    spec.start[-2:],
                    spec.size[-2:],
                    info.spatial_shape[-2:],
                    (top, left),
                    strict=True,
                )
            )
            places |= {(plane, i, j) for i in rows for j in columns}
    return places


@st.composite
def staged(draw: st.DrawFn) -> tuple[tuple[int, ...], list[SourceInfo]]:
    """Draw sources that may overlap on the stage, with a samples sheet."""
    size, sources = draw(cases())
    *_, height, width = sources[0].spatial_shape
    corners = st.tuples(st.integers(-50, 50), st.integers(-50, 50))
    sheet = st.fixed_dictionaries(
        {"animal": st.sampled_from("abc"), "treatment": st.sampled_from("xy")},
        optional={"well": st.sampled_from(["A1", "A2"])},
    )
    return size, [
        info.model_copy(
            update={
                "rect": Rect(*draw(corners), width, height) if draw(st.booleans()) else None,
                "columns": draw(sheet),
                "well": draw(st.sampled_from(["A1", "A2"])),
            }
        )
        for info in sources
    ]


@every_strategy
@settings(max_examples=settings.default.max_examples // 2)
@given(staged(), splits(), st.integers(0, 3))
def test_no_place_and_no_group_lies_in_two_parts(
    name: str, case: tuple, split: Split, overlap: int
) -> None:
    size, sources = case
    more = {"overlap": tuple(min(overlap, p - 1) for p in size)} if "tiled" in name else {}
    grid = plan(make_strategy(name, size, sources, **more), sources)
    codes = assigned(split, grid, sources)
    if codes is None or not len(codes):
        return
    assert set(codes.tolist()) - {NO_SPLIT} == set(range(len(split.parts)))
    places = [shown_places(grid, codes, code, sources) for code in range(len(split.parts))]
    for first, second in combinations(places, 2):
        assert not first & second
    assert find_leak(grid, codes, sources) is None
    if split.by not in ("auto", "block"):
        assert (codes != NO_SPLIT).all()
    if split.by in SHEET:
        values = [value_of(sources[i], split.by) for i in grid.source_index]
        groups = {}
        for group, code in zip(values, codes.tolist(), strict=True):
            assert groups.setdefault(group, code) == code


@pytest.mark.parametrize("by", ["auto", "block"])
def test_padding_shows_no_place_of_the_other_split(by: str) -> None:
    corners = [(0, 0), (68, 97)]
    sources = [
        source(1, 1, 117, 73, scene=i, rect=Rect(*corner, 73, 117))
        for i, corner in enumerate(corners)
    ]
    grid = Tiled(size=(24, 12), edge="pad").plan(sources)
    for seed in range(5):
        codes = assigned(Split(val=0.3, by=by, seed=seed), grid, sources)
        assert codes is not None
        assert not shown_places(grid, codes, TRAIN, sources) & shown_places(
            grid, codes, VAL, sources
        )
        assert find_leak(grid, codes, sources) is None


@every_strategy
@settings(max_examples=settings.default.max_examples // 4)
@given(staged(), splits(), st.randoms())
def test_neither_path_nor_order_of_the_sources_changes_the_split(
    name: str, case: tuple, split: Split, random: object
) -> None:
    size, sources = case
    moved = [info.model_copy(update={"name": f"elsewhere/{info.scene}"}) for info in sources]
    random.shuffle(moved)
    strategy = make_strategy(name, size, sources)
    splits_found = []
    for those in (sources, moved):
        grid = plan(strategy, those)
        codes = assigned(split, grid, those)
        scenes = [those[i].scene for i in grid.source_index]
        rows = zip(scenes, grid.sample.tolist(), grid.start.tolist(), strict=True)
        splits_found.append(codes is not None and sorted(zip(rows, codes.tolist(), strict=True)))
    assert splits_found[0] == splits_found[1]


@given(staged(), st.data())
def test_a_leak_is_found_if_there_is_one(case: tuple, data: st.DataObject) -> None:
    size, sources = case
    grid = Random(size=size, count=4).plan(sources)
    codes = data.draw(st.lists(st.integers(-1, 1), min_size=len(grid), max_size=len(grid)))
    split = np.array(codes, np.int8)
    leak = find_leak(grid, split, sources)
    train, val = (shown_places(grid, split, code, sources) for code in (TRAIN, VAL))
    assert (leak is not None) == bool(train & val)
    if leak:
        assert (split[leak.first], split[leak.second]) == (TRAIN, VAL)
        pair = grid[np.array(leak)]
        shared = [shown_places(pair, split[list(leak)], code, sources) for code in (TRAIN, VAL)]
        assert shared[0] & shared[1]


@pytest.mark.parametrize("val", [0.05, 0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("overlap", [0, 16, 32])
def test_blocks_meet_the_share_and_lose_few_patches(val: float, overlap: int) -> None:
    image = [source(2, 1, 2048, 2048)]
    grid = Tiled(size=(64, 64), overlap=(overlap, overlap)).plan(image)
    codes = Split(val=val, by="block").assign(grid, image)
    kept = codes[codes != NO_SPLIT]
    assert kept.mean() == pytest.approx(val, rel=0.2)
    assert len(codes) - len(kept) <= (0.2 * len(codes) if overlap else 0)


@pytest.mark.parametrize(
    "strategy", [Random(size=(64, 64), count=2000), Stratified(size=(64, 64))], ids=["r", "s"]
)
@pytest.mark.parametrize(("n", "most_lost"), [(512, 0.35), (1024, 0.15), (2048, 0.1)])
def test_patches_that_lie_anywhere_are_split_too(
    strategy: Random | Stratified, n: int, most_lost: float
) -> None:
    image = [source(2, 1, n, n)]
    codes = Split(val=0.1).assign(strategy.plan(image), image)
    assert np.count_nonzero(codes == NO_SPLIT) < most_lost * len(codes)
    assert 0 < codes[codes != NO_SPLIT].mean() < 0.2


def test_all_planes_of_a_place_are_in_one_split() -> None:
    series = [source(3, 1, 4, 256, 256, axes="TCZYX")]
    grid = Tiled(size=(64, 64)).plan(series)
    codes = Split(val=0.2).assign(grid, series).reshape(12, 16)
    assert (codes == codes[0]).all()


def test_another_seed_chooses_other_blocks() -> None:
    image = [source(1, 1, 1024, 1024)]
    grid = Tiled(size=(64, 64)).plan(image)
    first, second = (Split(val=0.1, seed=seed).assign(grid, image) for seed in (0, 1))
    assert (first != second).any()


def test_files_and_scenes_stay_whole() -> None:
    sources = [source(1, 1, 64, 64, key=f"{i % 5}", scene=i) for i in range(10)]
    grid = Tiled(size=(32, 32)).plan(sources)
    for by, n_val in (("file", 2), ("scene", 2), ("auto", 2)):
        codes = Split(val=0.2, by=by).assign(grid, sources).reshape(10, 4)
        assert (codes == codes[:, :1]).all()
        assert codes[:, 0].sum() == n_val
        if by != "scene":
            assert (codes[:5] == codes[5:]).all()


def files_of(sizes: Sequence[int]) -> list[SourceInfo]:
    return [source(1, 1, 4, 4 * n, key=f"file {i}") for i, n in enumerate(sizes)]


sizes_of_files = st.lists(st.integers(1, 60), min_size=2, max_size=9)


@given(sizes_of_files, st.floats(0.02, 0.98), st.integers(0, 3))
def test_no_choice_of_whole_files_comes_nearer(sizes: list[int], val: float, seed: int) -> None:
    sources = files_of(sizes)
    codes = Split(val=val, by="file", seed=seed).assign(Tiled(size=(4, 4)).plan(sources), sources)
    every = [sum(each) for n in range(1, len(sizes)) for each in combinations(sizes, n)]
    nearest = min(abs(Fraction(n, sum(sizes)) - Fraction(val)) for n in every)
    assert abs(Fraction(int((codes == VAL).sum()), sum(sizes)) - Fraction(val)) == pytest.approx(
        nearest, abs=1e-12
    )


@given(sizes_of_files, st.floats(0.02, 0.98))
def test_exchanging_groups_never_goes_further_from_the_share(sizes: list[int], val: float) -> None:
    counts, chosen = np.array(sizes), np.zeros(len(sizes), bool)
    chosen[0] = True
    target = val * sum(sizes)
    exchanged = _exchange_groups(counts, chosen, target)
    assert abs(counts[exchanged].sum() - target) <= abs(sizes[0] - target)
    assert 0 < exchanged.sum() < len(sizes)


@st.composite
def studies(draw: st.DrawFn) -> list[SourceInfo]:
    """Draw files of animals, each of one treatment."""
    treatments = draw(st.lists(st.integers(0, 2), min_size=3, max_size=14))
    sizes = st.integers(1, 30)
    return [
        source(1, 1, 4, 4 * draw(sizes), key=f"{animal} {i}", columns=columns)
        for animal, treatment in enumerate(treatments)
        for i in range(draw(st.integers(1, 3)))
        if (columns := {"animal": f"animal {animal}", "treatment": f"treatment {treatment}"})
    ]


def counts_by(column: str, split: Split, sources: list[SourceInfo]) -> tuple[np.ndarray, int]:
    """Return the patches of each part by the value of a column, and those of the largest animal."""
    grid = Tiled(size=(4, 4)).plan(sources)
    codes = split.assign(grid, sources)
    values = [info.columns.get(column, "") for info in sources]
    names = sorted(set(values))
    of_patch = np.array([names.index(value) for value in values])[grid.source_index]
    counts = np.zeros((len(names), len(split.parts)), int)
    np.add.at(counts, (of_patch, codes), 1)
    animals = [info.columns["animal"] for info in sources]
    largest = max(sum(n for n, a in zip(sizes_of(sources), animals, strict=True) if a == animal)
                  for animal in animals)  # fmt: skip
    return counts, largest


def sizes_of(sources: list[SourceInfo]) -> list[int]:
    return [info.spatial_shape[-1] // 4 for info in sources]


@given(studies(), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.booleans(), st.integers(0, 3))
def test_shares_are_within_one_group_of_those_wanted(
    sources: list[SourceInfo], val: float, test: float, stratify: bool, seed: int
) -> None:
    column = "treatment" if stratify else None
    split = Split(val=val, test=test, by="animal", stratify=column, seed=seed)
    counts, largest = counts_by(column or "", split, sources)
    total = counts.sum()
    if min(val, test, 1 - val - test) * total < largest:
        return  # each part has a group, however few are wanted
    for of_value in (counts, counts.sum(axis=0, keepdims=True)):
        n = of_value.sum(axis=1)
        assert (np.abs(of_value[:, 1] - val * n) <= largest).all()
        assert (np.abs(of_value[:, 2] - test * n) <= largest).all()


@given(studies(), st.integers(2, 5), st.booleans(), st.integers(0, 3))
def test_folds_differ_by_one_group_at_most(
    sources: list[SourceInfo], folds: int, stratify: bool, seed: int
) -> None:
    column = "treatment" if stratify else None
    split = Split(folds=folds, by="animal", stratify=column, seed=seed)
    if len({info.columns["animal"] for info in sources}) < folds:
        with pytest.raises(ArgumentError, match=f"into {folds} folds needs patches in at least"):
            counts_by("", split, sources)
        return
    counts, largest = counts_by(column or "", split, sources)
    assert counts.sum(axis=0).min() > 0
    assert (np.ptp(counts, axis=1) <= largest).all()
    assert np.ptp(counts.sum(axis=0)) <= largest


def test_the_test_set_is_the_same_whatever_the_rest_is_for() -> None:
    sources = files_of(range(1, 30))
    grid = Tiled(size=(4, 4)).plan(sources)
    tests = [
        Split(test=0.2, by="file", **rest).assign(grid, sources) == code
        for rest, code in (({}, 1), ({"val": 0.1}, 2), ({"val": 0.3}, 2), ({"folds": 4}, 4))
    ]
    assert tests[0].mean() == pytest.approx(0.2, abs=0.01)
    assert all((each == tests[0]).all() for each in tests)


@given(staged(), splits(), st.integers(0, 3), st.floats(0.05, 0.5), st.data())
def test_no_share_and_no_folds_change_the_test_set(
    case: tuple, split: Split, overlap: int, test: float, data: st.DataObject
) -> None:
    size, sources = case
    grid = Tiled(size=size, overlap=tuple(min(overlap, p - 1) for p in size)).plan(sources)
    alone = split.model_copy(update={"test": test, "val": None, "folds": None})
    rest = data.draw(
        st.fixed_dictionaries({"val": st.floats(0.05, 0.95 - test)})
        | st.fixed_dictionaries({"folds": st.integers(2, 6)})
    )
    both = alone.model_copy(update=rest)
    wanted, codes = assigned(alone, grid, sources), assigned(both, grid, sources)
    if codes is not None and len(codes):
        assert wanted is not None
        assert ((codes == len(both.parts) - 1) == (wanted == 1)).all()
        assert find_leak(grid, codes, sources) is None


def test_blocks_too_few_for_the_folds_leave_the_test_set_as_it_is() -> None:
    grid = Tiled(size=(15, 48), overlap=(5, 1), edge="drop").plan([one := source(3, 4, 128, 160)])
    split = Split(test=0.1, by="block", seed=2)
    is_test = split.assign(grid, [one]) == 1
    for rest in ({"val": 0.25}, {"folds": 2}, {"folds": 4}):
        both = split.model_copy(update=rest)
        assert ((both.assign(grid, [one]) == len(both.parts) - 1) == is_test).all()
    with pytest.raises(ArgumentError, match=r"into 9 folds and a test set needs .* a smaller one"):
        split.model_copy(update={"folds": 9}).assign(grid, [one])


def test_wells_of_one_name_are_one_group_on_all_plates() -> None:
    wells = [("p", "A1"), ("p", "A2"), ("q", "A1"), ("q", "A2")]
    sources = [source(1, 1, 4, 4, key=p, scene=i, well=w) for i, (p, w) in enumerate(wells)]
    grid = Tiled(size=(4, 4)).plan(sources)
    codes = Split(folds=2, by="well").assign(grid, sources).tolist()
    assert codes[:2] == codes[2:]
    assert sorted(codes[:2]) == [0, 1]
    sheet = [{"well": f"{plate} {well}"} for plate, well in wells]
    named = [s.model_copy(update={"columns": c}) for s, c in zip(sources, sheet, strict=True)]
    assert sorted(Split(folds=4, by="well").assign(grid, named)) == [0, 1, 2, 3]


def test_scenes_that_overlap_are_one_group_whatever_the_sheet_says() -> None:
    animals = "aabc"
    rects = [Rect(0, 0, 8, 8), Rect(50, 0, 8, 8), Rect(54, 0, 8, 8), Rect(90, 0, 8, 8)]
    sources = [
        source(1, 1, 8, 8, scene=i, rect=rect, columns={"animal": animal})
        for i, (animal, rect) in enumerate(zip(animals, rects, strict=True))
    ]
    grid = Tiled(size=(8, 8)).plan(sources)
    codes = Split(val=0.5, by="animal").assign(grid, sources)
    assert codes[0] == codes[1] == codes[2] != codes[3]


NAMES = {"train": 0, "Training ": 0, "val": 1, "VALID": 1, "vali dation": 1, "test": 2, " Test": 2}


columns_that_state = st.sampled_from(["part", "split"])


@given(st.data(), st.permutations([*NAMES]), columns_that_state, st.integers(0, 9))
def test_a_stated_split_is_the_same_in_any_order_and_by_any_seed(
    data: st.DataObject, names: list[str], column: str, seed: int
) -> None:
    names = [*names, *data.draw(st.lists(st.sampled_from([*NAMES]), max_size=5))]
    sources = [
        source(1, 1, 8, 4 * (1 + i % 3), key=str(i), columns={column: name})
        for i, name in enumerate(names)
    ]
    grid, split = Tiled(size=(4, 4)).plan(sources), Split(by=column, seed=seed)
    expected = np.array([NAMES[name] for name in names])[grid.source_index]
    np.testing.assert_array_equal(split.assign(grid, sources), expected)
    assert split.names_in(sources) == ("train", "val", "test")
    assert find_leak(grid, expected, sources) is None


@every_strategy
@settings(max_examples=settings.default.max_examples // 4)
@given(staged(), st.data())
def test_no_place_lies_in_two_stated_splits(name: str, case: tuple, data: st.DataObject) -> None:
    size, sources = case
    for i, info in enumerate(sources):
        stated = {"split": data.draw(st.sampled_from([*NAMES]))}
        sources[i] = info.model_copy(update={"columns": info.columns | stated})
    grid, split = plan(make_strategy(name, size, sources), sources), Split(by="split")
    try:
        codes = split.assign(grid, sources)
    except ArgumentError as error:
        if not str(error).startswith(("By the column split", "No patch is for")):
            raise
        return
    names = split.names_in(sources)
    stated = [("train", "val", "test")[NAMES[info.columns["split"]]] for info in sources]
    assert [names[code] for code in codes] == [stated[i] for i in grid.source_index]
    places = [shown_places(grid, codes, code, sources) for code in range(len(names))]
    assert not any(first & second for first, second in combinations(places, 2))
    assert find_leak(grid, codes, sources) is None


def test_a_stated_split_may_lack_val() -> None:
    sources = [source(1, 1, 4, 4, key=p, columns={"part": p}) for p in ("test", "train")]
    grid, split = Tiled(size=(4, 4)).plan(sources), Split(by="part")
    assert split.names_in(sources) == ("train", "test")
    assert split.assign(grid, sources).tolist() == [1, 0]
    with pytest.raises(ArgumentError, match="No patch is for train"):
        split.assign(grid[np.array([0])], sources)


@pytest.mark.parametrize(
    ("column", "parts", "error"),
    [
        ("part", ["train", "train", "train"], "every source is for train"),
        ("part", ["val", "test", "val"], "needs a share .* part is val, test"),
        ("split", ["val", "test", "val"], "no source is for train, all are for val or test"),
        ("part", ["train", "val", "other"], "needs a share .* part is train, val, other"),
        ("split", ["train", "val", "other"], "split .* is 'other' for scene 2 .* no split; write"),
        ("part", ["train", "val", "test"], "scene 0 of .* train and scene 1 of .* val, .* overlap"),
        ("split", ["train", "val", "test"], "0 of .* for train and .* 1 of .* for val, .* overlap"),
        ("split", ["train", "", "test"], "The samples sheet has no split for .*fill it in"),
    ],
)
def test_what_is_wrong_in_a_stated_split_is_named(
    column: str, parts: list[str], error: str
) -> None:
    sources = [
        source(1, 1, 8, 8, scene=i, rect=Rect(x, 0, 8, 8), columns={column: part} if part else {})
        for i, (part, x) in enumerate(zip(parts, (0, 4, 50), strict=True))
    ]
    with pytest.raises(ArgumentError, match=error):
        Split(by=column).assign(Tiled(size=(4, 4)).plan(sources), sources)


@pytest.mark.parametrize(
    ("split", "columns", "error"),
    [
        ({"by": "animal"}, [{}, {}], "there is no samples sheet; add one with a column animal"),
        ({"by": "well"}, [{}, {}], "The well of .* is not known .2 in all."),
        ({"by": "mouse"}, [{"animal": "a"}] * 2, "no column 'mouse'; its columns are animal"),
        ({"stratify": "dose"}, [{"animal": "a"}] * 2, "no column 'dose'"),
        ({"by": "animal"}, [{"animal": "a"}, {}], "no animal for the image .1 in all.; fill it in"),
        ({"by": "animal"}, [{"animal": "a"}] * 2, "at least two groups.*animal is a. Add sources"),
        ({"folds": 3, "by": "file"}, [{}, {}], "file into 3 folds .* three files.* fewer folds"),
        ({"folds": 3, "by": "animal"}, [{"animal": "a"}, {"animal": "b"}], "3 folds.* fewer folds"),
        ({"folds": 3}, [{}, {}], "into 3 folds needs patches at three or more .* fewer folds"),
        ({"test": 0.1, "by": "scene"}, [{}, {}], "at least three scenes"),
    ],
)  # fmt: skip
def test_what_a_split_lacks_is_named(split: dict, columns: list, error: str) -> None:
    sources = [source(1, 1, 4, 4, key=str(i), columns=c) for i, c in enumerate(columns)]
    val = {} if "folds" in split else {"val": 0.2}
    with pytest.raises(ArgumentError, match=error):
        Split(**val, **split).assign(Tiled(size=(4, 4)).plan(sources), sources)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "needs a share for validation or for a test, or folds"),
        ({"val": 0.1, "folds": 5}, "each fold validates once; omit val or folds"),
        ({"val": 0.5, "test": 0.5}, "leave none to train"),
        ({"folds": 1}, "greater than or equal to 2"),
    ],
)
def test_shares_that_contradict_each_other_are_refused(fields: dict, error: str) -> None:
    with pytest.raises(ArgumentError, match=error):
        Split(**fields)


def test_a_share_that_is_far_from_the_wanted_one_is_remarked() -> None:
    split = Split(val=0.1, by="file")
    for by in ("auto", "block"):  # which name no remedy that is in force
        assert "Split by block" not in str(Split(val=0.1, by=by).remark({"train": 5, "val": 5}))
    assert "Split by block" in str(Split(val=0.1, by="file").remark({"train": 5, "val": 5}))
    assert "Choose less overlap" in str(Split(val=0.1).remark({"train": 5, "val": 5}))
    assert split.remark({"train": 90, "val": 10}) is None
    remark = Split(folds=4).remark({"train": 5}, (1, 1, 1, 2))
    assert remark is not None
    assert remark.startswith("3 of the 4 folds have a single patch")
    remark = str(split.remark({"train": 5, "val": 5}))
    assert "50% of the patches are for validation, not 10%" in remark
    assert "30% of the patches are for validation, not 90%" in str(
        Split(val=0.9).remark({"train": 70, "val": 30})
    )


def test_a_split_that_would_leave_out_most_patches_is_refused() -> None:
    image = [source(1, 1, 80, 80)]
    grid = Tiled(size=(32, 32), overlap=(28, 28)).plan(image)
    with pytest.raises(ArgumentError, match=r"reject \d+ of \d+ patches.*Choose smaller"):
        Split(val=0.3, by="block").assign(grid, image)


def test_overlapping_scenes_are_one_group() -> None:
    rects = [Rect(0, 0, 64, 64), Rect(60, 60, 64, 64), Rect(124, 0, 64, 64), Rect(120, 120, 64, 64)]
    sources = [source(1, 1, 64, 64, scene=i, rect=rect) for i, rect in enumerate(rects)]
    grid = Tiled(size=(64, 64)).plan(sources)
    for seed in range(5):
        codes = Split(val=0.5, by="scene", seed=seed).assign(grid, sources)
        assert codes[0] == codes[1] == codes[3] != codes[2]


def test_auto_takes_blocks_where_groups_are_too_few() -> None:
    sources = [source(1, 1, 1024, 1024, key=key) for key in "ab"]
    grid = Tiled(size=(64, 64)).plan(sources)
    assert Split(val=0.1).assign(grid, sources).mean() == pytest.approx(0.1, abs=0.02)
    assert Split(val=0.1, by="file").assign(grid, sources).mean() == 0.5


@pytest.mark.parametrize("by", KINDS)
def test_one_place_can_not_be_split(by: str) -> None:
    image = [source(5, 1, 64, 64)]
    grid = Whole().plan(image)
    by_what = "" if by == "auto" else f" by {by}"
    with pytest.raises(ArgumentError, match=f"Splitting{by_what} needs patches"):
        Split(val=0.1, by=by).assign(grid, image)


def test_no_patches_have_no_split() -> None:
    image = [source(1, 1, 64, 64)]
    grid = Tiled(size=(64, 64)).plan(image)[:0]
    assert len(Split(val=0.1).assign(grid, image)) == 0
    assert find_leak(grid, np.empty(0, np.int8), image) is None


def test_the_chosen_blocks_never_change() -> None:
    image = [source(1, 1, 512, 512, key="k", scene=3)]
    codes = Split(val=0.1, seed=7).assign(Tiled(size=(64, 64)).plan(image), image)
    assert np.flatnonzero(codes).tolist() == [2, 5, 12, 36, 58, 60]


@pytest.mark.realdata
def test_real_scenes_that_overlap_show_one_place(data_dir: Path) -> None:
    sources = describe_scenes(data_dir / "czi_synth" / "overlap_scenes.czi")
    assert len(find_sites(sources).names) == 1
    assert len(find_sites(describe_scenes(data_dir / "czi_synth" / "far_scenes.czi")).names) == 2
    with pytest.raises(ArgumentError, match="at least two scenes"):
        Split(val=0.1, by="scene").assign(Tiled(size=(8, 8)).plan(sources), sources)


def describe_scenes(path: Path) -> list[SourceInfo]:
    sources = []
    for scene in list_scenes(path):
        with open_stack(path, scene.id) as stack:
            sources.append(describe(stack))
    return sources
