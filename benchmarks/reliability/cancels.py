"""A cancel at a random moment: the export has ended within a second, and goes on later.

usage: cancels.py [--n N] [--seed S] [--within SECONDS] [--json FILE]

A third of the cancels close the generator at its next event, a third ask from another thread, as
the window does, a third are a Ctrl-C. To be in the way, every read of a source and every file that
is synced takes up to 50 ms.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from forked import Died, in_child
from reporting import Row, run_row
from small_export import digests, export, plan_of, write_sources

from napari_patchset import ExportPlan, iter_export
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.stacks.cache import OpenFiles

LATEST = 3.0
"""Seconds after which a cancel comes at the latest; what is done then was not cancelled."""


def main() -> int:
    """Run the row."""
    within = {"type": float, "default": 1.0, "help": "seconds that a cancel may take, 1"}
    return run_row("cancels", run, 100, [("--within", within)])


def run(options: argparse.Namespace, row: Row) -> None:
    """Cancel `n` exports."""
    sources = write_sources(options.work / "sources", options.seed)
    whole = plan_of(sources, options.work / "whole.patches.zarr")
    expected = in_child(lambda: (export(whole), digests(Path(whole.out)))[1])
    longest = 0.0
    for number in range(options.n):
        chance = Random(f"{options.seed}:{number}")
        plan = plan_of(sources, options.work / str(number) / "a.patches.zarr")
        after, delay = chance.uniform(0, LATEST), chance.uniform(0, 0.05)
        cancel = chance.choice([close_it, ask_it, interrupt_it])
        try:
            seconds = in_child(partial(cancel, plan, after, delay))
            in_child(partial(go_on, plan, expected))
            longest = max(longest, seconds)
            row.add(
                "resumed" if seconds < options.within else "late",
                f"{number}, {cancel.__name__}: {seconds:.2f} s",
            )
        except Died as error:
            row.add("lost", f"{number}: {error}")
        shutil.rmtree(Path(plan.out).parent, ignore_errors=True)
    row.figures["longest"] = f"{longest:.2f} s"


def _slow_down(delay: float) -> None:
    """Delay every read of a source and every sync of a file."""
    for owner, name in ((OpenFiles, "read"), (OpenFiles, "read_into"), (os, "fsync")):
        setattr(owner, name, _delayed(getattr(owner, name), delay))


def _delayed(call: Callable[..., Any], delay: float) -> Callable[..., Any]:
    def delayed(*arguments: Any) -> Any:
        time.sleep(delay)
        return call(*arguments)

    return delayed


def close_it(plan: ExportPlan, after: float, delay: float) -> float:
    """Close the generator at the first event after some seconds; return how long that took."""
    _slow_down(delay)
    began = time.monotonic()
    events = iter_export(plan, workers=2)
    for _ in events:
        if time.monotonic() > began + after:
            break
    events.close()
    return max(time.monotonic() - began - after, 0)


def ask_it(plan: ExportPlan, after: float, delay: float) -> float:
    """Ask the export to stop from another thread."""
    return _until_stopped(plan, after, delay, WorkDir.for_set(plan.out).request_stop)


def interrupt_it(plan: ExportPlan, after: float, delay: float) -> float:
    """Send this process what Ctrl-C sends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return _until_stopped(plan, after, delay, partial(os.kill, os.getpid(), signal.SIGINT))


def _until_stopped(plan: ExportPlan, after: float, delay: float, stop: Callable[[], None]) -> float:
    _slow_down(delay)
    began = time.monotonic()
    timer = threading.Timer(after, stop)
    timer.start()
    try:
        export(plan)
    except (Stopped, KeyboardInterrupt):
        return time.monotonic() - began - after
    finally:
        timer.cancel()
    return 0


def go_on(plan: ExportPlan, expected: dict[str, str]) -> None:
    """End the export with the bytes of the one that was not cancelled."""
    if not Path(plan.out).exists():
        export(plan)
    assert digests(Path(plan.out)) == expected, "the resumed set is another one"


if __name__ == "__main__":
    sys.exit(main())
