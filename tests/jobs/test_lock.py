"""One export writes into a folder at a time; several jobs of it may."""

import os
import platform
import re
import runpy
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from napari_patchset.errors import ExportError
from napari_patchset.jobs import lock
from napari_patchset.jobs.lock import LOCK


class WindowsLocks:
    """Byte ranges of files that are locked, as Windows' C library locks them.

    A lock ends when its descriptor is closed, which is noticed when the next one is taken.
    """

    LK_NBLCK = 2

    def __init__(self) -> None:
        self._locked: dict[tuple[int, int], tuple[int, int]] = {}
        """Descriptor by file and byte, and the descriptor's generation."""
        self._opened: dict[int, int] = {}

    def opened(self, fd: int) -> None:
        self._opened[fd] = self._opened.get(fd, 0) + 1

    def locking(self, fd: int, mode: int, n: int) -> None:
        assert mode == self.LK_NBLCK
        first, file = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_ino
        keys = [(file, byte) for byte in range(first, first + n)]
        for key in keys:
            if key in self._locked and self._is_held(*self._locked[key]):
                raise PermissionError("the bytes are locked")
        self._locked |= dict.fromkeys(keys, (fd, self._opened[fd]))

    def _is_held(self, fd: int, generation: int) -> bool:
        try:
            os.fstat(fd)
        except OSError:
            return False
        return self._opened[fd] == generation


@pytest.fixture(params=["this system", "Windows"])
def locked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what locks a folder, on Windows too, where an open file can't be deleted."""
    if request.param == "this system":
        return lock.locked
    locks = WindowsLocks()

    def open_and_note(*args: Any) -> int:
        fd = os.open(*args)
        locks.opened(fd)
        return fd

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    module = runpy.run_path(lock.__file__)
    monkeypatch.undo()
    system = SimpleNamespace(platform="win32")
    functions = [value for value in module.values() if callable(value)]
    scope = next(f.__globals__ for f in functions if getattr(f, "__name__", "") == "_open_locked")
    names = ("fstat", "stat", "path", "lseek", "close", "listdir", "O_RDWR", "O_CREAT", "SEEK_SET")
    names += ("ftruncate", "write", "read", "getpid")
    scope["os"] = SimpleNamespace(**{n: getattr(os, n) for n in names}, open=open_and_note)
    scope["sys"] = system
    return scope["locked"]  # type: ignore[no-any-return]  # runpy's globals have no types


def test_a_second_export_is_refused_until_the_first_ends(
    locked: Callable[..., Any], tmp_path: Path
) -> None:
    root = tmp_path / "a.partial"
    with locked(root, "export"):
        (root / "plan.json").touch()
        for shared in (False, True):
            who = f"process {os.getpid()} on {re.escape(platform.node())}"
            who = "there; wait" if sys.platform == "win32" else f"there, {who}; wait"
            with pytest.raises(ExportError, match=f"another export is writing {who}"):
                locked(root, "export", shared=shared).__enter__()
    with locked(root, "export", shared=True):
        pass


def test_jobs_of_one_export_share_it(locked: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "a.partial"
    with ExitStack() as jobs:
        for _ in range(3):
            jobs.enter_context(locked(root, "export", shared=True))
        last = f", the last to begin is process {os.getpid()}"
        with pytest.raises(ExportError, match=f"there{'' if sys.platform == 'win32' else last}"):
            locked(root, "export").__enter__()
    with locked(root, "export"):
        pass


@pytest.mark.parametrize("litter", [(), (".DS_Store", "Thumbs.db")])
def test_a_folder_that_holds_nothing_is_removed(
    locked: Callable[..., Any], tmp_path: Path, litter: tuple[str, ...]
) -> None:
    root = tmp_path / "a.partial"
    with locked(root, "export"):
        assert (root / LOCK).is_file()
        for name in litter:
            (root / name).touch()
    assert not root.exists()


def test_a_folder_that_holds_a_file_stays_and_stays_marked(
    locked: Callable[..., Any], tmp_path: Path
) -> None:
    root = tmp_path / "a.partial"
    with locked(root, "export"):
        (root / "notes.txt").touch()
    assert sorted(os.listdir(root)) == [LOCK, "notes.txt"]
