"""Each row of the list of reported inputs: in `info`, in an export, its table, and a window."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_patchset import ExportPlan, PatchSet, Tiled, expand_sources, export
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.stacks.opening import open_stack
from support.window import Window

pytestmark = pytest.mark.realdata


class Row(NamedTuple):
    """An input, and the values that are right.

    Attributes
    ----------
    scenes : int
        How many there are.
    axes : str
        Of the first scene, those of one index left out.
    scale : tuple of float
        Of the layer, along its axes.
    names : tuple of str
        Of the channels.
    absent : tuple of str
        What is named as absent.
    """

    scenes: int
    axes: str
    scale: tuple[float, ...]
    names: tuple[str, ...] = ("Channel 0",)
    absent: tuple[str, ...] = ()
    notice: str = ""


TWO = ("Channel 0", "Channel 1")
NAMES = ("405", "DAPI", "DAPI", "Alexa 488, em 520", "1", "CD8 [Opal 570]")
RGB = ("R", "G", "B")
ROWS = {
    "ome_set_by_position/t_s1.ome.tiff": Row(3, "YX", (0.1, 0.1), ("a",)),
    "ome_set_missing_part/tub_C0.ome.tif": Row(
        1, "ZYX", (1, 0.1, 0.1), ("a",), ("tub_C1.ome.tif",)
    ),
    "micromanager/ds_MMStack_Pos1.ome.tif": Row(
        2, "TZYX", (0.5, 1.5, 0.325, 0.325), ("DAPI", "GFP")
    ),
    "plate_missing_well.zarr": Row(3, "YX", (0.5, 0.5), TWO, ("B/5/1", "B/6")),
    "scale_without_unit.zarr": Row(
        1, "ZYX", (2, 0.5, 0.5), TWO, notice="Z 2, Y 0.5, X 0.5: the unit is not in the file"
    ),
    "v05.ozx": Row(1, "ZYX", (2, 0.5, 0.5), TWO),
    "imagej/zunit.tif": Row(1, "ZYX", (0.05, 0.008, 0.008)),
    "imagej/nospacing.tif": Row(1, "ZYX", (1, 0.2, 0.2)),
    "imagej/stack.tif": Row(1, "SYX", (1, 0.2, 0.2), notice="6 planes are Z, T or C"),
    "plain_pages.tif": Row(1, "SYX", (1, 1, 1), notice="5 planes are Z, T or C"),
    "ome/ren_win.ome.tif": Row(1, "ZYX", (1, 0.1, 0.1)),
    "ome/ren_nouuid.ome.tif": Row(1, "ZYX", (1, 0.1, 0.1)),
    "ome/names.ome.tif": Row(1, "YX", (0.5, 0.5), NAMES),
    "a.svs": Row(1, "YX", (0.499, 0.499), RGB),
    "a.lsm": Row(1, "ZYX", (0.5, 0.1, 0.1), ("Channel 0", "Channel 1", "Channel 2")),
    "bilevel_ccitt.tif": Row(1, "SYX", (1, 1, 1), notice="3 planes are Z, T or C"),
    "he.tif": Row(1, "YX", (1, 1), RGB),
    "jpeg_gray8.czi": Row(1, "YX", (0.25, 0.25)),
    "lzw_gray16.czi": Row(1, "YX", (0.25, 0.25)),
    "gray64float.czi": Row(1, "YX", (0.25, 0.25)),
    "jpegxr_bgr24.czi": Row(1, "YX", (0.25, 0.25), RGB),
    "coord_extreme.czi": Row(1, "YX", (0.25, 0.25), ("ch0",)),
}


PLACE = ("source_index", "sample", "y_start", "x_start")


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest, data_dir: Path) -> tuple[Path, Row]:
    return data_dir / "reported" / request.param, ROWS[request.param]


@pytest.fixture(autouse=True)
def _said_elsewhere() -> Iterator[None]:
    """Let warnings pass; `tests/stacks/test_reported.py` is about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plan_of(paths: list[Path], folder: Path, size: int) -> ExportPlan:
    strategy, out = Tiled(size=(size, size)), folder / "a.patches.zarr"
    return ExportPlan(sources=expand_sources(paths), strategy=strategy, out=out)


def test_info(row: tuple[Path, Row], run: Callable[..., tuple[int, str, str]]) -> None:
    path, right = row
    scenes = json.loads(run("info", path, "--json")[1])
    first = scenes[0]
    assert len(scenes) == right.scenes
    sizes = dict(zip(first["axes"], first["shape"], strict=True))
    assert {axis for axis, n in sizes.items() if n > 1} == {
        *right.axes,
        *("C" * (len(right.names) > 1)),
    }
    assert tuple(first["channels"]) == right.names
    assert tuple(first["absent"]["names"]) == right.absent
    lengths = {**first["pixel_size"], "t": first["time_step_s"]} | {
        axis.lower(): size for axis, size in first["unitless_size"].items()
    }
    found = [lengths.get(axis.lower()) or 1 for axis in right.axes]
    assert found == pytest.approx(list(right.scale))


def test_export_and_table(row: tuple[Path, Row], tmp_path: Path) -> None:
    path, right = row
    plan = plan_of([path], tmp_path, 32)
    with export(plan) as patches:
        assert {info.scene for info in patches.manifest.sources} == {
            ref.scene for ref in plan.sources
        }
        assert patches.manifest.channels == right.names
        table = patches.table.to_pylist()
        assert len(table) == len(patches["all"])
        assert len({tuple(r[key] for key in PLACE) for r in table}) == len(table)
        for index in {0, len(table) // 2, len(table) - 1}:
            found = table[index]
            ref = plan.sources[found["source_index"]]
            with open_stack(ref.path, ref.scene) as stack:
                start = (found["y_start"], found["x_start"])
                pixels = stack.extract_patch(found["sample"], None, start, (32, 32))
            np.testing.assert_array_equal(patches["all"][found["index"]], pixels)


def test_window(row: tuple[Path, Row], window: Window) -> None:
    path, right = row
    window.viewer.open(str(path), plugin=PLUGIN)
    window.until(lambda: window.state is not None)
    window.settle()
    images = [layer for layer in window.images if hasattr(layer, "colormap")]
    assert len(images) == (1 if right.names == RGB else len(right.names))
    if right.names != RGB:
        assert tuple(layer.name.partition(" [")[0] for layer in images) == tuple(
            name.partition(" [")[0] for name in right.names
        )
    for layer in images:
        assert "".join(layer.axis_labels).upper() == right.axes
        assert layer.scale.tolist() == pytest.approx(list(right.scale))
    assert len(window.widget.source_control.context.scenes) == right.scenes
    notes = window.widget.source.notes.value
    for name in right.absent:
        assert name in notes
    assert right.notice in notes
    assert bool(notes) == bool(right.absent or right.notice)
    strategy = window.state.recipe.strategy
    plan = ExportPlan(sources=[window.state.source], strategy=strategy, out="none.patches.zarr")
    assert f"<b>{len(strategy.plan(describe_sources(plan))):,}</b> patch" in window.summary


def test_the_positions_of_a_set_are_one_split_each_once(data_dir: Path, tmp_path: Path) -> None:
    paths = sorted((data_dir / "reported" / "ome_set_by_position").glob("*.tiff"))
    plan = plan_of(paths, tmp_path, 16)
    with export(plan) as patches:
        table = patches.table.to_pylist()
    assert len(table) == len({r["checksum"] for r in table}) == 48


def test_channels_by_any_name(
    data_dir: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = shutil.copy(data_dir / "reported" / "ome" / "names.ome.tif", tmp_path)
    options = ("--patch-size", "16,16", "--overwrite", "--out", "a.patches.zarr", "--channels")
    for text, names in {
        "405": ("405",),
        '"Alexa 488, em 520","1"': ("Alexa 488, em 520", "1"),
        '"CD8 [Opal 570]"': ("CD8 [Opal 570]",),
        "#2": ("DAPI",),
    }.items():
        assert run("export", path, *options, text)[0] == 0
        with PatchSet("a.patches.zarr") as patches:
            assert patches.manifest.channels == names
    code, _, error = run("export", path, *options, "DAPI")
    assert code == 1
    assert "There are 2 channels 'DAPI'" in error


@pytest.mark.parametrize("name", ["imagej/stack.tif", "plain_pages.tif"])
def test_a_person_says_which_axis_pages_are(name: str, data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "reported" / name
    source: dict[str, Any] = {"path": str(path), "axes": "ZYX"}
    plan = ExportPlan.model_validate(
        {
            "sources": [source],
            "strategy": {"kind": "tiled", "size": (2, 32, 32)},
            "depth_axis": "Z",
            "out": str(tmp_path / "a.patches.zarr"),
        }
    )
    with export(plan) as patches:
        assert patches["all"].shape[1:] == (1, 2, 32, 32)
    with pytest.raises(ArgumentError, match="name 4 dimensions"):
        open_stack(path, axes="TZYX")


@pytest.mark.gui
@pytest.mark.parametrize("name", ["qupath.geojson", "mask_low.tif"])
def test_a_region_that_is_a_file_is_shown_and_exported_by_the_window(
    name: str, data_dir: Path, tmp_path: Path, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, region = (str(data_dir / "reported" / file) for file in ("he.tif", name))
    out = tmp_path / "command.patches.zarr"
    plan = make_plan([slide], str(out), region=region, patch_size="16,16")
    export(plan).close()
    saved = tmp_path / "plan.json"
    saved.write_text(plan.model_dump_json())
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(saved), ""))
    window.widget.export.load_plan.trigger()
    window.settle()
    window.export_to(tmp_path / "window.patches.zarr").close()
    with PatchSet(out) as ours, PatchSet(tmp_path / "window.patches.zarr") as theirs:
        assert 0 < len(ours["all"]) < 1024  # of 32 x 32
        assert np.array_equal(ours["all"][:], theirs["all"][:])
