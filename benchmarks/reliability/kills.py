"""kill -9 at random points of an export, then the same export again.

usage: kills.py [--n KILLS] [--seed S] [--json FILE]

Half of the kills come after a random time, half at a random change to the file system. After each
one, what passes for a set must be one, byte for byte; then the export is killed again, or goes on:
no shard that was finished is written again, and the set equals the uninterrupted one. Half of the
exports replace a set that is there.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from forked import Child, Died, in_child
from reporting import Row, run_row
from small_export import (
    Watch,
    digests,
    digests_if_complete,
    export,
    finished_shards,
    plan_of,
    shards_in_place,
    write_sources,
)

from napari_patchset import ExportPlan
from napari_patchset.errors import ExportError

AGAIN = 0.3
"""Share of the kills after which what goes on is killed again."""


class Reference(NamedTuple):
    """The uninterrupted export: its bytes, its seconds, its changes to files."""

    new: dict[str, str]
    old: dict[str, str]
    seconds: float
    changes: int


def main() -> int:
    """Run the row."""
    return run_row("kills", run, 1000)


def run(options: argparse.Namespace, row: Row) -> None:
    """Kill `n` times, going on in between."""
    sources = write_sources(options.work / "sources", options.seed)
    old = plan_of(sources, options.work / "old.patches.zarr", size=8)
    in_child(lambda: export(old))
    for name in ("cold", "whole"):  # a first export also waits for what is read from disk
        whole = plan_of(sources, options.work / name / "a.patches.zarr")
        reference = Reference(**in_child(partial(measure, whole, Path(old.out))))
    row.figures |= {"ms each": round(1000 * reference.seconds), "changes": reference.changes}
    killed = number = 0
    while killed < options.n:
        chance = Random(f"{options.seed}:{number}")
        plan = plan_of(sources, options.work / str(number) / "a.patches.zarr")
        killed += _one_export(plan, old, reference, chance, number, row)
        shutil.rmtree(Path(plan.out).parent)
        number += 1
    row.figures["exports"] = number


def measure(plan: ExportPlan, old: Path) -> dict[str, Any]:
    """Export without interruption."""
    Path(plan.out).parent.mkdir()
    watch = Watch(Path(plan.out).parent)
    began = time.monotonic()
    export(plan)
    seconds, changes = time.monotonic() - began, watch.count
    new = digests(Path(plan.out))
    return {"new": new, "old": digests(old), "seconds": seconds, "changes": changes}


def _one_export(
    plan: ExportPlan,
    old: ExportPlan,
    reference: Reference,
    chance: Random,
    number: int,
    row: Row,
) -> int:
    """Kill an export once or more often, then let it end; return the number of kills."""
    replacing = chance.random() < 0.5
    out = Path(plan.out)
    out.parent.mkdir()
    if replacing:
        shutil.copytree(old.out, out)
    finished: dict[str, list[int]] = {}
    kills = 0
    try:
        while not kills or chance.random() < AGAIN:
            if not _kill(plan, replacing, reference, chance):
                break  # it was faster
            kills += 1
            finished = in_child(partial(inspect, plan, reference, finished, replacing))
        in_child(partial(go_on, plan, reference, finished, replacing))
    except Died as error:
        row.add("lost", f"{number}: {error}")
    for _ in range(kills):
        row.add("resumed")
    return kills


def _kill(plan: ExportPlan, replacing: bool, reference: Reference, chance: Random) -> bool:
    by_time = chance.random() < 0.5
    after = chance.uniform(0, 1.2 * reference.seconds)
    at = chance.randint(1, reference.changes)

    def work() -> None:
        if not by_time:
            Watch(Path(plan.out).parent, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        export(plan, overwrite=replacing)

    return Child(work).kill(after) if by_time else Child(work).kill()


def inspect(
    plan: ExportPlan, reference: Reference, before: dict[str, list[int]], replacing: bool
) -> dict[str, list[int]]:
    """Require a complete patch set or none, and the shards of before; return the finished ones."""
    out = Path(plan.out)
    digests = digests_if_complete(out)
    whole = [reference.new, reference.old] if replacing else [reference.new]
    assert digests is None or digests in whole, f"{out} looks complete and is not"
    assert digests is not None or not out.exists(), f"{out} is there and can't be opened"
    inner = digests_if_complete(out.with_name("a.partial") / "set")
    assert inner in (None, reference.new), "the partial set looks complete and is not"
    if not out.with_name("a.partial").joinpath("set").exists():
        return {}  # it was put in place, or not begun
    finished = finished_shards(plan)
    for name, identity in before.items():
        assert finished.get(name) == identity, f"shard {name} was finished and is lost"
    return finished


def go_on(
    plan: ExportPlan, reference: Reference, finished: dict[str, list[int]], replacing: bool
) -> None:
    """End the export; require the bytes of the uninterrupted one, and the shards of before."""
    is_whole = digests_if_complete(Path(plan.out)) == reference.new
    if not is_whole or _has_partial(plan):
        try:
            export(plan, overwrite=replacing)
        except ExportError as error:  # right where it was killed with nothing left to do
            if not is_whole or "exists; choose another name" not in str(error):
                raise
    assert digests(Path(plan.out)) == reference.new, "the resumed set is another one"
    shards = shards_in_place(plan)
    for name, identity in finished.items():
        assert shards[name] == identity, f"shard {name} was finished and is written again"
    left = sorted(path.name for path in Path(plan.out).parent.iterdir())
    assert left == [Path(plan.out).name], f"left behind: {left}"


def _has_partial(plan: ExportPlan) -> bool:
    return Path(plan.out).with_name("a.partial").exists()


if __name__ == "__main__":
    sys.exit(main())
