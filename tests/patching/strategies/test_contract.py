"""One contract over all strategies: where patches may lie, and what changes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import ExportPlan
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.grid import PatchGrid, PatchSpec
from napari_patchset.patching.regions import Polygon
from napari_patchset.patching.strategies import Strategy, Tiled
from napari_patchset.patching.strategies.base import MISSING_PLANE, TOO_SMALL
from napari_patchset.source import SourceInfo
from support.strategy_makers import (
    cases,
    every_strategy,
    make_strategy,
    plan,
    source,
    without_holes,
)


def by_source(grid: PatchGrid, sources: list[SourceInfo]) -> dict[object, list[object]]:
    """Return samples and starts by scene, which identifies a source whatever its index."""
    patches: dict[object, list[object]] = {source.scene: [] for source in sources}
    for spec in grid:
        patches[sources[spec.source_index].scene].append((spec.sample, spec.start))
    return patches


def planned_or_none(strategy: Strategy, sources: list[SourceInfo]) -> PatchGrid | None:
    """Plan, or return None if the selection is refused for one of the allowed reasons."""
    try:
        return plan(strategy, sources)
    except ArgumentError as error:
        if not str(error).startswith(("Nothing is selected", "Whole planes must have one size")):
            raise
        return None


@every_strategy
@given(cases())
def test_patches_lie_inside_unless_they_are_to_be_padded(name: str, case: tuple) -> None:
    size, sources = case
    for spec in plan(make_strategy(name, size, sources), sources):
        shape = np.array(sources[spec.source_index].spatial_shape)
        assert (np.array(spec.start) >= 0).all()
        if name == "tiled, padded":
            assert (spec.start < shape).all()
        else:
            assert (np.array(spec.start) + spec.size <= shape).all()


@every_strategy
@given(cases())
def test_no_patch_occurs_twice(name: str, case: tuple) -> None:
    size, sources = case
    if name == "balanced":  # pixels near a corner have one patch
        return
    grid = plan(make_strategy(name, size, sources), sources)
    assert len(set(grid)) == len(grid)


@every_strategy
@given(cases())
def test_patches_are_ordered_by_source_sample_and_tile(name: str, case: tuple) -> None:
    size, sources = case

    def rank(spec: PatchSpec) -> tuple[int, ...]:
        h, w = sources[spec.source_index].block_shape or (1000, 1000)
        *_, y, x = spec.start
        return spec.source_index, spec.sample, y // h, x // w, *spec.start

    grid = plan(make_strategy(name, size, sources), sources)
    assert list(grid) == sorted(grid, key=rank)
    assert {column.dtype for column in (grid.source_index, grid.sample, grid.start)} == {
        np.dtype("i4")
    }


@every_strategy
@given(cases(), st.randoms())
def test_neither_path_nor_order_of_the_sources_matters(
    name: str, case: tuple, random: object
) -> None:
    size, sources = case
    strategy = make_strategy(name, size, sources)
    moved = [source.model_copy(update={"name": f"elsewhere/{source.scene}"}) for source in sources]
    random.shuffle(moved)
    grid, again = plan(strategy, sources), plan(strategy, moved)
    assert by_source(grid, sources) == by_source(again, moved)
    assert grid.excluded == again.excluded


@every_strategy
@given(cases())
def test_a_source_has_the_same_patches_alone_and_among_others(name: str, case: tuple) -> None:
    size, sources = case
    if name in ("random, in total", "balanced"):
        return
    among = by_source(plan(make_strategy(name, size, sources), sources), sources)
    for one in sources:
        alone = plan(make_strategy(name, size, [one]), [one])
        assert by_source(alone, [one])[one.scene] == among[one.scene]


@every_strategy
@given(cases())
def test_patches_on_missing_planes_are_excluded_and_counted(name: str, case: tuple) -> None:
    size, sources = case
    strategy = make_strategy(name, size, sources)
    grid, whole = plan(strategy, sources), plan(strategy, without_holes(sources))

    def touches(spec: PatchSpec) -> bool:
        holes = [(s, z) for s, _, z in sources[spec.source_index].missing]
        last = spec.start[0] + spec.size[0]
        return any(s == spec.sample and spec.start[0] <= z < last for s, z in holes)

    if name == "balanced":  # draws elsewhere
        assert len(grid) == len(whole)
        assert not any(map(touches, grid))
        return
    assert list(grid) == [spec for spec in whole if not touches(spec)]
    assert grid.excluded.get(MISSING_PLANE, 0) == len(whole) - len(grid)


@every_strategy
@given(cases(), st.data())
def test_select_is_in_the_numbers_of_the_file(name: str, case: tuple, data: st.DataObject) -> None:
    size, sources = case
    axis = data.draw(st.sampled_from("TZS"))
    first, length = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 6))
    fields = type(make_strategy(name, size, sources)).model_fields
    extra = {"small": "skip"} if "small" in fields else {}
    selecting = make_strategy(name, size, sources, select={axis: (first, first + length)}, **extra)
    grid = planned_or_none(selecting, sources)
    for spec in grid or ():
        info = sources[spec.source_index]
        if axis == info.depth_axis:
            # Padding beyond the image's end is no plane that is not selected.
            end = min(spec.start[0] + spec.size[0], info.spatial_shape[0])
            assert first <= info.starts["Z"] + spec.start[0]
            assert info.starts["Z"] + end <= first + length
        else:
            numbers = {"S": spec.sample, "Z": info.starts["Z"], **info.file_indices(spec.sample)}
            assert first <= numbers[axis] < first + length


@every_strategy
@given(cases())
def test_a_strategy_is_its_own_json(name: str, case: tuple) -> None:
    size, sources = case
    region = Polygon(points=[(0, 0), (9.5, 0), (4, 7)], source="key 0", scene=0)
    strategy = make_strategy(name, size, sources, region=region, select={"T": (None, 10)})
    plan = ExportPlan(sources=["a.czi"], strategy=strategy, out="a.patches.zarr")
    again = ExportPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert type(again.strategy) is type(strategy)


@every_strategy
def test_a_size_of_the_wrong_dimension_is_refused(name: str) -> None:
    flat = [source(1, 1, 100, 100)]
    if name == "whole":
        return
    strategy = make_strategy(name, (8, 64, 64), [])
    with pytest.raises(ArgumentError, match="give 2 numbers"):
        strategy.plan(flat)


@pytest.mark.parametrize("name", ["tiled", "random", "random, in total", "stratified", "balanced"])
def test_a_patch_larger_than_the_image_is_refused_or_skipped(name: str) -> None:
    small = [source(3, 1, 48, 100)]
    with pytest.raises(ArgumentError, match=r"64 x 64 is larger than .* 48 x 100"):
        plan(make_strategy(name, (64, 64), small), small)
    skipped = plan(make_strategy(name, (64, 64), small, small="skip"), small)
    assert len(skipped) == 0
    assert skipped.excluded == {TOO_SMALL: 3}


@pytest.mark.parametrize("name", ["tiled", "stratified"])
def test_too_many_candidates_are_refused(name: str) -> None:
    huge = [source(2, 1, 2**31, 10, name="huge.czi"), source(1, 1, 2**31, 2**31, name="huge.czi")]
    for image in huge:
        with pytest.raises(ArgumentError, match=r"huge\.czi.* would give \d+ patches, more than"):
            make_strategy(name, (8, 8), [image]).plan([image])


def test_a_missing_plane_excludes_one_volume() -> None:
    volume = source(2, 1, 4, 16, 16, axes="TCZYX", depth_axis="Z")
    incomplete = volume.model_copy(update={"missing": frozenset({(1, 0, 3)})})
    grid = Tiled(size=(2, 16, 16)).plan([incomplete])
    assert [(spec.sample, spec.start[0]) for spec in grid] == [(0, 0), (0, 2), (1, 0)]
    assert grid.excluded == {MISSING_PLANE: 1}


def test_several_sources_make_one_grid() -> None:
    grid = Tiled(size=(16, 16)).plan([source(1, 1, 32, 32), source(2, 1, 16, 16)])
    assert grid.source_index.tolist() == [0, 0, 0, 0, 1, 1]
    assert grid[-1] == (1, 1, (0, 0), (16, 16))


def test_planes_that_are_not_selected_are_not_padded() -> None:
    volume = source(1, 1, 9, 8, 8, axes="TCZYX", depth_axis="Z", starts={"Z": 2})
    padded = {"size": (4, 8, 8), "edge": "pad", "small": "pad"}
    grid = Tiled(**padded, select={"Z": (3, 9)}).plan([volume])
    assert grid.start[:, 0].tolist() == [1, 3]
    assert Tiled(**padded).plan([volume]).start[:, 0].tolist() == [0, 4, 8]
    with pytest.raises(ArgumentError, match=r"larger than the selected part .* 3 x 8 x 8"):
        Tiled(**padded, select={"Z": (3, 6)}).plan([volume])


def test_an_empty_selection_is_refused_with_the_files_numbers() -> None:
    series = source(4, 1, 8, 8, starts={"T": 3}, name="series.czi")
    with pytest.raises(ArgumentError, match=r"selected by T 9:; series\.czi has T 3 to 6"):
        Tiled(size=(8, 8), select={"T": (9, None)}).plan([series])


@pytest.mark.parametrize("select", [{"Y": (0, 5)}, {"z": (0, 5)}, {"T": (5, 5)}])
def test_impossible_selections_are_refused(select: dict) -> None:
    with pytest.raises(ArgumentError, match=r"can't select along|is empty"):
        Tiled(size=(8, 8), select=select)
