"""Files that are dropped on the window, and the sample of its menu."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset.plugin import reader, sample_data
from napari_patchset.plugin.layers.viewer_images import view_of
from napari_patchset.plugin.napari_compat import Opener
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.stacks.zarr.stack import ZarrImageStack
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import answering, drop, soon
from support.window import WAIT_MS, XML, Window

PIXELS = np.arange(2 * 40 * 30, dtype=np.uint16).reshape(2, 40, 30)


def make_tiff(folder: Path) -> Path:
    path = folder / "image.tif"
    tifffile.imwrite(
        path, PIXELS, metadata={"axes": "ZYX", "spacing": 2, "unit": "um"}, imagej=True
    )
    return path


def make_zarr(folder: Path) -> Path:
    path = folder / "image.zarr"
    zarr.create_array(path, data=PIXELS, chunks=(1, 16, 16), dimension_names=["z", "y", "x"])
    return path


def test_a_czi_opens_at_once_and_several_go_side_by_side(
    window: Window, file: Path, czi: MakeCzi
) -> None:
    second = czi(SceneSpec(rect=(0, 0, 80, 70)), name="second.czi", xml=XML)
    drop(window, file, second)
    window.until(lambda: window.state is not None)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP", "second: DAPI"]
    offered = window.widget.source.file.choices
    assert {Path(path).name for path in offered if path} == {"image.czi", "second.czi"}


def test_the_window_goes_to_a_small_file_that_is_opened_beside_a_large_one(
    window: Window, czi: MakeCzi
) -> None:
    """It had stayed a dot in a corner."""
    window.open(czi(SceneSpec(rect=(0, 0, 900, 900)), name="large.czi"))
    window.open(czi(SceneSpec(rect=(0, 0, 40, 30)), name="small.czi"))
    shown = window.widget.source_control.shown_scene.layers[-1]
    low, high = view_of(window.viewer, shown)
    assert max(low) <= 0
    assert 0.5 < max(30 / (high[0] - low[0]), 40 / (high[1] - low[1])) <= 1


@pytest.mark.parametrize("make", [make_tiff, make_zarr])
def test_where_napari_asks_ours_is_a_choice(
    window: Window, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    offered = answering(window, "Patchset")
    drop(window, path)
    (layer,) = window.images
    assert len(offered) == 1
    assert "Patchset" in offered[0]
    assert len(offered[0]) > 1
    np.testing.assert_array_equal(layer.data[1], PIXELS[1])
    window.until(lambda: window.state is not None and window.state.source.path == str(path))
    if make is make_zarr:
        assert isinstance(layer.data.stack, ZarrImageStack)


def test_a_folder_opens_as_its_first_image_and_the_others_join_its_set(
    window: Window, tmp_path: Path
) -> None:
    """napari offered the reader for a folder, which then refused it."""
    folder = tmp_path / "fields"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"field_{number}.tif", PIXELS[0] + number)
    (folder / "notes.txt").write_text("not an image")
    answering(window, "Patchset")
    drop(window, folder)
    window.until(lambda: window.state is not None and len(window.state.sources) == 3)
    assert [Path(ref.path).name for ref in window.state.sources] == [
        f"field_{number}.tif" for number in range(3)
    ]
    (layer,) = window.images
    np.testing.assert_array_equal(layer.data, PIXELS[0])

    other = tmp_path / "others"  # opened by a script, while the status bar has something to tell
    other.mkdir()
    for number in range(2):
        tifffile.imwrite(other / f"other_{number}.tif", PIXELS[0] - number)
    window.widget.preview.status.tell("Undone: what was drawn")
    window.viewer.open(str(other), plugin=PLUGIN)
    window.until(lambda: window.state is not None and len(window.state.sources) == 2)
    assert [Path(ref.path).name for ref in window.state.sources] == ["other_0.tif", "other_1.tif"]
    window.widget.preview.status.tell("")
    assert "Opening" not in str(window.viewer.status)


def test_a_broken_file_is_one_notification(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reader, "show_error", said.append)
    file.write_bytes(file.read_bytes()[:-300])
    soon(lambda: drop(window, file))
    window.until(lambda: bool(said))
    assert len(said) == 1
    assert "image.czi: damaged or cut short" in said[0]
    assert not window.viewer.layers


def test_the_sample_is_drawn_in_the_background_and_opens_from_the_menu_at_once_if_it_is_there(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, missing = Event(), tmp_path / "not drawn yet.czi"
    monkeypatch.setattr(sample_data, "sample_path", lambda: missing)
    monkeypatch.setattr(sample_data, "ensure_sample", lambda: go_on.wait(WAIT_MS / 1000) and file)
    _choose_sample(window)
    assert window.viewer.status.startswith("Drawing the sample")
    window.type_number(window.widget.patches.size.boxes[1], 24, settle=False)
    assert not window.viewer.layers
    go_on.set()
    window.until(lambda: window.state is not None and window.state.source.path == str(file))
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]
    assert "Drawing" not in str(window.viewer.status)

    window.viewer.layers.clear()
    window.settle()
    monkeypatch.setattr(sample_data, "sample_path", lambda: file)
    _choose_sample(window)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]


def test_a_window_that_is_closed_while_the_sample_is_drawn_shows_nothing(
    make_napari_viewer: Any, qtbot: Any, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, missing, viewer = Event(), tmp_path / "not drawn yet.czi", make_napari_viewer(show=True)
    monkeypatch.setattr(sample_data, "sample_path", lambda: missing)
    monkeypatch.setattr(sample_data, "ensure_sample", lambda: go_on.wait(WAIT_MS / 1000) and file)
    monkeypatch.setattr(Opener, "find", lambda: Opener(viewer, True))
    viewer.open_sample(PLUGIN, "cells")
    viewer.close()
    go_on.set()
    qtbot.waitUntil(
        lambda: not any(each.name == "patchset-worker" for each in enumerate_threads()),
        timeout=WAIT_MS,
    )
    qtbot.wait(0)
    assert not viewer.layers


def _choose_sample(window: Window) -> None:
    actions = _actions(window.viewer.window.file_menu.actions())
    (sample,) = (a for a in actions if a.text().startswith("Cells in three scenes"))
    sample.trigger()


def _actions(actions: Sequence[Any]) -> Sequence[Any]:
    """Return the actions of a menu and of those in it."""
    found = []
    for action in actions:
        found.append(action)
        if (menu := action.menu()) is not None:
            menu.aboutToShow.emit()
            found += _actions(menu.actions())
    return found
