"""Sets at a physical pixel size: resampled sources, and lengths in micrometres."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_patchset import (
    ExportPlan,
    Fixed,
    Random,
    SourceRef,
    Tiled,
    Whole,
    export,
    iter_export,
    open_stack,
    verify,
)
from napari_patchset.errors import ArgumentError, UnknownPixelSizeError
from napari_patchset.exporting.plans.command_line import command_line
from napari_patchset.exporting.plans.command_line import make_plan as plan_of_command
from napari_patchset.exporting.plans.region_files import file_region
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.patching.regions import Polygon, Rectangle
from napari_patchset.patchset import layout
from napari_patchset.source import PixelSize
from napari_patchset.stacks.resampled import ResampledStack
from support.counting import CHANNELS, KINDS, PER_SHARD, counting, make_plan
from support.export_makers import digests

RATIOS = {"whole": 1.0, "fraction": 0.78125, "finer": 0.55}
"""Wanted pixel sizes for sources of 0.5 um: factors 2, 25/16 and 11/10."""


@pytest.fixture(autouse=True)
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 32 patches into a shard."""
    monkeypatch.setattr(layout, "SHARD_BYTES", PER_SHARD * CHANNELS * 24 * 10 * 2)


def at_half(plan: ExportPlan, **fields: Any) -> ExportPlan:
    """State a pixel size of 0.5 um for every source."""
    size = PixelSize(z=2, y=0.5, x=0.5)
    sources = tuple(ref.model_copy(update={"pixel_size": size}) for ref in plan.sources)
    return ExportPlan.model_validate({**dict(plan), "sources": sources, **fields})


def tiff(path: Path, data: NDArray[Any], size: float | None = None, **options: Any) -> Path:
    """Write a TIFF whose pixels have a size in micrometres."""
    if size is not None:
        per_cm = 1e4 / size
        options |= {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, data, metadata=None, **options)
    return path


def noise(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(len(shape)).integers(0, 60_000, shape).astype(dtype)


def resampled(plan: ExportPlan, nearest: bool = False) -> NDArray[Any]:
    """Return the whole first source, SC(Z)YX, at the pixel size of a plan."""
    ref = plan.sources[0]
    assert plan.pixel_size is not None
    with open_stack(ref.path, ref.scene, plan.depth_axis, **ref.overrides) as source:
        stack = ResampledStack(source, plan.pixel_size, nearest=nearest)
        n_samples, _, *size = stack.data_shape
        zeros = [0] * len(size)
        return np.stack([stack.extract_patch(s, None, zeros, size) for s in range(n_samples)])


PAIRS = {*zip(KINDS, cycle(RATIOS), strict=False)}
PAIRS |= {*product(("overlapping zstd", "deep zarr"), RATIOS)}
"""Every kind of file, and every pixel size both with and without a depth axis."""


@pytest.mark.parametrize(("kind", "wanted"), sorted(PAIRS))
def test_each_tile_is_decoded_once_and_each_patch_is_a_part_of_the_whole(
    kind: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_plan(tmp_path / "a", kind)
    plan = at_half(made, pixel_size=RATIOS[wanted])
    images = resampled(plan)
    counts = counting(monkeypatch)
    with closing(export(plan)) as patch_set:
        assert 0 < counts["tiles"] <= KINDS[kind].blocks
        monkeypatch.undo()
        rows, patches = patch_set.table.to_pylist(), patch_set["all"][:]
    size = patches.shape[3:] if patches.ndim == 6 else patches.shape[2:]
    for row, patch in zip(rows, patches, strict=True):
        begin = [row[f"{axis}_start"] for axis in "zyx"[-len(size) :]]
        window = tuple(slice(a, a + n) for a, n in zip(begin, size, strict=True))
        inside = images[row["sample"]][(slice(None), *window)]
        part = tuple(slice(0, n) for n in inside.shape)
        np.testing.assert_array_equal(patch[part], inside)
        assert not patch[..., inside.shape[-2] :, :].any() or plan.strategy.padding != "constant"
    assert list(verify(plan.out)) == []


@pytest.mark.parametrize("kind", ["overlapping zstd", "deep zarr"])
def test_every_executor_and_a_resumed_export_give_the_same_bytes(
    kind: str, tmp_path: Path, spawned: ProcessPoolExecutor
) -> None:
    base = make_plan(tmp_path / "a", kind)
    found = []

    def plan(name: str) -> ExportPlan:
        return at_half(base, pixel_size=0.78125, filters=["mean>p20"], out=tmp_path / name)

    for i, (workers, memory) in enumerate(((1, 2**20), (4, 2**28))):
        export(plan(f"{i}.patches.zarr"), workers=workers, memory=memory).close()
        found.append(digests(tmp_path / f"{i}.patches.zarr"))
    export(plan("pool.patches.zarr"), spawned, workers=2).close()
    found.append(digests(tmp_path / "pool.patches.zarr"))
    jobs = plan("jobs.patches.zarr")
    plan_export(jobs)
    for part in (score_job, write_job):
        for job in range(3):
            part(jobs.out, job, 3)
    finalize_export(jobs.out)
    found.append(digests(tmp_path / "jobs.patches.zarr"))
    stopped = plan("stopped.patches.zarr")
    with closing(iter_export(stopped)) as events:
        for event in events:
            if event.stage == "write" and event.done:
                break
    export(stopped).close()
    found.append(digests(tmp_path / "stopped.patches.zarr"))
    assert all(each == found[0] for each in found)


def test_sources_of_different_pixel_size_make_one_set(tmp_path: Path) -> None:
    coarse = noise(1, 96, 128)[0]
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
    files = [tiff(tmp_path / "a.tif", fine, 0.25), tiff(tmp_path / "b.tif", coarse + 1, 0.5)]
    plan = ExportPlan(
        sources=files, out=tmp_path / "a.patches.zarr", strategy=Tiled(size="16um"), pixel_size=0.5
    )
    with closing(export(plan)) as made:
        manifest, rows, patches = made.manifest, made.table.to_pylist(), made["all"][:]
    assert manifest.schema_version == 2
    assert manifest.pixel_size == PixelSize(y=0.5, x=0.5)
    assert [source.source_pixel_size.x for source in manifest.sources] == [0.25, 0.5]
    assert [source.shape for source in manifest.sources] == [(96, 128)] * 2
    half = len(rows) // 2
    np.testing.assert_array_equal(patches[:half] + 1, patches[half:])
    for one, other in zip(rows[:half], rows[half:], strict=True):
        for name in ("y_start_um", "x_start_um", "y_size_um", "x_size_um"):
            assert one[name] == other[name]
        assert one["x_start"] == other["x_start"] == other["x_start_level0"]
        assert one["x_start_level0"] == 2 * one["x_start"]
        assert (one["x_size"], one["x_size_level0"], other["x_size_level0"]) == (32, 64, 32)
    assert list(verify(plan.out)) == []
    scale = zarr.open_group(plan.out)["all/image"].attrs
    assert "0.5" in str(dict(scale)) or manifest.arrays["all/image"].pixel_size.x == 0.5


def test_the_pixel_size_of_the_source_gives_the_same_bytes(tmp_path: Path) -> None:
    base = make_plan(tmp_path / "a", "zstd")
    found = []
    for name, more in (("a", {}), ("b", {"pixel_size": 0.5})):
        out = tmp_path / f"{name}.patches.zarr"
        export(at_half(base, out=out, **more)).close()
        found.append({n: d for n, d in digests(out).items() if not n.endswith("parquet")})
    assert found[0] == found[1]


def test_labels_and_masks_are_nearest_and_targets_averaged(tmp_path: Path) -> None:
    image, labels = noise(1, 60, 80)[0], noise(1, 60, 80, dtype="uint32")[0]
    mask = (np.arange(60 * 80).reshape(60, 80) // 2 % 3 == 0).astype("uint8")
    source = SourceRef(
        path=tiff(tmp_path / "a.tif", image, 0.2),
        target=tiff(tmp_path / "t.tif", image[::-1].copy()),
        labels=tiff(tmp_path / "l.tif", labels, 7),
        mask=tiff(tmp_path / "m.tif", mask),
    )
    plan = ExportPlan(
        sources=source, out=tmp_path / "a.patches", format="npz", strategy=Whole(),
        pixel_size="0.6,0.4", filters="mask>0",
    )  # fmt: skip
    names = {"image": "all", "target": "all/target", "labels": "all/labels"}
    with closing(export(plan)) as made:
        table, arrays = (
            made.table,
            {role: made[name][0][0] for role, name in names.items()},
        )
    np.testing.assert_array_equal(arrays["labels"], labels[1::3, 1::2])
    blocks = image.reshape(20, 3, 40, 2).sum(axis=(1, 3), dtype=np.int64)
    np.testing.assert_array_equal(arrays["image"], (blocks + 3) // 6)
    np.testing.assert_array_equal(arrays["target"], arrays["image"][::-1])
    assert table["mask"].to_pylist() == [pytest.approx((mask[1::3, 1::2] != 0).mean())]
    assert list(verify(plan.out)) == []


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "int16"])
def test_every_type_is_verified_by_other_code(dtype: str, tmp_path: Path) -> None:
    data = noise(2, 61, 83, dtype="float32") % 251 if dtype == "float32" else noise(2, 61, 83)
    path = tiff(tmp_path / "a.tif", data.astype(dtype), photometric="minisblack")
    plan = ExportPlan(
        sources=SourceRef(path=path, axes="CYX", pixel_size=0.3),
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=8, edge="pad"),
        pixel_size=0.7,
    )
    export(plan).close()
    assert list(verify(plan.out)) == []


def test_verify_finds_an_error_of_resampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiff(tmp_path / "a.tif", noise(1, 64, 64)[0], 0.5)
    plan = ExportPlan(
        sources=path, out=tmp_path / "a.patches.zarr", strategy=Tiled(size=8), pixel_size=0.8
    )
    derive = ResampledStack.derive

    def wrong(self: ResampledStack, *args: Any) -> NDArray[Any]:
        made = derive(self, *args)
        made[0, 0] += 1
        return made

    monkeypatch.setattr(ResampledStack, "derive", wrong)
    export(plan).close()
    assert {each.name for each in verify(plan.out)} == {"differs from source"}


def test_an_rgb_image(tmp_path: Path) -> None:
    data = noise(50, 70, 3, dtype="uint8")
    path = tiff(tmp_path / "a.tif", data, 0.25, photometric="rgb", tile=(32, 32))
    plan = ExportPlan(
        sources=path, out=tmp_path / "a.patches", format="tiff", strategy=Whole(), pixel_size=0.5
    )
    with closing(export(plan)) as made:
        image = made["all"][0]
        files = sorted(Path(plan.out).rglob("*.tif"))
    blocks = data.reshape(25, 2, 35, 2, 3).sum(axis=(1, 3), dtype=np.int64)
    np.testing.assert_array_equal(image, np.moveaxis((blocks + 2) // 4, -1, 0))
    with tifffile.TiffFile(files[0]) as file:
        assert file.ome_metadata is not None
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata
    assert list(verify(plan.out)) == []


def test_lengths_in_micrometres(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", noise(1, 100, 130)[0], 0.5)
    out = tmp_path / "a.patches.zarr"
    options = {"patch_size": "16um,12.1 µm", "overlap": "8um"}
    plan = plan_of_command([str(path)], str(out), **options)
    assert plan.strategy.size == ("16um", "12.1um")
    assert ExportPlan.model_validate_json(plan.model_dump_json()) == plan
    words = command_line(plan)
    assert words is not None
    assert "--patch-size 16um,12.1um --overlap 8um,8um" in words
    grid = plan.strategy.plan(describe_sources(plan))
    assert grid.size == (32, 24)
    assert sorted({p.start[1] for p in grid})[:2] == [0, 8]
    made = plan_of_command([str(path)], str(out), pixel_size="1", **options)
    assert "--pixel-size 1.0,1.0" in str(command_line(made))
    assert made.strategy.plan(describe_sources(made)).size == (16, 12)
    with closing(export(made)) as patch_set:
        assert patch_set["all"].shape[2:] == (16, 12)
    assert list(verify(out)) == []


def test_wrong_lengths_and_sizes_are_refused(tmp_path: Path) -> None:
    path, out = tiff(tmp_path / "a.tif", noise(1, 40, 40)[0]), str(tmp_path / "a.patches.zarr")
    with pytest.raises(UnknownPixelSizeError, match=r"a.tif is not known"):
        export(plan_of_command([str(path)], out, pixel_size="0.5"))
    with pytest.raises(UnknownPixelSizeError, match=r"so 8um can't be made pixels"):
        export(plan_of_command([str(path)], out, patch_size="8um"))
    with pytest.raises(ArgumentError, match="not a number of pixels"):
        plan_of_command([str(path)], out, patch_size="8cm")
    with pytest.raises(ArgumentError, match="along Y and X"):
        plan_of_command([str(path)], out, pixel_size="1,2,3")
    stated = {"source_pixel_size": "0.5", "patch_size": "8um"}
    with pytest.raises(ArgumentError, match=r"overlap .* must be at least 0 and less"):
        plan_of_command([str(path)], out, **stated, overlap="8um")
    mixed = plan_of_command([str(path)], out, **stated, overlap="16")
    with pytest.raises(ArgumentError, match=r"overlap .* must be at least 0 and less"):
        mixed.strategy.plan(describe_sources(mixed))
    with pytest.raises(ArgumentError, match=r"larger than the wanted 0.2 um"):
        export(plan_of_command([str(path)], out, **stated, pixel_size="0.2"))


def test_regions_and_listed_patches_are_in_the_pixels_of_the_file(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", noise(1, 120, 160)[0], 0.25)
    mask = np.zeros((120, 160), np.uint8)
    mask[20:80, 40:140] = 1
    tiff(tmp_path / "m.tif", mask)
    triangle = Polygon(points=((0, 0), (150, 0), (0, 110)))
    regions = {
        "rectangle": Rectangle(x=40, y=20, w=100, h=60),
        "mask": file_region(str(tmp_path / "m.tif")),
    }
    for ratio in (2, 2.5):
        rows = {}
        for name, region in (*regions.items(), ("triangle", triangle)):
            plan = ExportPlan(
                sources=path,
                out=tmp_path / f"{name}{ratio}.patches.zarr",
                strategy=Tiled(size=4, region=region),
                pixel_size=0.25 * ratio,
            )
            with closing(export(plan)) as made:
                rows[name] = made.table.to_pylist()
            assert list(verify(plan.out)) == []
        boxes = {
            name: {(r["y_start_level0"], r["x_start_level0"], 4 * ratio) for r in found}
            for name, found in rows.items()
        }
        assert boxes["rectangle"] <= boxes["mask"]  # the mask's pixel at the centre counts
        for y, x, n in boxes["rectangle"]:
            assert min(y - 20, x - 40, 80 - y - n, 140 - x - n) >= 0
        assert len(boxes["rectangle"]) >= 30
        assert all((x + n) / 150 + (y + n) / 110 <= 1 + 1e-6 for y, x, n in boxes["triangle"])
    (info,) = describe_sources(plan)
    patches = [{"source": info.key, "start": (10, 25)}, {"source": info.key, "start": (50, 100)}]
    grid = Fixed(size=4, patches=patches).plan([info])
    assert [p.start for p in grid] == [(4, 10), (20, 40)]
    drawn = Random(size=4, count=9, region=triangle).plan([info])
    assert len(drawn) == 9


def test_a_pyramid_is_read_where_it_is_not_coarser(tmp_path: Path) -> None:
    data = noise(1, 256, 256)[0]
    half = ((data.reshape(128, 2, 128, 2).sum(axis=(1, 3), dtype=np.int64) + 2) // 4).astype("u2")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name, level in (("0", data), ("1", half)):
        group.create_array(name, data=level, chunks=(64, 64))
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"],
                "datasets": [
                    {
                        "path": name,
                        "coordinateTransformations": [{"type": "scale", "scale": [s, s]}],
                    }
                    for name, s in (("0", 0.25), ("1", 0.5))
                ],
            }
        ],
    }
    for wanted, level in ((0.4, 0), (0.5, 1), (1.0, 1), (0.8, 1)):
        plan = ExportPlan(
            sources=tmp_path / "a.zarr",
            out=tmp_path / f"{wanted}.patches.zarr",
            strategy=Whole(),
            pixel_size=wanted,
        )
        with closing(export(plan)) as made:
            assert made.manifest.sources[0].level == level
            image = made["all"][0][0]
        if wanted == 0.5:
            np.testing.assert_array_equal(image, half)
        if wanted == 1.0:
            blocks = half.reshape(64, 2, 64, 2).sum(axis=(1, 3), dtype=np.int64)
            np.testing.assert_array_equal(image, (blocks + 2) // 4)
        assert list(verify(plan.out)) == []
