"""The window goes on while its form waits for a file, however slow the storage is."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.plugin import reader
from napari_patchset.plugin import scene_context as facts
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.scenes import source_control as sourcing
from napari_patchset.stacks.opening import list_scenes
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drop, soon
from support.window import WAIT_MS, Window


class SlowDisk:
    """Return no file's structure until it is told to."""

    def __init__(self) -> None:
        self.ready, self.fault = Event(), ""

    def list_scenes(self, path: Path) -> Any:
        assert self.ready.wait(60), "the window waits for storage"
        if self.fault:
            raise UnreadableFileError(self.fault)
        return list_scenes(path)

    def image_scenes(self, ref: ImageRef) -> Any:
        return self.list_scenes(Path(ref.path))


def test_what_goes_wrong_is_said_once_and_the_status_bar_says_what_is_opened(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reader, "show_error", said.append)
    path = tmp_path / "text.czi"
    path.write_text("this is no image")
    drop(window, path)
    assert len(said) == 1
    assert "not a CZI file" in said[0]
    assert not names(window)
    with pytest.raises(UnreadableFileError, match="not a CZI file"):
        window.viewer.open(str(path), plugin=PLUGIN)

    shown: list[str] = []
    bar = window.viewer.window._qt_window.statusBar()
    monkeypatch.setattr(bar, "repaint", lambda: shown.append(window.viewer.status))
    drop(window, file)
    assert shown == ["Opening image.czi…"]
    assert window.viewer.status != shown[0]
    assert names(window) == ["DAPI", "EGFP"]


def test_keys_are_heard_while_a_file_is_opened_in_the_widget(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk()
    monkeypatch.setattr(reader, "list_scenes", disk.list_scenes)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    window.click(window.widget.source.open, settle=False)
    assert window.viewer.status == "Opening image.czi…"
    window.type_number(window.widget.patches.size.boxes[1], 24, settle=False)
    assert not names(window)
    disk.ready.set()
    window.until(lambda: window.state is not None)
    window.settle()
    assert names(window) == ["DAPI", "EGFP"]
    assert window.state.recipe.strategy.size[0] == 24


def test_a_window_that_is_closed_while_a_file_is_opened_shows_nothing(
    make_napari_viewer: Any, qtbot: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, said = SlowDisk(), list[str]()
    monkeypatch.setattr(reader, "list_scenes", disk.list_scenes)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    for module in (reader, sourcing):
        monkeypatch.setattr(module, "show_error", said.append)
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
    files = widget.source_control.file_opener.worker
    widget.source.open.native.click()
    assert files.running
    viewer.close()
    disk.ready.set()
    qtbot.waitUntil(lambda: files.at_rest, timeout=WAIT_MS)
    assert (said, list(viewer.layers)) == ([], [])


def names(window: Window) -> list[str]:
    return [layer.name for layer in window.images]


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Open files at once, and let the widget wait for what it asks of them."""
    disk = SlowDisk()
    monkeypatch.setattr(facts, "image_scenes", disk.image_scenes)
    yield disk
    disk.ready.set()


def test_the_form_waits_for_what_it_asks_of_a_file_that_is_there_and_can_be_read(
    window: Window, file: Path, unread: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = window.widget
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "Reading image.czi…")
    assert not widget.export.start.enabled
    window.type_number(widget.patches.size.boxes[1], 24, settle=False)
    assert window.state is None
    unread.ready.set()
    window.until(lambda: "</b> patches" in window.summary)
    assert window.state.recipe.strategy.size == (24, 24)
    window.until(lambda: widget.export.start.enabled)

    window.viewer.layers.clear()
    window.settle()
    unread.ready.clear()
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "Reading image.czi…")
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    unread.ready.set()
    window.until(lambda: widget.source_control.reading.at_rest)
    assert window.state is None
    assert "Open a CZI" in window.summary

    said: list[str] = []
    monkeypatch.setattr(sourcing, "show_error", said.append)
    unread.fault = "image.czi: damaged"
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "image.czi: damaged")
    assert said == ["image.czi: damaged"]
    assert not widget.export.start.enabled


def test_a_scene_is_dropped_that_comes_when_another_image_is_chosen(
    window: Window, file: Path, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, go_on, opened = czi(SceneSpec(), name="second.czi"), Event(), facts.scene_layers
    window.open(second)
    window.open(file)
    monkeypatch.setattr(facts, "scene_layers", lambda *args: go_on.wait(60) and opened(*args))
    opening = window.widget.source_control.opening
    window.click_scene(1, settle=False)
    window.until(lambda: opening.running)
    window.widget.source.file.value = second
    go_on.set()
    window.settle()
    assert window.widget.source_control.context.path == second
    assert window.state.source.path == str(second)
