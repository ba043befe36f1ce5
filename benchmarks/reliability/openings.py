"""A thousand openings, half of them failing: no file is left open.

usage: openings.py [--n N] [--seed S] [--only TEXT] [--json FILE]

Each opening lists the scenes of a file, opens one, reads a patch and closes it: of a sound file of
every kind in turn, or of a mutant of it. Files are counted without a garbage collection.
"""

import argparse
import os
import shutil
import stat
import sys
import warnings
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from forked import in_child
from mutations import mutate
from originals import write_originals
from reporting import Row, run_row

from napari_patchset import list_scenes, open_stack
from napari_patchset.errors import PatchsetError

TRIES = 20
"""Mutants made to find one that is refused."""


def main() -> int:
    """Run the row."""
    text = "only originals whose name holds this"
    return run_row("openings", run, 1000, [("--only", {"default": "", "help": text})])


def run(options: argparse.Namespace, row: Row) -> None:
    """Open `n` times in one process."""
    originals = write_originals(options.work / "o", options.only)
    opened, left = in_child(partial(open_many, options, originals), 60 + 2 * options.n)
    row.counts.update(opened)
    row.figures["left open"] = len(left)
    row.defects += [f"left open: {name}" for name in left]


def open_many(
    options: argparse.Namespace, originals: list[Path]
) -> tuple[dict[str, int], list[str]]:
    """Open in this process; return the outcome, and the files that stayed open."""
    warnings.simplefilter("ignore")
    for original in originals:
        is_refused(original)
    before = open_files()
    counts: Counter[str] = Counter()
    for number in range(options.n):
        original = originals[number // 2 % len(originals)]
        failing = number % 2 and _fails(original, options.work / "m", f"{options.seed}:{number}")
        counts["refused" if failing or is_refused(original) else "closed"] += 1
    return dict(counts), sorted((open_files() - before).elements())


def _fails(original: Path, folder: Path, seed: str) -> bool:
    """Open mutants until one is refused."""
    chance = Random(seed)
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        mutate(original, folder / original.name, chance)
        if is_refused(folder / original.name):
            return True
    return False


def is_refused(path: Path) -> bool:
    """Open a file, read a patch, close it."""
    try:
        with open_stack(path, list_scenes(path)[0].id) as stack:
            stack.extract_patch(0, None, (0, 0), (8, 8))
    except (PatchsetError, OSError):
        return True
    return False


def open_files() -> Counter[str]:
    """Count this process' open regular files by path."""
    count: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISREG(link.stat().st_mode):
                count[os.readlink(link)] += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
