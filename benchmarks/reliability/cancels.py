"""A cancel at a random moment: the export has ended within a second, and goes on later.

usage: cancels.py [--n N] [--seed S] [--json FILE]

Half of the cancels close the generator at its next event, half ask from another thread, as the
window does. To be in the way, a source takes up to 50 ms for each batch of patches.
"""

import argparse
import shutil
import sys
import threading
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from forked import Died, in_child
from reporting import Row, run_row
from small_export import digests, export, plan_of, write_sources

from napari_patchset import ExportPlan, run_export
from napari_patchset.export.partial import ExportStopped, PartialExport
from napari_patchset.stacks.tiff.stack import TiffImageStack

WITHIN = 1.0
"""Seconds."""


def main() -> int:
    """Run the row."""
    return run_row("cancels", run, 100)


def run(options: argparse.Namespace, row: Row) -> None:
    """Cancel `n` exports."""
    sources = write_sources(options.work / "sources", options.seed)
    whole = plan_of(sources, options.work / "whole.patches.zarr")
    expected = in_child(lambda: (export(whole), digests(Path(whole.out)))[1])
    longest = 0.0
    for number in range(options.n):
        chance = Random(f"{options.seed}:{number}")
        plan = plan_of(sources, options.work / str(number) / "a.patches.zarr")
        after, delay = chance.uniform(0, 1), chance.uniform(0, 0.05)
        cancel = close_it if chance.random() < 0.5 else ask_it
        try:
            seconds = in_child(partial(cancel, plan, after, delay))
            in_child(partial(go_on, plan, expected))
            longest = max(longest, seconds)
            row.add("resumed" if seconds < WITHIN else "late", f"{number}: {seconds:.2f} s")
        except Died as error:
            row.add("lost", f"{number}: {error}")
        shutil.rmtree(Path(plan.out).parent, ignore_errors=True)
    row.figures["longest"] = f"{longest:.2f} s"


def _slow_down(delay: float) -> None:
    """Let every patch or tile of a source take its time."""
    extract = TiffImageStack.extract_patch

    def extracting(self: TiffImageStack, *arguments: Any, **options: Any) -> Any:
        time.sleep(delay)
        return extract(self, *arguments, **options)

    TiffImageStack.extract_patch = extracting  # type: ignore[method-assign]


def close_it(plan: ExportPlan, after: float, delay: float) -> float:
    """Close the generator at the first event after some seconds; give how long it took."""
    _slow_down(delay)
    began = time.monotonic()
    events = run_export(plan, workers=2)
    for _ in events:
        if time.monotonic() > began + after:
            break
    events.close()
    return max(time.monotonic() - began - after, 0)


def ask_it(plan: ExportPlan, after: float, delay: float) -> float:
    """Ask the export to stop from another thread."""
    _slow_down(delay)
    began = time.monotonic()
    timer = threading.Timer(after, PartialExport.of(plan).request_stop)
    events = run_export(plan, workers=2)
    next(events)
    timer.start()
    try:
        for _ in events:
            pass
    except ExportStopped:
        pass
    timer.cancel()
    return max(time.monotonic() - began - after, 0)


def go_on(plan: ExportPlan, expected: dict[str, str]) -> None:
    """End the export with the bytes of the one that was not cancelled."""
    if not Path(plan.out).exists():
        export(plan)
    assert digests(Path(plan.out)) == expected, "the resumed set is another one"


if __name__ == "__main__":
    sys.exit(main())
