"""Annotations in an export: shares, regions, labels; planes, pixel sizes, scenes, jobs, verify."""

import json
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_patchset import (
    AnnotationsRef,
    Balanced,
    ExportPlan,
    ImageRef,
    PatchSet,
    Random,
    Rect,
    SourceRef,
    Tiled,
    export,
    iter_export,
    read_geojson,
    verify,
    write_geojson,
)
from napari_patchset.errors import ArgumentError, ExportError, UnreadableFileError
from napari_patchset.exporting.plans.command_line import command_line
from napari_patchset.exporting.plans.command_line import make_plan as plan_of_command
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.patchset import layout
from napari_patchset.patchset.layout import TABLE
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import advance, digests
from support.realdata import MISSING, find_data

T, Z, Y, X = 2, 3, 60, 80


class Drawn(NamedTuple):
    """A polygon whose edges pass through no pixel's centre."""

    name: str
    points: tuple[tuple[float, float], ...]
    z: int | None = None
    t: int | None = None
    color: tuple[int, int, int] = (1, 2, 3)

    def feature(self) -> dict[str, Any]:
        ring = [list(point) for point in (*self.points, self.points[0])]
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": [ring]}
        if self.z is not None:
            geometry["plane"] = {"c": -1, "z": self.z, "t": self.t or 0}
        classification = {"name": self.name, "color": list(self.color)}
        properties = {"objectType": "annotation", "classification": classification}
        return {"type": "Feature", "geometry": geometry, "properties": properties}


TUMOR = Drawn("Tumor", ((5.031, 4.017), (50.013, 8.029), (44.037, 52.011), (9.019, 45.023)))
NEST = Drawn("Stroma", ((20.03, 20.01), (34.01, 21.03), (30.02, 33.04)))
DIRT = Drawn("Artefact", ((60.013, -5.03), (95.01, -4.02), (90.03, 30.01), (62.04, 28.02)))
FLAT = (TUMOR, NEST, DIRT)
DEEP = (
    TUMOR._replace(z=1, t=0),
    NEST._replace(z=1, t=1),
    DIRT,  # without a plane next to others that have one: z 0, t 0
    TUMOR._replace(z=2, t=1, name="Stroma"),
)


def write(path: Path, drawn: Sequence[Drawn]) -> Path:
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": [each.feature() for each in drawn]})
    )
    return path


def image(path: Path, axes: str = "TZYX", seed: int = 0) -> Path:
    shape = [{"T": T, "Z": Z, "Y": Y, "X": X}[axis] for axis in axes]
    pixels = np.random.default_rng(seed).integers(1, 60_000, shape, np.uint16)
    size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}  # 0.5 um
    tifffile.imwrite(
        path, pixels, metadata={"axes": axes}, tile=(32, 32), photometric="minisblack", **size
    )
    return path


def truth(drawn: Sequence[Drawn], name: str, z: int, t: int, ratio: float = 1.0) -> NDArray[Any]:
    """Return which centres of a plane shapely finds in the polygons of a class."""
    y, x = np.mgrid[: int(Y / ratio), : int(X / ratio)]
    mask = np.zeros(y.shape, bool)
    has_planes = any(each.z is not None for each in drawn)
    for each in drawn:
        plane = (each.z or 0, each.t or 0)
        if each.name == name and (not has_planes or plane == (z, t)):
            polygon = shapely.Polygon(each.points)
            mask |= shapely.contains_xy(polygon, (x + 0.5) * ratio, (y + 0.5) * ratio)
    return mask


def planes_of(row: dict[str, Any], depth_axis: str) -> list[tuple[int, int]]:
    """Return z and t of each plane of a patch."""
    if depth_axis == "none":
        return [(row["z"] or 0, row["t"] or 0)]
    depths = range(row[f"{depth_axis.lower()}_start"], row[f"{depth_axis.lower()}_start"] + 2)
    return [(z, row["t"] or 0) if depth_axis == "Z" else (row["z"] or 0, z) for z in depths]


def boxes(
    row: dict[str, Any], drawn: Sequence[Drawn], name: str, depth_axis: str, ratio: float
) -> NDArray[Any]:
    """Return the pixels, (Z)YX, of a class in a patch."""
    y, x, h, w = (row[f"{axis}_{what}"] for what in ("start", "size") for axis in "yx")
    planes = planes_of(row, depth_axis)
    return np.stack([truth(drawn, name, *p, ratio)[y : y + h, x : x + w] for p in planes])


@pytest.mark.parametrize("pixel_size", [None, 0.78125])
@pytest.mark.parametrize("depth_axis", ["none", "Z", "T"])
@pytest.mark.parametrize("drawn", [FLAT, DEEP], ids=["flat", "deep"])
def test_shares_and_labels_are_the_rasterised_truth(
    tmp_path: Path, drawn: tuple[Drawn, ...], depth_axis: str, pixel_size: float | None
) -> None:
    source = SourceRef(
        path=image(tmp_path / "a.tif"),
        annotations=write(tmp_path / "a.geojson", drawn),
        labels="annotations",
    )
    size = (12, 14) if depth_axis == "none" else (2, 12, 14)
    plan = ExportPlan(
        sources=source,
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=size, overlap=[0] * (len(size) - 1) + [5]),
        depth_axis=depth_axis,
        pixel_size=pixel_size,
    )
    ratio = (pixel_size or 0.5) / 0.5
    with closing(export(plan)) as made:
        rows, labels = made.table.to_pylist(), np.asarray(made["all/labels"])
        by_name = {each.name: each.value for each in made.manifest.classes}
        assert by_name == {"Artefact": 1, "Stroma": 2, "Tumor": 3}
        assert {each.color for each in made.manifest.classes} == {(1, 2, 3)}
        assert made.manifest.schema_version == 2
    seen = dict.fromkeys(by_name, 0.0)
    for row, patch in zip(rows, labels, strict=True):
        expected = np.zeros((patch.shape[-3] if patch.ndim == 4 else 1, *patch.shape[-2:]), int)
        for name in ("Tumor", "Artefact", "Stroma"):  # the smaller on top
            inside = boxes(row, drawn, name, depth_axis, ratio)
            assert row[f"share_{name}"] == inside.mean()
            seen[name] += inside.mean()
            if drawn is FLAT:
                expected[inside] = by_name[name]
        if drawn is FLAT:
            np.testing.assert_array_equal(patch.reshape(expected.shape), expected)
        else:
            masks = {n: boxes(row, drawn, n, depth_axis, ratio) for n in by_name}
            np.testing.assert_array_equal(
                patch.reshape(expected.shape) > 0, np.logical_or.reduce([*masks.values()])
            )
    assert all(seen.values())
    assert list(verify(plan.out)) == []


polygons = st.builds(
    lambda x, y, radii, name: Drawn(
        name,
        tuple(
            (
                round(x + r * np.cos(2 * np.pi * i / len(radii)), 2) + 0.0031,
                round(y + r * np.sin(2 * np.pi * i / len(radii)), 2) + 0.0017,
            )
            for i, r in enumerate(radii)
        ),
    ),
    st.integers(-5, X + 5),
    st.integers(-5, Y + 5),
    st.lists(st.integers(4, 40), min_size=3, max_size=8),
    st.sampled_from(["Tumor", "Stroma", "Artefact"]),
)


@pytest.mark.filterwarnings("ignore:.*lie outside of the image:UserWarning")
@settings(max_examples=settings.default.max_examples // 2, deadline=None)
@given(
    st.lists(polygons, min_size=1, max_size=5),
    st.floats(0.05, 1),
    st.sampled_from([("Tumor",), ("Tumor", "Stroma"), ()]),
    st.booleans(),
    st.sampled_from(["tiled", "random"]),
)
def test_no_patch_holds_less_than_min_inside(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[Drawn],
    least: float,
    wanted: tuple[str, ...],
    excluded: bool,
    kind: str,
) -> None:
    folder = tmp_path_factory.mktemp("inside")
    everything = [*drawn, *(each._replace(points=((0, 0), (0, 1), (1, 0))) for each in FLAT)]
    unwanted = ("Artefact",) if excluded else ()
    fields = {"region_classes": wanted, "exclude_classes": unwanted, "min_inside": least}
    strategy = (
        Tiled(size=(9, 11), overlap=(0, 4), **fields)
        if kind == "tiled"
        else Random(size=(9, 11), count=12, **fields)
    )
    plan = ExportPlan(
        sources=SourceRef(
            path=image(folder / "a.tif", "YX"), annotations=write(folder / "a.geojson", everything)
        ),
        out=folder / "a.patches",
        strategy=strategy,
        format="coordinates",
    )
    allowed = np.ones((Y, X), bool)
    for names, is_in in ((wanted, True), (unwanted, False)):
        if names:
            masks = [truth(everything, name, 0, 0) for name in names]
            allowed &= np.logical_or.reduce(masks) == is_in
    shares = {
        (y, x): allowed[y : y + 9, x : x + 11].mean() for y in range(Y - 8) for x in range(X - 10)
    }
    try:
        made = export(plan)
    except (ExportError, ArgumentError):
        assert not any(share >= least for share in shares.values())
        return
    with closing(made):
        starts = {(row["y_start"], row["x_start"]) for row in made.table.to_pylist()}
        dropped = made.manifest.dropped
    assert all(shares[start] >= least for start in starts)
    if kind == "random":
        assert len(starts) == min(12, sum(share >= least for share in shares.values()))
    else:
        everywhere = ExportPlan(
            sources=plan.sources,
            out=folder / "b.patches",
            strategy=Tiled(size=(9, 11), overlap=(0, 4)),
            format="coordinates",
        )
        with closing(export(everywhere)) as whole:
            every = {(row["y_start"], row["x_start"]) for row in whole.table.to_pylist()}
        assert starts == {start for start in every if shares[start] >= least}
        assert sum(dropped.values()) == len(every) - len(starts)


def deep_plan(folder: Path, name: str, **fields: Any) -> ExportPlan:
    for i in range(2):
        if not (folder / f"{i}.tif").exists():
            image(folder / f"{i}.tif", seed=i)
            write(folder / f"{i}.geojson", DEEP if i else FLAT)
    sources = [
        SourceRef(
            path=folder / f"{i}.tif", annotations=folder / f"{i}.geojson", labels="annotations"
        )
        for i in range(2)
    ]
    strategy = Tiled(size=(12, 14), exclude_classes="Artefact", min_inside=0.6)
    options = {"strategy": strategy, "filters": ["share[Tumor]<0.9", "std>p10"], **fields}
    return ExportPlan(sources=sources, out=folder / f"{name}.patches.zarr", **options)


def test_every_executor_and_a_resumed_export_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spawned: ProcessPoolExecutor
) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 8 * 12 * 14 * 2)
    plans = [deep_plan(tmp_path, name) for name in "abcd"]
    export(plans[0], workers=1).close()
    export(plans[1], executor=spawned).close()
    plan_export(plans[2])
    for step in (score_job, write_job):
        for job in range(3):
            step(plans[2].out, job, 3)
    finalize_export(plans[2].out)
    for stage in ("score", "write"):
        with closing(iter_export(plans[3], workers=1)) as events:
            advance(events, stage)
    export(plans[3], workers=1).close()
    made = [digests(Path(plan.out)) for plan in plans]
    assert made[0] == made[1] == made[2] == made[3]
    assert list(verify(plans[0].out)) == []


def test_a_plan_is_its_own_json_and_its_command(tmp_path: Path) -> None:
    plan = deep_plan(tmp_path, "a", filters=['share[all Tumor,"a, [b] µ"]>0.1'])
    assert ExportPlan.model_validate_json(plan.model_dump_json()) == plan
    names = 'Tumor,"a, [b] µ","1"'
    first = plan.sources[0].model_copy(update={"scene": None})
    alone = plan.model_copy(
        update={
            "sources": (first,),
            "strategy": Tiled(size=(12, 14), region_classes=names, min_inside=0.25),
        }
    )
    assert alone.strategy.region_classes == ("Tumor", "a, [b] µ", "1")
    line = command_line(alone)
    assert line is not None
    assert "--labels annotations" in line
    assert "--min-inside 0.25" in line


def test_unused_fields_leave_no_trace(tmp_path: Path) -> None:
    plan = ExportPlan(
        sources=image(tmp_path / "a.tif"),
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(16, 16)),
    )
    content = plan.model_dump_json()
    for word in ("annotations", "min_inside", "classes"):
        assert word not in content
    with closing(export(plan)) as made:
        assert made.manifest.schema_version == 1
        assert "classes" not in made.manifest.model_dump_json()


def run(*words: str, **options: Any) -> ExportPlan:
    return plan_of_command(words, str(options.pop("out", "a.patches.zarr")), **options)


def test_annotations_are_found_by_the_names_of_files_and_scenes(
    czi: MakeCzi, tmp_path: Path
) -> None:
    folder = tmp_path / "outlines"
    folder.mkdir()
    slide = czi(SceneSpec(id=0, rect=(0, 0, 40, 30)), SceneSpec(id=2, rect=(90, 0, 40, 30)))
    tif = image(tmp_path / "b.ome.tif", "YX")
    files = [f"{slide.stem}.geojson", f"{slide.name}@2.geojson", "b.geojson"]
    for file in files:
        write(folder / file, FLAT)
    refs = run(str(slide), str(tif), annotations=str(folder)).sources
    assert [Path(ref.annotations.path).name for ref in refs if ref.annotations] == files
    (folder / "b.geojson").unlink()
    with pytest.raises(ArgumentError, match=r"no annotations of .*b\.ome\.tif.*b\.ome\.tif\.geojs"):
        run(str(slide), str(tif), annotations=str(folder))
    with pytest.raises(ArgumentError, match="one file for 2 images"):
        run(str(slide), annotations=str(folder / files[0]))
    one = run(f"{slide}@2", annotations=str(folder / files[0]), labels="annotations")
    assert one.sources[0].labels == ImageRef(path=one.sources[0].annotations.path)
    with pytest.raises(ArgumentError, match="of --annotations; add that option"):
        run(f"{slide}@2", labels="annotations")


def test_labels_images_with_class_names_are_annotations(tmp_path: Path) -> None:
    source = image(tmp_path / "a.tif", "YX")
    labels = np.zeros((Y, X), np.uint8)
    labels[5:40, 10:50], labels[20:30, 20:60], labels[50:, 70:] = 2, 5, 9
    tifffile.imwrite(tmp_path / "l.tif", labels)
    plan = run(
        str(source),
        annotations=str(tmp_path / "l.tif"),
        class_names='2=Tumor,"5=Stroma, dense"',
        labels="annotations",
        region_class='Tumor,"Stroma, dense"',
        min_inside=0.5,
        patch_size="10,10",
        filter=['share["Stroma, dense"]<0.9'],
        out=tmp_path / "a.patches.zarr",
    )
    line = command_line(plan)
    assert line is not None
    assert "--class-names" in line
    with closing(export(plan)) as made:
        rows, cut = made.table.to_pylist(), np.asarray(made["all/labels"])
        assert {c.name: c.value for c in made.manifest.classes} == {"Tumor": 2, "Stroma, dense": 5}
    for row in rows:
        y, x = row["y_start"], row["x_start"]
        box = labels[y : y + 10, x : x + 10]
        assert row["share_Tumor"] == (box == 2).mean()
        assert row["share_Stroma, dense"] == (box == 5).mean()
        assert np.isin(box, (2, 5)).mean() >= 0.5
        assert row["kept"] == (row["share_Stroma, dense"] < 0.9)
        if row["kept"]:
            np.testing.assert_array_equal(cut[row["index"]][0], box)
    assert list(verify(plan.out)) == []
    with pytest.raises(ArgumentError, match="name the classes of its values"):
        run(str(source), annotations=str(tmp_path / "l.tif"))
    for names, fault in {
        "300=x": "--class-names is 300; it must be less than or equal to 255",
        "x=1": "does not name a value",
        "1=x,1=y": "a value has two names",
    }.items():
        with pytest.raises(ArgumentError, match=fault):
            run(str(source), annotations=str(tmp_path / "l.tif"), class_names=names)
    with pytest.raises(ValueError, match="a source has no class_names; name them in its annotati"):
        SourceRef(path=source, annotations=str(tmp_path / "l.tif"), class_names="1=x")
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, labels[:-1])
    other = plan.sources[0].model_copy(
        update={"annotations": AnnotationsRef(path=small, classes="2=Tumor"), "labels": None}
    )
    with pytest.raises(ArgumentError, match=r"small\.tif is 1 x 1 x 59 x 80"):
        export(ExportPlan(sources=other, out=tmp_path / "b.patches.zarr", strategy=plan.strategy))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"filters": "share[Tumour]>0.1"}, "no class 'Tumour'; the annotations have Artefact, Str"),
        ({"strategy": Tiled(size=(9, 9), region_classes="tumor")}, "no class 'tumor'"),
        ({"strategy": Tiled(size=(9, 9), exclude_classes="x")}, "no class 'x'"),
    ],
)
def test_a_class_that_is_not_there_is_named(
    tmp_path: Path, fields: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ArgumentError, match=fault):
        export(deep_plan(tmp_path, "a", **fields))
    without = SourceRef(path=tmp_path / "0.tif")
    options = {"strategy": Tiled(size=(9, 9)), "filters": (), **fields}
    with pytest.raises(
        ArgumentError, match="as there are no annotations; add those of every source"
    ):
        export(ExportPlan(sources=without, out=tmp_path / "b.patches.zarr", **options))
    empty = SourceRef(path=tmp_path / "0.tif", annotations=write(tmp_path / "e.geojson", []))
    with pytest.raises(ArgumentError, match="as the annotations have no outline; draw some, or"):
        export(ExportPlan(sources=empty, out=tmp_path / "b.patches.zarr", **options))


def test_outlines_without_a_plane_next_to_others_are_named_if_no_patch_is_left(
    tmp_path: Path,
) -> None:
    drawn = [TUMOR, NEST._replace(z=1, t=0)]
    outlines = write(tmp_path / "a.geojson", drawn)
    source = SourceRef(path=image(tmp_path / "a.tif"), annotations=outlines)
    strategy = Tiled(size=(9, 9), region_classes="Tumor", select={"Z": (1, 3)})
    plan = ExportPlan(sources=source, out=tmp_path / "a.patches.zarr", strategy=strategy)
    why = "1 of the outlines in .*a.geojson have no plane, and so are of z 0 and t 0, as others"
    with pytest.raises(ExportError, match=rf"No patch to export \(.* outside of the region; {why}"):
        export(plan)


def test_what_lies_elsewhere_or_is_mended_is_said(tmp_path: Path) -> None:
    far = DIRT._replace(points=tuple((x + 500, y) for x, y in DIRT.points))
    deep = NEST._replace(z=9, t=0)
    tie = Drawn("Tumor", ((0, 0), (10, 10), (10, 0), (0, 10)))
    source = SourceRef(
        path=image(tmp_path / "a.tif"),
        annotations=write(tmp_path / "a.geojson", [TUMOR, far, deep, tie]),
    )
    plan = ExportPlan(
        sources=source, out=tmp_path / "a.patches.zarr", strategy=Tiled(size=(20, 20))
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export(plan).close()
    said = sorted(str(each.message).partition("a.geojson: ")[2] for each in caught)
    assert said == [
        "1 feature crosses or touches itself and was repaired, the first is number 4 (Tumor).",
        "1 of 4 features are of planes up to Z 9, but the image has 3, counted from 0.",
        "1 of 4 features lie outside of the image, which is 80 x 60; coordinates are "
        "full-resolution pixels.",
    ]


def test_changed_or_damaged_annotations_are_refused(tmp_path: Path) -> None:
    plan = deep_plan(tmp_path, "a")
    plan_export(plan)
    for job in (score_job, write_job):
        job(plan.out, 0, 1)
    write(tmp_path / "0.geojson", [TUMOR])
    with pytest.raises(ExportError, match=r"0\.geojson has changed"):
        finalize_export(plan.out)
    write(tmp_path / "0.geojson", FLAT)
    (tmp_path / "1.geojson").write_text('{"type": "FeatureCollection", "features": [')
    with pytest.warns(UserWarning, match="ends in the middle"):
        export(deep_plan(tmp_path, "b")).close()
    with PatchSet(tmp_path / "b.patches.zarr") as made:
        assert set(made.table["source_index"].to_pylist()) == {0}


def test_some_sources_without_annotations_are_refused(tmp_path: Path) -> None:
    plan = deep_plan(tmp_path, "a")
    lacking = plan.sources[1].model_copy(update={"annotations": None, "labels": None})
    first = plan.sources[0].model_copy(update={"labels": None})
    some = plan.model_copy(update={"sources": (first, lacking)})
    with pytest.raises(ArgumentError, match=r"every source has annotations, or none; .*1\.tif"):
        export(some)


def test_balanced_patches_are_drawn_from_outlines(tmp_path: Path) -> None:
    source = SourceRef(
        path=image(tmp_path / "a.tif", "YX"),
        labels=write(tmp_path / "a.geojson", [TUMOR, NEST]),
    )
    assert source.annotations is not None
    strategy = Balanced(size=(7, 7), count=60, classes={"Stroma": 0.5, "background": 0.5})
    plan = ExportPlan(sources=source, out=tmp_path / "a.patches.zarr", strategy=strategy)
    with closing(export(plan)) as made:
        rows, labels = made.table.to_pylist(), np.asarray(made["all/labels"])
        value = {each.name: each.value for each in made.manifest.classes}
    for row, patch in zip(rows, labels, strict=True):
        assert (patch == value.get(row["drawn_for"], 0)).any()
    assert [row["drawn_for"] for row in rows].count("Stroma") == 30
    assert list(verify(plan.out)) == []


@pytest.mark.parametrize("column", ["share_Tumor", "share_Stroma"])
def test_verify_finds_an_edited_share(tmp_path: Path, column: str) -> None:
    plan = deep_plan(tmp_path, "a", filters=())
    export(plan).close()
    file = Path(plan.out, TABLE)
    table = pq.read_table(file)
    values = table[column].to_pylist()
    values[7] = values[7] + 1 / (12 * 14)
    pq.write_table(
        table.set_column(table.column_names.index(column), column, pa.array(values)), file
    )
    messages = [finding.message for finding in verify(plan.out) if finding.name == "edited table"]
    assert any(f"{column} of row 7" in message for message in messages)


def starts(made: PatchSet) -> set[tuple[int, int]]:
    return {(row["y_start"], row["x_start"]) for row in made.table.to_pylist()}


def test_outlines_and_png_masks_are_regions(tmp_path: Path) -> None:
    source = image(tmp_path / "a.tif", "YX")
    outlines = write(tmp_path / "region.geojson", [TUMOR])
    inside = truth([TUMOR], "Tumor", 0, 0)
    opaque = np.full((Y, X), 255, np.uint8)
    grey = inside.astype(np.uint8) * 255
    files = {
        "grey.png": grey,
        "color.png": np.stack([grey, grey // 2, 0 * grey], axis=-1),
        "alpha.png": np.stack([opaque, opaque, opaque, grey], axis=-1),
        "opaque.png": np.stack([grey, opaque], axis=-1),
    }
    paths = [outlines, tmp_path / "region.json", *(tmp_path / name for name in files)]
    paths[1].write_text(outlines.read_text())
    for name, pixels in files.items():
        (tmp_path / name).write_bytes(imagecodecs.png_encode(pixels))
    for i, path in enumerate(paths):
        for least in (1, 0.3):
            out = tmp_path / f"{i} {least}.patches"
            plan = run(
                str(source), region=str(path), min_inside=least, patch_size="9,9", out=out,
                format="coordinates",
            )  # fmt: skip
            with closing(export(plan)) as made:
                shares = {
                    (y, x): inside[y : y + 9, x : x + 9].mean()
                    for y in [*range(0, Y - 9, 9), Y - 9]
                    for x in [*range(0, X - 9, 9), X - 9]
                }
                assert starts(made) == {start for start, s in shares.items() if s >= least}
            assert list(verify(plan.out)) == []
    (tmp_path / "bad.png").write_bytes(b"PNG")
    with pytest.raises(UnreadableFileError, match=r"bad\.png: it can't be read as PNG"):
        run(str(source), region=str(tmp_path / "bad.png"))
    plan = run(str(source), region=str(outlines), patch_size="9,9", out=tmp_path / "x.patches.zarr")
    write(outlines, [NEST])
    with pytest.raises(ExportError, match=r"region\.geojson has changed since the plan was made"):
        export(plan)


@pytest.mark.realdata
@pytest.mark.skipif(find_data() is None, reason=MISSING)
def test_files_as_people_have_them(tmp_path: Path) -> None:
    folder = (find_data() or Path()) / "reported"
    options = {"patch_size": "16,16", "format": "coordinates"}
    slide = str(folder / "he.tif")
    plan = run(slide, region=str(folder / "qupath.geojson"), out=tmp_path / "a.patches", **options)
    with closing(export(plan)) as made:
        expected = {
            (y, x)
            for y in range(0, 512, 16)
            for x in range(0, 512, 16)
            if y >= 50 and y + 16 <= 301 and x >= 50 and x + 16 <= 300
            if y + 16 <= 100 or y >= 150 or x + 16 <= 100 or x >= 150  # the hole is outside
        }
        assert starts(made) == expected
    mask = tifffile.imread(folder / "mask_low.tif")
    with tifffile.TiffFile(slide) as tiff:
        height, width = tiff.pages[0].shape[:2]
    assert mask.shape == (height // 4, width // 4)
    whole = mask.repeat(4, 0).repeat(4, 1) != 0
    plan = run(slide, region=str(folder / "mask_low.tif"), out=tmp_path / "b.patches", **options)
    with closing(export(plan)) as made:
        grid = {(y, x) for y in range(0, height - 15, 16) for x in range(0, width - 15, 16)}
        assert starts(made) == {(y, x) for y, x in grid if whole[y : y + 16, x : x + 16].all()}
        assert starts(made)


def test_the_patches_of_a_set_are_annotations_again(tmp_path: Path) -> None:
    """What is read, cut and written is read again: each patch is a tile, exactly where it lies."""
    plan = deep_plan(tmp_path, "a", filters=["share[Tumor]>0.5"])
    export(plan).close()
    with PatchSet(plan.out) as made:
        files = write_geojson(made, tmp_path / "tiles")
        rows = [row for row in made.table.to_pylist() if row["source_index"] == 1]
    (file,) = (file for file in map(Path, files) if file.name.startswith("1"))
    tiles = read_geojson(file)
    assert len(tiles) == len(rows)
    assert {"all"} < set(tiles.class_names)
    kept = np.zeros((Y, X), bool)
    for row in rows:
        if row["kept"] and (row["z"], row["t"]) == (2, 1):
            y, x = row["y_start"], row["x_start"]
            kept[y : y + row["y_size"], x : x + row["x_size"]] = True
    np.testing.assert_array_equal(tiles.mask(Rect(0, 0, X, Y), ["all"], z=2, t=1), kept)
