"""No file is read in the GUI thread, whatever the user does and however slow the storage is."""

import builtins
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr.core.sync
from qtpy.QtWidgets import QFileDialog

from support.czi_maker import make_czi
from support.gestures import drop, soon
from support.tiff_maker import write
from support.window import SCENES, XML, Window
from support.zarr_maker import drawn, write_array

WATCHED = (
    *((builtins, "open"), (io, "open"), (os, "open"), (os, "pread"), (os, "scandir")),
    *((os, "stat"), (os, "lstat"), (zarr.core.sync, "_get_loop")),
)
"""What reads a file, or asks for it; the last one is where zarr begins to wait for its thread."""

SHAPE = (2, 2, 3, 64, 80)


class Storage:
    """Note what the plugin reads in the GUI thread."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.read_in_window, self.asked = str(folder), list[str](), 0

    def watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            path = args[0] if args else None
            if not isinstance(path, (str, os.PathLike)) or os.fspath(path).startswith(self._folder):
                self._note(call.__name__)
            return call(*args, **options)

        return watched

    def _note(self, name: str) -> None:
        self.asked += 1
        if threading.current_thread() is threading.main_thread() and (caller := _caller()):
            self.read_in_window.append(f"{name} by {caller}")


def _caller() -> str:
    """Return who in the plugin reads; "" where napari does, and for this test."""
    frame = sys._getframe(3)
    while frame is not None:
        room = frame.f_globals.get("__name__", "").partition(".")[0]
        if room == "napari_patchset":
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if room in ("napari", "npe2", "test_slow_storage"):
            return ""
        frame = frame.f_back  # type: ignore[assignment]  # None past the outermost one
    return ""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    storage = Storage(tmp_path)
    for module, name in WATCHED:
        monkeypatch.setattr(module, name, storage.watch(getattr(module, name)))
    return storage


def make_two(kind: str, folder: Path) -> tuple[Path, Path]:
    """Make two images of T, Z and two channels; that of a CZI has two scenes."""
    first, second = (folder / f"{name}.{kind}" for name in ("image", "second"))
    if kind == "czi":
        make_czi(first, SCENES, xml=XML, tile=(32, 32))
        make_czi(second, SCENES[:1], xml=XML)
    elif kind == "ome.tif":
        for path in (first, second):
            write(path, drawn("TCZYX", SHAPE), metadata={"axes": "TCZYX"})
    else:
        for path in (first, second):
            write_array(path, drawn("TCZYX", SHAPE), dimension_names=[*"tczyx"])
    return first, second


class Person:
    """Do one thing after the other within the window's loop, and hold it against the storage."""

    def __init__(self, window: Window, storage: Storage) -> None:
        self.window, self.storage = window, storage
        self.widget, self.export = window.widget, window.widget.export
        self.more = window.widget.source_control.extra_files

    def does(self, action: Callable[[], object], is_done: Callable[[], bool]) -> None:
        soon(action)
        window = self.window
        window.until(lambda: window.is_idle and window.state is not None and is_done())
        assert not self.storage.read_in_window

    def clicks(self, button: Any, is_done: Callable[[], bool]) -> None:
        self.does(lambda: self.window.click(button), is_done)

    def chooses_depth(self, axis: str) -> None:
        window = self.window
        self.does(
            lambda: window.choose_depth(axis),
            lambda: bool(window.state.recipe.depth_axis == axis),
        )

    def opens_and_plans(self, second: Path, saved: Path) -> None:
        self.clicks(self.widget.source.open, lambda: len(self.window.images) == 2)
        self.chooses_depth("Z")
        self.clicks(self.more.add, lambda: self.more.files == (second,))
        self.chooses_depth("T")
        said = self.export.status
        self.does(self.export.save_plan.trigger, lambda: said.value == f"Saved {saved.name}")
        self.more.leave_out(0)
        self.does(self.export.load_plan.trigger, lambda: self.more.files == (second,))

    def metric_requests(self) -> None:
        form, preview, overlay = self.widget.form, self.widget.preview, self.widget.preview.overlay
        kinds = form.strategy.kind.native
        self.does(lambda: kinds.setCurrentIndex(1), lambda: True)
        self.does(lambda: kinds.setCurrentIndex(0), lambda: True)
        self.clicks(form.filters.add, lambda: bool(form.filters.rows))
        self.does(lambda: self.window.click_scene(1), lambda: self.window.state.source.scene == 1)
        all_scenes = self.more.all_scenes
        self.does(lambda: self.window.tick(all_scenes.native), lambda: bool(all_scenes.value))
        self.does(preview.gallery_button.click, lambda: True)

        def click_patch() -> None:
            image = overlay.grid.image
            preview.pointer.clicked.emit(
                image.data_to_world((0,) * (image.ndim - 2) + (5, 5)), False
            )

        self.does(click_patch, lambda: preview.view.row is not None)

    def exports(self, out: Path) -> None:
        self.export.out.value = out
        copied = self.export.copy_command.trigger
        self.does(copied, lambda: bool(self.export.status.value == "The command is copied."))
        self.clicks(self.export.start, lambda: bool(self.export.open.enabled))
        gallery = self.widget.preview.gallery
        is_open = lambda: gallery.windowTitle() == f"Gallery: {out.name}"  # noqa: E731
        self.clicks(self.export.open, lambda: is_open() and not gallery.grid.missing_rows())


@pytest.mark.parametrize("kind", ["czi", "ome.tif", "zarr"])
def test_no_file_is_read_in_the_windows_thread(
    window: Window, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    first, second = make_two(kind, tmp_path)
    saved = tmp_path / "plan.json"
    person = Person(window, storage)
    asked = iter((first, saved))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(next(asked)), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(second)], ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    person.opens_and_plans(second, saved)
    if kind == "czi":
        person.metric_requests()
        person.exports(tmp_path / "made.patches.zarr")
        drop(window, second)  # opening may read, what follows may not
        storage.read_in_window.clear()
        person.does(lambda: None, lambda: window.state.source.path == str(second))
    assert storage.asked > 100
