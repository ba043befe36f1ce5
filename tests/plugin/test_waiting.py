"""The window goes on while a file is opened, however slow its storage is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import pytest
from napari import current_viewer
from qtpy.QtCore import QTimer

from napari_patchset.errors import UnreadableFileError
from napari_patchset.plugin import reader
from napari_patchset.plugin import scene_context as facts
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.plugin.scenes import source as sourcing
from napari_patchset.plugin.worker import beside
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drop, soon
from support.window import WAIT_MS, Window


class SlowDisk:
    """Give no file's structure until it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ready = {"image.czi": Event(), "second.czi": Event()}
        self.fault = ""

    def list_scenes(self, path: Path) -> Any:
        self.asked.append(path.name)
        assert self.ready[path.name].wait(60), "the window waits for storage"
        if self.fault:
            raise UnreadableFileError(self.fault)
        return self.found(path)

    found: Callable[[Path], Any] = staticmethod(reader.list_scenes)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk()
    monkeypatch.setattr(reader, "list_scenes", disk.list_scenes)
    yield disk
    for each in disk.ready.values():
        each.set()


Story = Iterator[Callable[[], bool]]


def play(window: Any, story: Story) -> None:
    """Go on with a story, each time that what it waits for is so, from within the window's loop.

    A test that waits for a condition is held up itself by a loop within the loop.
    """
    awaited, ended = next(story), list[BaseException]()

    def look() -> None:
        nonlocal awaited
        try:
            while awaited():
                awaited = next(story)
        except BaseException as error:
            timer.stop()
            ended.append(error)

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    window.waitUntil(lambda: bool(ended), timeout=WAIT_MS)
    if not isinstance(ended[0], StopIteration):
        raise ended[0]


def thread_name() -> str:
    return current_thread().name


def names(window: Window) -> list[str]:
    return [layer.name for layer in window.images]


def test_keys_are_heard_while_a_dropped_file_is_opened(
    window: Window, file: Path, disk: SlowDisk
) -> None:
    size = window.widget.patches.size.boxes[1]

    def story() -> Story:
        soon(lambda: drop(window, file))
        yield lambda: window.viewer.status == "Opening image.czi…"
        soon(lambda: window.type_number(size, 24))
        yield lambda: bool(size.value == 24)
        assert disk.asked == ["image.czi"]
        assert not names(window)
        disk.ready["image.czi"].set()

    play(window.qtbot, story())
    window.until(lambda: window.state is not None)
    assert names(window) == ["DAPI", "EGFP"]
    assert window.viewer.status != "Opening image.czi…"


def test_a_file_is_opened_while_another_one_is(
    window: Window, file: Path, czi: MakeCzi, disk: SlowDisk
) -> None:
    second = czi(SceneSpec(rect=(0, 0, 80, 70)), name="second.czi")

    def story() -> Story:
        soon(lambda: drop(window, file))
        yield lambda: disk.asked == ["image.czi"]
        soon(lambda: drop(window, second))
        yield lambda: disk.asked == ["image.czi", "second.czi"]
        for each in disk.ready.values():
            each.set()

    play(window.qtbot, story())
    window.until(lambda: len(names(window)) == 3)
    assert sorted(names(window)) == ["Channel 0", "DAPI", "EGFP"]


@pytest.mark.parametrize("fault", ["", "image.czi: damaged"])
def test_a_window_that_is_closed_meanwhile_shows_nothing(
    make_napari_viewer: Any,
    qtbot: Any,
    file: Path,
    disk: SlowDisk,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reader, "show_error", said.append)
    monkeypatch.setattr(reader.Opener, "tell", lambda _, text: said.append(text))
    viewer, opened, disk.fault = make_napari_viewer(), list[Any](), fault

    def story() -> Story:
        soon(lambda: opened.append(viewer.open(str(file), plugin=PLUGIN)))
        yield lambda: disk.asked == ["image.czi"]
        soon(viewer.close)
        yield lambda: current_viewer() is None
        disk.ready["image.czi"].set()

    play(qtbot, story())
    qtbot.waitUntil(lambda: opened == [[]])
    assert not said


def test_what_goes_wrong_is_said_once(
    window: Window, file: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(reader, "show_error", said.append)
    disk.fault = "image.czi: damaged"
    disk.ready["image.czi"].set()
    soon(lambda: drop(window, file))
    window.until(lambda: bool(said))
    window.qtbot.wait(20)
    assert said == ["image.czi: damaged"]
    assert not names(window)


@pytest.fixture
def unread(disk: SlowDisk, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """Open files at once, and let the widget wait for what it asks of them."""
    monkeypatch.setattr(reader, "list_scenes", disk.found)
    monkeypatch.setattr(facts, "image_scenes", disk.list_scenes)
    return disk


def test_the_form_waits_for_what_it_asks_of_a_file(
    window: Window, file: Path, unread: SlowDisk
) -> None:
    widget = window.widget
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "Reading image.czi…")
    assert not widget.export.start.enabled
    window.type_number(widget.patches.size.boxes[1], 24)
    assert window.state is None
    unread.ready["image.czi"].set()
    window.until(lambda: "</b> patches" in window.summary)
    assert window.state.recipe.strategy.size == (24, 64)
    assert widget.export.start.enabled


def test_what_is_read_of_an_image_that_is_gone_is_dropped(
    window: Window, file: Path, unread: SlowDisk
) -> None:
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "Reading image.czi…")
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    unread.ready["image.czi"].set()
    window.until(lambda: window.widget.sourcing.reading.at_rest)
    assert window.state is None
    assert "Open a CZI" in window.summary


def test_a_scene_is_dropped_that_comes_when_another_image_is_chosen(
    window: Window, file: Path, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, go_on, opened = czi(SceneSpec(), name="second.czi"), Event(), facts.scene_layers
    window.open(second)
    window.open(file)
    monkeypatch.setattr(facts, "scene_layers", lambda *args: go_on.wait(60) and opened(*args))
    opening = window.widget.sourcing.opening
    soon(lambda: window.click_scene(1))
    window.until(lambda: opening.running)
    window.widget.source.file.value = second
    go_on.set()
    window.until(lambda: opening.at_rest)
    assert window.widget.sourcing.facts.path == second
    assert window.state.path == second


def test_what_cannot_be_read_of_an_open_file_is_said(
    window: Window, file: Path, unread: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(sourcing, "show_error", said.append)
    unread.fault = "image.czi: damaged"
    unread.ready["image.czi"].set()
    soon(lambda: drop(window, file))
    window.until(lambda: window.summary == "image.czi: damaged")
    assert said == ["image.czi: damaged"]
    assert not window.widget.export.start.enabled


def test_a_result_or_an_error_comes_from_a_thread(window: Window) -> None:
    found: list[Any] = []

    def fail() -> None:
        raise KeyError(thread_name())

    def in_loop() -> None:
        found.append(beside(thread_name))
        with pytest.raises(KeyError, match="patchset-beside"):
            beside(fail)
        found.append("done")

    soon(in_loop)
    window.until(lambda: "done" in found)
    assert found[0] == "patchset-beside"
    assert beside(thread_name) == main_thread().name
