"""A scene is opened once to be described, whatever depth axis is chosen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image

from napari_patchset import SourceRef, Tiled
from napari_patchset.axes import DEPTH_AXES
from napari_patchset.errors import MissingAxisError
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.regions import Rectangle
from napari_patchset.plugin import descriptions
from napari_patchset.plugin.descriptions import Descriptions
from napari_patchset.plugin.layers.layer_stack import LayerStack, register_layer
from napari_patchset.plugin.scene_context import unused_name
from napari_patchset.plugin.state import FormState, refresh_region
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.fingerprint import is_detailed
from napari_patchset.stacks.metadata import SceneSummary, describe
from napari_patchset.stacks.opening import open_stack
from support.czi_maker import MakeCzi, SceneSpec

SHAPE = (3, 2, 4, 20, 30)


def make_czi_with_holes(folder: Path, czi: MakeCzi) -> Path:
    holes = ({"T": 1, "Z": 2, "C": 0}, {"T": 0, "Z": 3})
    return czi(SceneSpec(rect=(5, 7, 30, 20), t=range(2, 5), z=4, c=2, missing=holes))


def make_tiff(folder: Path, _: MakeCzi) -> Path:
    path = folder / "image.ome.tif"
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), metadata={"axes": "TCZYX"}, tile=(16, 16))
    return path


def make_zarr(folder: Path, _: MakeCzi) -> Path:
    path = folder / "image.zarr"
    names = ["t", "c", "z", "y", "x"]
    zarr.create_array(
        path, data=np.zeros(SHAPE, "u2"), chunks=(1, 1, 2, 8, 8), dimension_names=names
    )
    return path


def said(info: SourceInfo) -> object:
    """Return all that a description says; only the order of depth and channels may be another."""
    own = {name: getattr(info, name) for name in SourceInfo.model_fields if name != "axes"}
    layout = info.layout
    laid_out = layout.sample_axes, layout.sample_shape, layout.stack_axes, layout.stack_shape
    return {**own, "shape": sorted(info.shape), "layout": laid_out}


@pytest.mark.parametrize("make", [make_czi_with_holes, make_tiff, make_zarr])
def test_another_depth_axis_needs_no_file(
    make: Callable[[Path, MakeCzi], Path], tmp_path: Path, czi: MakeCzi
) -> None:
    path = make(tmp_path, czi)
    known = Descriptions()
    for axis in DEPTH_AXES:
        with open_stack(path, None, axis) as stack:
            expected = describe(stack)
        ref = ImageRef(path=str(path), scene=expected.scene)
        found = known.describe(ref, axis)
        assert said(found) == said(expected)
        assert found.with_depth_axis("none") == known.describe(ref)


def test_a_layer_has_depth_too() -> None:
    layer = Image(np.zeros((3, 4, 20, 30)), axis_labels=("t", "z", "y", "x"))
    found = Descriptions().describe(ImageRef(path=str(register_layer(layer))), "Z")
    assert found.layout == LayerStack(layer, "Z")._layout
    assert found.layout.stack_shape == (3, 1, 4, 20, 30)


def test_an_axis_that_is_not_there_is_refused(czi: MakeCzi) -> None:
    path = czi(SceneSpec(z=2))
    with pytest.raises(MissingAxisError, match=r"image\.czi@0 does not contain a T axis"):
        Descriptions().describe(ImageRef(path=str(path), scene=0), "T")


def test_a_scene_is_opened_once_until_it_is_forgotten(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, opened = ImageRef(path=str(czi(SceneSpec(z=2))), scene=0), list[Any]()
    open_image = descriptions.open_image
    monkeypatch.setattr(
        descriptions, "open_image", lambda *args: opened.append(args) or open_image(*args)
    )
    known = Descriptions()
    assert known.latest(ref) is None
    flat = known.describe(ref)
    assert known.describe(ref, "Z") is known.describe(ref, "Z")
    assert known.describe(ref, "Z").depth_axis == "Z"
    assert len(opened) == 1
    known.forget()
    assert known.latest(ref) is flat
    assert known.describe(ref) == flat
    assert len(opened) == 2


def test_what_is_forgotten_meanwhile_is_not_taken_for_new(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, known, described = ImageRef(path=str(czi()), scene=0), Descriptions(), list[Any]()
    describe = descriptions.describe

    def forgotten(*args: Any) -> Any:
        if not described:
            known.forget()
        described.append(args)
        return describe(*args)

    monkeypatch.setattr(descriptions, "describe", forgotten)
    for _ in range(3):
        known.describe(ref)
    assert len(described) == 2


def test_a_region_is_bound_to_what_all_files_are_now(tmp_path: Path) -> None:
    """Only beside a file that looks like its own is its key detailed."""
    paths, pixels = [tmp_path / "a.tif", tmp_path / "b.tif"], np.zeros((512, 512), np.uint16)
    for path in paths:
        tifffile.imwrite(path, pixels, metadata=None)
        pixels[150, 40] = 5  # which no fingerprint samples
    box = Rectangle(source="unread", x=0, y=0, w=99, h=99)
    recipe = Recipe(strategy=Tiled(size=(64, 64), region=box))
    state = FormState(tuple(SourceRef(path=str(path)) for path in paths), 0, recipe)

    def key() -> str:
        region = refresh_region(state).recipe.strategy.region
        assert region is not None
        assert region.source == state.told_apart()[0][0].key
        return region.source

    assert is_detailed(key())
    tifffile.imwrite(paths[1], np.full((512, 512), 7, np.uint16), metadata=None)
    assert not is_detailed(key())
    pixels[150, 40] = 6
    tifffile.imwrite(paths[1], pixels, metadata=None)
    assert is_detailed(key())


def test_parts_are_known_of_a_scene_that_was_forgotten(tmp_path: Path) -> None:
    path, known = tmp_path / "image.tif", Descriptions()
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), metadata=None)
    ref = ImageRef(path=str(path))
    before = known.describe(ref).key
    assert known.parts(ref) == (before,)
    tifffile.imwrite(path, np.ones((64, 64), np.uint8), metadata=None)
    known.forget()
    assert known.parts(ref) == (known.describe(ref).key,) != (before,)


def test_a_scene_is_named_as_the_window_names_it(tmp_path: Path) -> None:
    path, known = tmp_path / "plate.czi", Descriptions()
    scene = SceneSummary(3, "Monolayer", Rect(0, 0, 9, 9), "YX", (9, 9), "uint8")
    twins = [replace(scene, id=i, name="TR") for i in (4, 5)]
    refs = [ImageRef(path=str(path), scene=i) for i in (3, 4, 5)]
    assert known.label(refs[0]) == "scene 3"
    known.learn(path, [scene, *twins])
    assert list(map(known.label, refs)) == ["Monolayer", "TR (scene 4)", "TR (scene 5)"]


def test_an_unused_name_counts_on(tmp_path: Path) -> None:
    assert unused_name(tmp_path / "cells-2.patches.zarr").name == "cells-2.patches.zarr"
    for taken, free in (("cells", "cells-2"), ("cells-2", "cells-3"), ("b-7", "b-7-2")):
        (tmp_path / f"{taken}.patches.zarr").mkdir()
        assert unused_name(tmp_path / f"{taken}.patches.zarr").name == f"{free}.patches.zarr"
