"""Real files exported, held against pylibCZIrw's own reading of the same planes."""

from pathlib import Path

import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from export_makers import digests, export
from napari_patchset import ExportPlan, PatchSet, Tiled, open_stack
from napari_patchset.errors import MissingAxisError
from napari_patchset.export.plan import expand_sources
from napari_patchset.patching.filters import parse_filter
from napari_patchset.patching.splits import Split

pytestmark = pytest.mark.realdata

S3 = "S3_1Pos_2Mosaic_T2Z3_CH2_sm.czi"
WELLS = "WellD6-7_S2.czi"


def export_scene(path: Path, out: Path, depth_axis: str, size: tuple[int, ...]) -> PatchSet:
    plan = ExportPlan(
        sources=[f"{path}@1"],
        strategy=Tiled(size=size, overlap=(0,) * (len(size) - 2) + (8, 8)),
        depth_axis=depth_axis,
        out=out,
    )
    return export(plan)


@pytest.mark.parametrize(
    ("name", "depth_axis", "size"),
    [(S3, "none", (32, 32)), (S3, "Z", (2, 32, 24)), (WELLS, "none", (128, 100))],
)
def test_what_is_exported_is_what_pylibczirw_reads(
    data_dir: Path, tmp_path: Path, name: str, depth_axis: str, size: tuple[int, ...]
) -> None:
    path = data_dir / "czi" / name
    made = export_scene(path, tmp_path / "a.patches.zarr", depth_axis, size)
    assert made["all"].dtype == np.uint16
    with open_czi(str(path)) as czi:
        corner = czi.scenes_bounding_rectangle[1]
        for patch, row in zip(made["all"], made.table.to_pylist(), strict=True):
            roi = (corner.x + row["x_start"], corner.y + row["y_start"], size[-1], size[-2])
            first = row["z"] if depth_axis == "none" else row["z_start"]
            planes = patch[:, np.newaxis] if depth_axis == "none" else patch
            for c, channel in enumerate(planes):
                for z, plane in enumerate(channel, first):
                    where = {"T": row["t"], "Z": z, "C": c}
                    read = czi.read(roi=roi, plane=where, scene=1, pixel_type="Gray16")
                    np.testing.assert_array_equal(plane, read[..., 0])
    made.close()


def test_scenes_filter_and_split_add_up_and_repeat(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "czi" / S3
    plans = [
        ExportPlan(
            sources=expand_sources([path]),
            strategy=Tiled(size=(32, 32), overlap=(8, 8)),
            filters=[parse_filter("std>p30")],
            split=Split(val=0.2),
            out=tmp_path / f"{i}.patches.zarr",
        )
        for i in range(2)
    ]
    first, second = (export(plan) for plan in plans)
    rows = first.table.to_pylist()
    assert len({row["scene"] for row in rows}) == 3
    for split, array in first.items():
        mine = [row for row in rows if row["kept"] and row["split"] == split]
        assert len(mine) == len(array) == first.manifest.counts[split] > 0
    kept, rejected = first.manifest.counts, first.manifest.rejected
    assert sum(kept.values()) + sum(rejected.values()) == len(rows)
    assert first.manifest == second.manifest
    assert digests(first.path) == digests(second.path)


def test_a_file_without_z_says_so(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingAxisError, match="does not contain a Z axis"):
        export_scene(data_dir / "czi" / WELLS, tmp_path / "a.patches.zarr", "Z", (2, 32, 32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["LSM880_AiryScan.czi", "RGB-8bit.czi", "mosaic_test.czi"])
def test_the_others_are_exported_too(data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / "czi" / name
    out = tmp_path / "a.patches.zarr"
    plan = ExportPlan(sources=expand_sources([path]), strategy=Tiled(size=(16, 16)), out=out)
    made = export(plan)
    with open_stack(path) as stack:
        source, row = made.locate(len(made["all"]) - 1)
        where = (row["y_start"], row["x_start"])
        expected = stack.extract_patch(row["sample"], None, where, (16, 16))
        assert source.dtype == stack.data_dtype.name
    np.testing.assert_array_equal(made["all"][-1], expected)
    made.close()
