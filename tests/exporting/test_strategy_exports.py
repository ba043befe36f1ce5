"""Every strategy, from pixels that say where they come from to a patch set and back."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset import ExportPlan, ImageRef, PatchSet, SourceInfo, Tiled, export, open_stack
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.patching.regions import Rectangle
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.stacks.fingerprint import content_key
from support.czi_maker import MakeCzi, SceneSpec, make_czi
from support.strategy_makers import MAKERS, every_strategy, make_strategy

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 70, 50), t=range(1, 3), z=range(2, 6), c=2),
    SceneSpec(id=7, rect=(500, 0, 70, 50), t=range(1, 4), z=range(2, 6), c=2, missing=({"T": 2},)),
)
SIZES = {"none": (16, 24), "Z": (2, 16, 24), "T": (2, 16, 24)}


def write_tiff(scene: SceneSpec, folder: Path) -> Path:
    path = folder / "scene.ome.tif"
    tifffile.imwrite(path, whole(scene), metadata={"axes": "TZCYX"}, tile=(32, 32))
    return path


def write_zarr(scene: SceneSpec, folder: Path) -> Path:
    path, pixels = folder / "scene.zarr", whole(scene)
    names = ["t", "z", "c", "y", "x"]
    array = zarr.create_array(
        path,
        shape=pixels.shape,
        chunks=(1, 1, 2, 32, 32),
        dtype=pixels.dtype,
        dimension_names=names,
    )
    array[:] = pixels
    return path


WRITERS = {
    "CZI": lambda scene, folder: make_czi(folder / "scene.czi", (scene,), tile=(32, 32)),
    "TIFF": write_tiff,
    "zarr": write_zarr,
}


def whole(scene: SceneSpec) -> np.ndarray:
    """Draw a scene, TZCYX."""
    axes = range(scene.t), range(scene.z), range(scene.c)
    return np.array(
        [
            [[scene.pixels({"T": t, "Z": z, "C": c}) for c in axes[2]] for z in axes[1]]
            for t in axes[0]
        ]
    )


def plan_of(
    sources: Sequence[str | Path], out: Path, depth_axis: str, name: str, **more: Any
) -> ExportPlan:
    draft = ExportPlan(
        sources=sources, strategy=Tiled(size=SIZES[depth_axis]), depth_axis=depth_axis, out=out
    )
    strategy = make_strategy(name, SIZES[depth_axis], describe_sources(draft), **more)
    sources = draft.sources
    if strategy.reads_labels:
        infos = describe_sources(draft)
        sources = tuple(
            ref.model_copy(update={"labels": ImageRef(path=write_labels(info, out, i))})
            for i, (ref, info) in enumerate(zip(sources, infos, strict=True))
        )
    return draft.model_copy(update={"strategy": strategy, "sources": sources})


def write_labels(info: SourceInfo, out: Path, index: int) -> str:
    """Write labels of a source that are 0 and 1 in turn along each axis."""
    names = [axis.lower() for axis in info.axes if axis != "C"]
    labels = np.indices([info.layout.sizes[name.upper()] for name in names]).sum(axis=0) % 2
    path = out.with_name(f"{out.name}.labels {index}.zarr")
    array = zarr.create_array(
        path, shape=labels.shape, chunks="auto", dtype=np.uint8, dimension_names=names
    )
    array[:] = labels
    return str(path)


def expected_patch(
    row: dict[str, Any], shape: tuple[int, ...], scene: SceneSpec, depth_axis: str
) -> np.ndarray:
    """Draw what the table says a patch shows, zeros beyond the image."""
    drawn = np.zeros(shape, np.uint16)
    planes = drawn if depth_axis != "none" else drawn[:, np.newaxis]
    height, width = shape[-2] - row["pad_y"], shape[-1] - row["pad_x"]
    window = (row["y_start"], row["x_start"], height, width)
    where = {axis: row[axis.lower()] for axis in "TZ" if axis != depth_axis}
    depth = depth_axis.lower()
    for c, channel in enumerate(planes):
        for i, plane in enumerate(channel[: len(channel) - row.get(f"pad_{depth}", 0)]):
            if depth_axis != "none":
                span = {"T": scene.t, "Z": scene.z}[depth_axis]
                first = 0 if isinstance(span, int) else span.start
                where[depth_axis] = first + row[f"{depth}_start"] + i
            plane[:height, :width] = scene.pixels({**where, "C": c}, window)
    return drawn


def check(
    made: PatchSet, scenes: Sequence[SceneSpec] = SCENES, depth_axis: str = "none"
) -> list[dict[str, Any]]:
    """Hold every patch against its row, and give the rows."""
    rows = made.table.to_pylist()
    assert len(rows) == len(made["all"]) > 0
    for patch, row in zip(made["all"], rows, strict=True):
        scene = scenes[row["source_index"]]
        expected = expected_patch(row, patch.shape, scene, depth_axis)
        np.testing.assert_array_equal(patch, expected)
    return rows


def both(path: Path) -> list[str]:
    return [f"{path}@{scene.id}" for scene in SCENES]


def constant(name: str) -> dict[str, str]:
    """Fill with zeros, which no pixel is, what lies beyond the image."""
    return {"pad": "constant"} if name == "tiled, padded" else {}


SMALL = SceneSpec(rect=(0, 0, 40, 34), t=2, z=2, c=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the small scene as a file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    return {kind: write(SMALL, folder) for kind, write in WRITERS.items()}


def triples() -> Iterator[tuple[str, str, str, str]]:
    """Yield each kind of source, depth axis and strategy with one of the formats.

    Every two of the four meet.
    """
    formats, depth_axes = list(FORMATS), ("none", "Z", "T")
    each = product(enumerate(WRITERS), enumerate(depth_axes), enumerate(MAKERS))
    for (i, source), (j, depth_axis), (k, name) in each:
        yield source, depth_axis, name, formats[(i + j + k) % len(formats)]


@pytest.mark.parametrize(("source", "depth_axis", "name", "form"), list(triples()))
def test_every_format_gives_the_pixels_that_the_table_names(
    files: dict[str, Path], tmp_path: Path, source: str, depth_axis: str, name: str, form: str
) -> None:
    kind = FORMATS[form]
    plan = plan_of([files[source]], tmp_path / "a.patches.zarr", depth_axis, name, **constant(name))
    of_format = {"format": form, "out": str(tmp_path / f"a{kind.suffix}")}
    with closing(export(plan.model_copy(update=of_format), workers=1)) as made:
        if kind.has_pixels:
            rows = check(made, [SMALL], depth_axis)
            assert any(row["pad_y"] and row["pad_x"] for row in rows) == (name == "tiled, padded")
        else:
            check_places(made, files[source], depth_axis)


def check_places(made: PatchSet, file: Path, depth_axis: str) -> None:
    """Cut what a set without pixels names, and compare it with its rows."""
    axes = {"none": "yx", "Z": "zyx", "T": "tyx"}[depth_axis]
    with open_stack(file, depth_axis=depth_axis) as stack:
        for row in made.table.to_pylist():
            start, size = ([row[f"{axis}_{what}"] for axis in axes] for what in ("start", "size"))
            patch = stack.extract_patch(row["sample"], None, start, size)
            expected = expected_patch(row, patch.shape, SMALL, depth_axis)
            np.testing.assert_array_equal(patch, expected)


@every_strategy
@pytest.mark.parametrize("depth_axis", ["none", "Z"])
def test_every_pixel_comes_from_where_the_table_says(
    czi: MakeCzi, tmp_path: Path, name: str, depth_axis: str
) -> None:
    path = czi(*SCENES, tile=(32, 32))
    plan = plan_of(both(path), tmp_path / "a.patches.zarr", depth_axis, name, **constant(name))
    with closing(export(plan)) as made:
        rows = check(made, SCENES, depth_axis)
        assert {(row["scene"], row["t"]) for row in rows} == {
            *(("3", 1), ("3", 2), ("7", 1), ("7", 3))
        }
        assert name == "balanced" or made.manifest.dropped["missing plane"] > 0


@every_strategy
@pytest.mark.parametrize("depth_axis", ["none", "Z"])
def test_region_and_select_choose_what_is_exported(
    czi: MakeCzi, tmp_path: Path, name: str, depth_axis: str
) -> None:
    path = czi(*SCENES)
    with open_stack(path, 7) as stack:
        region = Rectangle(x=0, y=0, w=70, h=50, source=content_key(stack), scene=7)
    chosen = {"region": region, "select": {"T": (2, None), "Z": (None, 5)}}
    plan = plan_of(both(path), tmp_path / "a.patches.zarr", depth_axis, name, **chosen)
    with closing(export(plan)) as made:
        for row in check(made, SCENES, depth_axis):
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
        plan = plan_of(both(file), tmp_path / f"{i}.patches.zarr", "none", name)
        with closing(export(plan)) as made:
            manifests.append(made.manifest)
    assert manifests[0] == manifests[1]
