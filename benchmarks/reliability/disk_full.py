"""A disk that fills up midway: one error that names it, and the export resumes when there is space.

usage: disk_full.py [--n N] [--seed S] [--injected] [--json FILE]

Each export goes to a tmpfs of a random size; where mounting is not allowed, or with `--injected`,
a write fails with ENOSPC instead. Then there is room, and the same export must end with the bytes
of the one that never met a full disk.
"""

import argparse
import errno
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from forked import Died, in_child
from reporting import Row, run_row
from small_export import digests, digests_if_complete, export, plan_of, write_sources

from napari_patchset import ExportPlan
from napari_patchset.errors import ExportError

ENOUGH = 64 * 2**20


def main() -> int:
    """Run the row."""
    text = "let a write fail instead of mounting a small disk"
    return run_row("disk full", run, 100, [("--injected", {"action": "store_true", "help": text})])


def run(options: argparse.Namespace, row: Row) -> None:
    """Fill `n` disks."""
    sources = write_sources(options.work / "sources", options.seed)
    whole = plan_of(sources, options.work / "whole.patches.zarr", codec="zstd")
    expected, size = in_child(partial(_measure, whole))
    disk = options.work / "disk"
    disk.mkdir()
    mounted = not options.injected and _mount(disk, "size=64k")
    row.figures["how"] = "tmpfs" if mounted else "injected"
    for number in range(options.n):
        chance = Random(f"{options.seed}:{number}")
        plan = plan_of(sources, disk / "a.patches.zarr", codec="zstd")
        room = chance.randrange(4096, size)
        if mounted:
            _remount(disk, room)
        try:
            in_child(partial(fill, plan, None if mounted else room))
            if mounted:
                _remount(disk, ENOUGH)
            in_child(partial(go_on, plan, expected))
            row.add("resumed")
        except Died as error:
            row.add("lost", f"{number}, {room} bytes: {error}")
        shutil.rmtree(plan.out, ignore_errors=True)
        shutil.rmtree(disk / "a.partial", ignore_errors=True)
    if mounted:
        subprocess.run(["umount", disk], check=True)


def _measure(plan: ExportPlan) -> tuple[dict[str, str], int]:
    export(plan)
    files = [path for path in Path(plan.out).rglob("*") if path.is_file()]
    return digests(Path(plan.out)), sum(path.stat().st_size for path in files)


def _mount(disk: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _remount(disk: Path, room: int) -> None:
    command = ["mount", "-o", f"remount,size={-(-room // 4096) * 4096}", str(disk)]
    subprocess.run(command, check=True)


def fill(plan: ExportPlan, room: int | None) -> None:
    """Require one named error, and nothing that passes for a set."""
    if room is not None:
        _inject(room)
    try:
        export(plan)
    except ExportError as error:
        message = str(error)
    else:
        raise AssertionError("the disk was not full")
    assert "a.partial: the disk is full" in message, message
    assert digests_if_complete(Path(plan.out)) is None


def _inject(room: int) -> None:
    write, left = os.write, [room]

    def writing(fd: int, data: Any) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    os.write = writing


def go_on(plan: ExportPlan, expected: dict[str, str]) -> None:
    """End the export with the bytes of the one that had room."""
    export(plan)
    assert digests(Path(plan.out)) == expected, "the resumed set is another one"
    assert not Path(plan.out).with_name("a.partial").exists(), "the partial export is left"


if __name__ == "__main__":
    sys.exit(main())
