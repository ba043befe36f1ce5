"""Real files exported, compared with pylibCZIrw's own reading of the same planes."""

import sys
from math import ceil, prod
from pathlib import Path

import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from napari_patchset import ExportPlan, PatchSet, Tiled, export, open_stack, verify
from napari_patchset.cli import main
from napari_patchset.errors import MissingAxisError
from napari_patchset.exporting.plans.source_files import expand_sources
from support.export_makers import digests

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


def run_command(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["patchset", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def test_scenes_filter_and_split_add_up_and_repeat(
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = data_dir / "czi" / S3
    outs = [tmp_path / f"{i}.patches.zarr" for i in range(2)]
    options = [
        "--scene",
        "all",
        "--patch-size",
        "32,32",
        "--overlap",
        "8,8",
        "--filter",
        "std>p30",
        "--val",
        "0.2",
    ]
    for out in outs:
        assert run_command(monkeypatch, "export", path, "--out", out, *options) == 0
    first, second = map(PatchSet, outs)
    rows, manifest = first.table.to_pylist(), first.manifest
    assert len({row["scene"] for row in rows}) == len(manifest.sources) == 3
    for split, array in first.items():
        mine = [row for row in rows if row["kept"] and row["split"] == split]
        assert len(mine) == len(array) == manifest.counts[split] > 0
    assert set(manifest.rejected) == {"std>p30", "across the border of train and val"}
    assert sum(manifest.counts.values()) + sum(manifest.rejected.values()) == len(rows)
    places = [
        source.n_samples * prod(ceil((n - 8) / (32 - 8)) for n in source.spatial_shape)
        for source in manifest.sources
    ]
    assert len(rows) + sum(manifest.dropped.values()) == sum(places)
    assert manifest == second.manifest
    assert digests(first.path) == digests(second.path)
    capsys.readouterr()
    assert run_command(monkeypatch, "verify", outs[0]) == 0
    shard = outs[0] / "train" / "image" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[12345] ^= 16
    shard.write_bytes(data)
    assert run_command(monkeypatch, "verify", outs[0]) == 1
    no_difference, damage = capsys.readouterr().out.splitlines()
    assert no_difference.endswith("no difference, compared with itself and its sources")
    assert damage.startswith(f"damaged patch: train/image of {outs[0]}, shard 0: 1 of ")


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


@pytest.mark.parametrize("wanted", [0.15, 0.26])
def test_a_slide_with_a_pyramid_is_resampled(data_dir: Path, tmp_path: Path, wanted: float) -> None:
    path, out = data_dir / "czi" / WELLS, tmp_path / "a.patches.zarr"
    plan = ExportPlan(sources=f"{path}@1", strategy=Tiled(size="6um"), pixel_size=wanted, out=out)
    with export(plan) as made, open_stack(path, 1) as source:
        info, rows, patches = made.manifest.sources[0], made.table.to_pylist(), made["all"][:]
        own = source.metadata.pixel_size.x
        assert own < wanted == info.pixel_size.x
        assert (info.level or 0) >= 1 if wanted > 2 * own else info.level == 0
        assert info.spatial_shape == tuple(int(n * 0.1 / wanted) for n in source.data_shape[-2:])
        for row, patch in list(zip(rows, patches, strict=True))[:6]:
            start = [int(row[f"{axis}_start_level0"]) for axis in "yx"]
            size = [int(row[f"{axis}_size_level0"]) for axis in "yx"]
            pixels = source.extract_patch(row["sample"], None, start, size)
            # The scanner's own pyramid is not quite the average, but near it.
            means = pixels.mean(axis=(1, 2))
            np.testing.assert_allclose(patch.mean(axis=(1, 2)), means, rtol=0.05)
    assert list(verify(out)) == []
