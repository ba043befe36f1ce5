"""Ctrl-C and SIGTERM, which schedulers send before they kill, end the command in one line.

While libraries are imported nothing is open, and the process exits at once: some libraries turn a
KeyboardInterrupt into an error of their own. Once a subcommand runs, a signal is a
KeyboardInterrupt, so that an export stops cleanly.
"""

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from napari_patchset.jobs.folder import JobFolder

_Event = TypeVar("_Event")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_is_running = False
"""Whether a subcommand runs, and must be stopped cleanly."""

_received: list[int] = []
"""The signals that came since the subcommand began."""


@contextmanager
def handled() -> Iterator[None]:
    """Handle both signals; exit with 130 or 143 if one of them ended what is done within."""
    global _is_running
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signals
        return
    _is_running = False
    _received.clear()
    before = {number: signal.signal(number, _on_signal) for number in SIGNALS}
    try:
        yield
    except SystemExit as ended:
        # 130 is what typer makes of a KeyboardInterrupt.
        if _received and ended.code == 130:
            sys.exit(exit_code())
        raise
    finally:
        _is_running = False
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code() -> int:
    """Return the exit code of a command that a signal ended: 130 or 143."""
    return 128 + (_received[-1] if _received else signal.SIGINT)


def interrupt_from_now() -> None:
    """Let signals be a KeyboardInterrupt from now on: a subcommand begins."""
    global _is_running
    _is_running = True


def _on_signal(number: int, _: FrameType | None) -> None:
    if not _is_running:
        os.write(2, b"patchset: stopped before it began; run the same command again.\n")
        os._exit(128 + number)
    _received.append(number)
    raise KeyboardInterrupt


def until_interrupted(events: Generator[_Event, None, None]) -> Iterator[_Event]:
    """Yield the events of an export until a signal comes, and close it.

    Python drops a KeyboardInterrupt that is raised in a destructor or a callback; it is raised
    again at the next event, unless that is the last one.
    """
    with closing(events):
        for event in events:
            if _received and getattr(event, "stage", "") != "done":
                raise KeyboardInterrupt
            yield event


@contextmanager
def resumable(
    folder: "JobFolder[Any] | None" = None, out: str | Path | None = None
) -> Iterator[None]:
    """Add to the message of a stop what remains, and what the same command does.

    Parameters
    ----------
    folder : JobFolder or None
        Where the work is; None as long as that is not known.
    out : str, Path or None
        What the work makes, or replaces.
    """
    before = _identity(out)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if folder is not None and folder.is_planned:
            interrupt.args = (
                f"stopped; the finished part is in {folder.root}; run the same command again to "
                "resume.",
            )
        elif (now := _identity(out)) == before:  # else it has just been completed
            state = f"{out} is as it was" if now else "nothing is written yet"
            interrupt.args = (f"stopped; {state}; run the same command again.",)
        raise


def _identity(out: str | Path | None) -> tuple[int, int] | None:
    """Return what tells a folder from one that replaces it, None if there is none."""
    try:
        status = os.lstat(out or "")
    except OSError:
        return None
    return status.st_dev, status.st_ino
