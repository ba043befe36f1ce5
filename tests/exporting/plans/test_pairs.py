"""Target, labels and pixel type: what is written beside the images, and as what."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset import ExportPlan, PatchSet, Tiled, export
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.plans.source_files import with_images
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import SCENES, plan_for
from support.pixels import expected

TARGETS = tuple(replace(scene, kind="Gray8", c=1, rect=(9, 9, *scene.rect[2:])) for scene in SCENES)


def read(made: PatchSet, name: str) -> np.ndarray:
    return zarr.open(str(made.path), mode="r")[name][:]


def paired(plan: ExportPlan, **beside: Any) -> ExportPlan:
    sources = [ref.model_copy(update=beside) for ref in plan.sources]
    return plan.model_copy(update={"sources": tuple(sources)})


@pytest.mark.parametrize("depth_axis", ["none", "Z"])
def test_a_target_is_cut_at_the_same_positions(
    czi: MakeCzi, tmp_path: Path, depth_axis: str
) -> None:
    strategy = Tiled(size=(16, 16) if depth_axis == "none" else (2, 16, 16))
    fields = {"strategy": strategy, "depth_axis": depth_axis}
    target = ImageRef(path=str(czi(*TARGETS, name="target.czi")))
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", **fields)
    with closing(export(paired(plan, target=target))) as made:
        entry = made.manifest.arrays["all/target"]
        patches = read(made, "all/target")
        for patch, row in zip(patches, made.table.to_pylist(), strict=True):
            scene = TARGETS[row["source_index"]]
            window = (row["y_start"], row["x_start"], 16, 16)
            first = row["z"] if depth_axis == "none" else scene.z.start + row["z_start"]
            planes = patch[:, np.newaxis] if depth_axis == "none" else patch
            for z, plane in enumerate(planes[0], first):
                where = {"T": row["t"], "Z": z, "C": 0}
                np.testing.assert_array_equal(plane, scene.pixels(where, window))
        assert (entry.dtype, entry.shape[1]) == ("uint8", 1)


def test_labels_may_have_another_file_format_than_the_target(czi: MakeCzi, tmp_path: Path) -> None:
    scene = SceneSpec(rect=(0, 0, 40, 32))
    labels = expected(0, 0, 32, 40, np.uint8, K=7)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    plan = plan_for(czi(scene), tmp_path / "a.patches.zarr")
    beside = {
        "target": ImageRef(path=str(czi(scene, name="t.czi"))),
        "labels": ImageRef(path=str(tmp_path / "labels.tif")),
    }
    with closing(export(paired(plan, **beside))) as made:
        assert sorted(made.manifest.arrays) == ["all/image", "all/labels", "all/target"]
        for patch, row in zip(read(made, "all/labels"), made.table.to_pylist(), strict=True):
            y, x = row["y_start"], row["x_start"]
            np.testing.assert_array_equal(patch[0], labels[y : y + 16, x : x + 16])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(SCENES[0], rect=(0, 0, 70, 49)), "Y 49, X 70, not T 2, Z 3, Y 50, X 70"),
        (replace(SCENES[0], t=range(1, 4)), "T 3, Z 3, Y 50, X 70, not T 2"),
    ],
)
def test_a_target_of_another_shape_is_named(
    czi: MakeCzi, tmp_path: Path, other: SceneSpec, said: str
) -> None:
    target = ImageRef(path=str(czi(other, SCENES[1], name="target.czi")))
    plan = paired(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr"), target=target)
    with pytest.raises(ExportError, match=rf"target\.czi, scene 3, the target of .*{said}"):
        export(plan)


def test_a_target_that_lacks_the_scene_or_the_source_is_refused(
    czi: MakeCzi, tmp_path: Path
) -> None:
    renumbered = [replace(scene, id=scene.id + 1) for scene in TARGETS]
    target = ImageRef(path=str(czi(*renumbered, name="target.czi")))
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    with pytest.raises(ArgumentError, match=r"has no scene 3 to pair with .*; its scenes are 4, 8"):
        export(paired(plan, target=target))
    first, second = plan.sources
    lacking = (first.model_copy(update={"target": target}), second)
    with pytest.raises(ArgumentError, match="scene 7 has none"):
        export(plan.model_copy(update={"sources": lacking}))


def test_a_folder_without_the_target_of_a_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    with pytest.raises(
        ArgumentError, match=r"clean, a folder that has no file a\.czi for b/a\.czi"
    ):
        with_images([SourceRef(path="b/a.czi")], "target", str(tmp_path / "clean"))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_pixels_are_cast_to_a_type_that_holds_every_value(
    czi: MakeCzi, tmp_path: Path, dtype: str
) -> None:
    path = czi(SceneSpec(rect=(0, 0, 32, 32)))
    with (
        closing(export(plan_for(path, tmp_path / "own.patches.zarr"))) as own,
        closing(export(plan_for(path, tmp_path / "cast.patches.zarr", dtype=dtype))) as cast,
    ):
        assert cast["all"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(cast["all"][:], own["all"][:])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16"])
def test_a_value_that_does_not_fit_is_one_error(czi: MakeCzi, tmp_path: Path, dtype: str) -> None:
    plan = plan_for(czi(), tmp_path / "a.patches.zarr", dtype=dtype)
    with pytest.raises(ExportError, match=rf"image\.czi.*{dtype} can't hold the value \d+ of the"):
        export(plan)


def test_sources_cast_to_one_type_may_differ_in_type(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(SceneSpec(id=0), SceneSpec(id=1, rect=(200, 0, 64, 48), kind="Gray8"))
    with closing(export(plan_for(path, tmp_path / "a.patches.zarr", dtype="uint16"))) as made:
        assert set(made.table["scene"].to_pylist()) == {"0", "1"}
