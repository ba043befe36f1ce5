"""A viewer that is closed at a random moment of opening, planning, scoring, exporting or slicing.

usage: closings.py [--n N] [--seed S] [--json FILE]

Each case opens a window with the widget docked, does a few things to it in random order and at
random times, and closes it, by the script or as a person does, while some of them still run. Every
read of a source takes up to 20 ms, so that there is something to interrupt. Wrong is an exception
in any thread, an error of vispy or OpenGL, and a thread or an open file that is left a minute
later. (napari never lets go of the layers of a window that a person closes: their files are left.)
"""

import argparse
import gc
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from random import Random
from traceback import walk_stack
from types import FrameType
from typing import Any

from reporting import Row, run_row
from workers import Limits, serve, watched

LIMITS = Limits(120, 4 * 2**30)

LATEST_MS = 1500
"""When a window is closed at the latest, after the last thing that was done to it."""

PER_PROCESS = 50
"""Windows of one process: napari keeps the layers of those that a person closes."""

PATIENCE_S = 60.0
"""How long what was given up may take to end."""


def main() -> int:
    """Run the row, or be its worker."""
    if sys.argv[1:2] == ["--serve"]:
        serve(judge(Path(sys.argv[2]), int(sys.argv[3])))
        return 0
    return run_row("closings", run, 1000)


def run(options: argparse.Namespace, row: Row) -> None:
    """Close `n` windows, in processes that are replaced where one dies."""
    command = [sys.executable, __file__, "--serve", str(options.work), str(options.seed)]
    for first in range(0, options.n, PER_PROCESS):
        last = min(first + PER_PROCESS, options.n)
        for number, verdict in watched(command, first, last, LIMITS):
            row.add(verdict["kind"], f"{number}: {verdict['detail']}")


def judge(folder: Path, seed: int) -> Generator[dict[str, Any], int, None]:
    """Close a window for each number that is sent, and yield what came of it."""
    os.environ["NAPARI_CONFIG"] = str(folder / "settings.yaml")
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    import napari  # noqa: F401  # before what is imported is hidden from the garbage collector

    from napari_patchset.sample import ensure_sample

    gc.collect()
    gc.freeze()
    sample, errors = ensure_sample(), list[str]()
    _note_errors(errors)
    number = yield {}
    while True:
        errors.clear()
        chance, out = Random(f"{seed}:{number}"), folder / f"{number}.patches.zarr"
        _slow_down(chance)
        before = _open_files(folder)
        done = _close_one(chance, sample, out)
        is_by_person = "_QtMainWindow.close" in done
        errors += _left_behind(None if is_by_person else folder, before)
        kind = "wrong" if errors else "closed"
        number = yield {"kind": kind, "detail": f"{', '.join(done)}: {'; '.join(errors)}"}


def _close_one(chance: Random, sample: Path, out: Path) -> list[str]:
    """Open a window, do a few things to it, close it; return what was done."""
    import napari
    from qtpy.QtTest import QTest

    from napari_patchset.plugin.preferences import PLUGIN

    viewer = napari.Viewer(show_welcome_screen=False)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
    actions = _actions(viewer, widget, sample, out)
    names = ["open", *chance.choices(list(actions), k=chance.randrange(6))]
    for name in names:
        QTest.qWait(chance.choice((0, 20, 200, 600)))
        actions[name]()
    QTest.qWait(round(chance.uniform(0, LATEST_MS)))
    close = chance.choice((viewer.close, viewer.window._qt_window.close))
    close()
    napari.Viewer._instances.discard(viewer)  # which napari forgets where a person closes
    return [*names, close.__qualname__]


def _actions(viewer: Any, widget: Any, sample: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Return what is done to a window, by name."""
    from napari_patchset.plugin.napari_compat import camera
    from napari_patchset.plugin.preferences import PLUGIN

    form, preview = widget.form, widget.preview
    chance = Random(out.name)

    def slide() -> None:
        for axis, count in enumerate(viewer.dims.nsteps[:-2]):
            viewer.dims.set_current_step(axis, chance.randrange(int(count)))

    def score() -> None:
        form.filters.text.value = "std>10"
        form.filters.text.native.returnPressed.emit()

    def export() -> None:
        widget.export.out.value = out
        widget.export.start.native.click()

    def zoom() -> None:
        camera(viewer).zoom *= chance.choice((0.3, 3))

    return {
        "open": partial(viewer.open, str(sample), plugin=PLUGIN),
        "open in the widget": partial(widget.source_control.file_opener.open, sample),
        "another scene": lambda: widget.picker.picked.emit(chance.choice(range(3))),
        "another size": lambda: setattr(
            form.patches.size.boxes[1], "value", chance.choice((8, 16, 64))
        ),
        "score": score,
        "export": export,
        "slide": slide,
        "zoom": zoom,
        "gallery": preview.gallery_button.click,
        "a patch": preview.pick_button.click,
        "a region": form.region.draw.native.click,
        "clear": viewer.layers.clear,
    }


def _left_behind(folder: Path | None, before: Counter[str]) -> list[str]:
    """Wait for threads and files to go, and return those that do not."""
    from qtpy.QtCore import QEvent
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    until = time.monotonic() + PATIENCE_S
    while (left := _threads() + _files_left(folder, before)) and time.monotonic() < until:
        QTest.qWait(20)
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        if not _threads():  # which would wait for it at each of their steps
            gc.collect()
    return [f"left: {each}" for each in left]


def _threads() -> list[str]:
    """Return each thread of the plugin, and the functions that it is in."""
    frames = sys._current_frames()
    return [
        f"{each.name} in {_place(frames.get(each.ident or 0))}"
        for each in threading.enumerate()
        if each.name.startswith("patchset")
    ]


def _place(frame: FrameType | None) -> str:
    """Return the functions of the plugin in a stack, the innermost first."""
    names = []
    for each, _ in walk_stack(frame) if frame is not None else ():
        module = str(each.f_globals.get("__name__", ""))
        if module.startswith("napari_patchset."):
            names.append(f"{module.partition('.')[2]}.{each.f_code.co_name}")
    return ", ".join(names) or "no function of the plugin"


def _files_left(folder: Path | None, before: Counter[str]) -> list[str]:
    return [] if folder is None else list((_open_files(folder) - before).elements())


def _open_files(below: Path) -> Counter[str]:
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except OSError:
            continue
    return Counter(link for link in links if link.startswith(str(below)))


def _note_errors(errors: list[str]) -> None:
    """Collect what is raised in any thread, and what vispy logs."""

    def note(kind: Any, error: Any, traceback: Any) -> None:
        errors.append(f"{kind.__name__}: {str(error).strip()[:1000]}")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage())

    sys.excepthook = note
    threading.excepthook = lambda args: note(args.exc_type, args.exc_value, args.exc_traceback)
    logging.getLogger("vispy").addHandler(Handler(logging.WARNING))


_read: Callable[..., Any] | None = None


def _slow_down(chance: Random) -> None:
    """Delay every read of a source by up to 20 ms, from now on."""
    from napari_patchset.stacks.cache import OpenFiles

    global _read
    _read = read = _read or OpenFiles.read
    delay = chance.uniform(0, 0.02)

    def delayed(*args: Any) -> Any:
        time.sleep(delay)
        return read(*args)

    OpenFiles.read = delayed  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
