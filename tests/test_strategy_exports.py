"""Every strategy, from pixels that say where they come from to a patch set and back."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from czi_maker import MakeCzi, SceneSpec
from napari_patchset import ExportPlan, PatchSet, Tiled, open_stack, run_export
from napari_patchset.export.sources import describe_sources
from napari_patchset.patching.regions import Rectangle
from napari_patchset.stacks.describe import content_key
from strategy_makers import every_strategy, make_strategy

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 70, 50), t=range(1, 3), z=range(2, 6), c=2),
    SceneSpec(id=7, rect=(500, 0, 70, 50), t=range(1, 4), z=range(2, 6), c=2, missing=({"T": 2},)),
)
SIZES = {"none": (16, 24), "Z": (2, 16, 24)}


def plan_of(path: Path, out: Path, depth_axis: str, name: str, **more: Any) -> ExportPlan:
    draft = ExportPlan(
        sources=[f"{path}@3", f"{path}@7"],
        strategy=Tiled(size=SIZES[depth_axis]),
        depth_axis=depth_axis,
        out=out,
    )
    strategy = make_strategy(name, SIZES[depth_axis], describe_sources(draft), **more)
    return draft.model_copy(update={"strategy": strategy})


def export(plan: ExportPlan) -> PatchSet:
    *_, last = run_export(plan)
    return PatchSet(last.path)


def expected_patch(row: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Draw what the table says a patch shows, zeros beyond the image."""
    scene = SCENES[row["source_index"]]
    assert row["scene"] == str(scene.id)
    drawn = np.zeros(shape, np.uint16)
    planes = drawn if len(shape) == 4 else drawn[:, np.newaxis]
    first = row["z"] if len(shape) == 3 else scene.z.start + row["z_start"]
    height, width = shape[-2] - row["pad_y"], shape[-1] - row["pad_x"]
    window = (row["y_start"], row["x_start"], height, width)
    for c, channel in enumerate(planes):
        for i, plane in enumerate(channel[: len(channel) - row.get("pad_z", 0)]):
            pixels = scene.pixels({"T": row["t"], "Z": first + i, "C": c}, window)
            plane[:height, :width] = pixels
    return drawn


def check(made: PatchSet) -> list[dict[str, Any]]:
    """Hold every patch against its row, and give the rows."""
    rows = made.table.to_pylist()
    assert len(rows) == len(made["all"]) > 0
    for patch, row in zip(made["all"], rows, strict=True):
        np.testing.assert_array_equal(patch, expected_patch(row, patch.shape))
    return rows


@every_strategy
@pytest.mark.parametrize("depth_axis", SIZES)
def test_every_pixel_comes_from_where_the_table_says(
    czi: MakeCzi, tmp_path: Path, name: str, depth_axis: str
) -> None:
    more = {"pad": "constant"} if name == "tiled, padded" else {}
    path = czi(*SCENES, tile=(32, 32))
    plan = plan_of(path, tmp_path / "a.patches.zarr", depth_axis, name, **more)
    with closing(export(plan)) as made:
        rows = check(made)
        assert {(row["scene"], row["t"]) for row in rows} == {
            *(("3", 1), ("3", 2), ("7", 1), ("7", 3))
        }
        assert made.manifest.dropped["missing plane"] > 0


@every_strategy
@pytest.mark.parametrize("depth_axis", SIZES)
def test_region_and_select_choose_what_is_exported(
    czi: MakeCzi, tmp_path: Path, name: str, depth_axis: str
) -> None:
    path = czi(*SCENES)
    with open_stack(path, 7) as stack:
        region = Rectangle(x=0, y=0, w=70, h=50, source=content_key(stack), scene=7)
    chosen = {"region": region, "select": {"T": (2, None), "Z": (None, 5)}}
    plan = plan_of(path, tmp_path / "a.patches.zarr", depth_axis, name, **chosen)
    with closing(export(plan)) as made:
        for row in check(made):
            assert (row["scene"], row["t"]) == ("7", 3)
            assert row["pad_y"] == row["pad_x"] == 0
            if depth_axis == "Z":
                assert row["z_start"] + row["z_size"] <= 3
            else:
                assert row["z"] < 5


@every_strategy
def test_a_copy_at_another_path_gives_the_same_set(czi: MakeCzi, tmp_path: Path, name: str) -> None:
    path = czi(*SCENES)
    copy = tmp_path / "another name.czi"
    copy.write_bytes(path.read_bytes())
    manifests = []
    for i, file in enumerate((path, copy)):
        plan = plan_of(file, tmp_path / f"{i}.patches.zarr", "none", name)
        with closing(export(plan)) as made:
            manifests.append(made.manifest)
    assert manifests[0] == manifests[1]
