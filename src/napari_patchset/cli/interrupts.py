"""Ctrl-C, wherever it comes."""

import signal
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any


def heeding_interrupts(events: Generator[Any, None, None]) -> Iterator[Any]:
    """Give the events of an export, until Ctrl-C.

    Python drops a `KeyboardInterrupt` that comes within a destructor or a callback; what was
    dropped is raised at the next event, unless that says that the set is complete.
    """
    is_interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with closing(events):
            for event in events:
                if is_interrupted and event.stage != "done":
                    raise KeyboardInterrupt
                yield event
    finally:
        signal.signal(signal.SIGINT, before)
