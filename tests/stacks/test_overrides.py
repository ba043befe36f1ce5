"""Axes, pixel size and channel names that the user overrides."""

from pathlib import Path

import numpy as np
import pytest

from napari_patchset import ExportPlan, Tiled, export, verify
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import command_line, make_plan
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import parse_pixel_size
from napari_patchset.stacks.opening import open_stack
from support.czi_maker import MakeCzi
from support.tiff_maker import as_stack, assert_whole, planes, write
from support.zarr_maker import drawn, write_array, write_image

NAMES = ("Alexa 488, em 520", "405")


def test_pages_without_axes_get_those_of_the_user(tmp_path: Path) -> None:
    data = planes(5)
    path = write(tmp_path / "plain.tif", data, metadata=None)
    for axes in ("ZYX", "tyx", "CYX"):
        depth = "none" if axes == "CYX" else axes[0].upper()
        with open_stack(path, depth_axis=depth, axes=axes) as stack:  # type: ignore[arg-type]
            assert stack.original_axes == axes.upper()
            assert_whole(stack, as_stack(data, axes.upper(), depth))
            assert len(stack.metadata.channels) == stack.data_shape[1]
    with open_stack(path) as stack:  # what is known of the file is not touched
        assert stack.original_axes == "SYX"


def test_an_array_gets_the_axes_of_the_user(tmp_path: Path) -> None:
    data = drawn("CYX", (6, 20, 30))
    path = write_array(tmp_path / "a.zarr", data)
    with open_stack(path, axes="CYX") as stack:
        assert stack.data_shape == (1, 6, 20, 30)
    with open_stack(path, depth_axis="T", axes="TXY") as stack:
        np.testing.assert_array_equal(
            stack.extract_patch(0, None, (0, 0, 0), (6, 30, 20))[0], data.swapaxes(1, 2)
        )


def test_pixel_size_and_channel_names_hold_at_every_level(tmp_path: Path) -> None:
    data = drawn("CYX", (2, 40, 60))
    path = write_image(tmp_path / "x.zarr", "CYX", data, data[:, ::2, ::2])
    with open_stack(path, pixel_size=(1, 0.2, 0.4), channel_names=NAMES) as stack:
        sizes = [level.metadata.pixel_size for level in stack.levels]
        assert sizes == [PixelSize(z=1, y=0.2, x=0.4), PixelSize(z=1, y=0.4, x=0.8)]
        for level in stack.levels:
            assert tuple(channel.name for channel in level.metadata.channels) == NAMES


def test_a_czi_takes_a_pixel_size_but_no_axes(czi: MakeCzi) -> None:
    path = czi()
    with open_stack(path, pixel_size=0.5) as stack:
        assert stack.metadata.pixel_size == PixelSize(y=0.5, x=0.5)
    with pytest.raises(ArgumentError, match="a CZI states its axes"):
        open_stack(path, axes="ZYX")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.tif", planes(5), metadata=None)
    for axes, problem in {
        "TZYX": r"which is S5 Y45 X70: Axes 'TZYX' name 4 dimensions.*need an OME-TIFF",
        "ZZX": "must contain Y and X",
        "YXZ": "Y and X must keep their places",
    }.items():
        with pytest.raises(ArgumentError, match=problem):
            open_stack(path, axes=axes)
    with pytest.raises(ArgumentError, match=r"3 channel names .* it has 1 channels"):
        open_stack(path, channel_names=["a", "b", "c"])
    for size in ("0", "-1", "a", "1,1,1,1", ()):
        with pytest.raises(ArgumentError, match="is not a pixel size"):
            parse_pixel_size(size)


def test_overrides_are_in_plan_command_and_set(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.tif", planes(2), metadata=None)
    options = {
        "patch_size": "16,16",
        "axes": "CYX",
        "source_pixel_size": "0.25",
        "channel_names": f'"{NAMES[0]}",405',
    }
    plan = make_plan([str(path)], str(tmp_path / "set.patches.zarr"), **options)
    (source,) = plan.sources
    assert source.overrides == {
        "axes": "CYX",
        "pixel_size": PixelSize(y=0.25, x=0.25),
        "channel_names": NAMES,
    }
    assert ExportPlan.model_validate_json(plan.model_dump_json()) == plan
    command = command_line(plan)
    assert command is not None
    assert (
        """--axes CYX --source-pixel-size 0.25,0.25 --channel-names '"Alexa 488, em 520","405"'"""
        in (command)
    )
    patches = export(plan)
    assert patches.manifest.channels == NAMES
    assert patches.manifest.pixel_size == PixelSize(y=0.25, x=0.25)
    assert patches.manifest.sources[0].axes == "CYX"
    assert list(verify(plan.out)) == []


def test_a_plan_without_stated_values_has_no_words_for_them(tmp_path: Path) -> None:
    plan = ExportPlan(sources="a.tif", strategy=Tiled(size=8), out="a.patches.zarr")
    assert set(plan.model_dump()["sources"][0]) == {"path", "scene", "target", "labels", "mask"}
