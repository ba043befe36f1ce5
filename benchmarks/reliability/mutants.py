"""Damaged files: each is read right or refused by one named error, in a process that lives on.

usage: mutants.py [--n N] [--seed S] [--data DIR] [--only TEXT] [--workers N] [--json FILE]

A mutant is made and used in a worker process. What kills, hangs (10 s) or starves it (1 GB above
what it took before) is a defect, as are an exception of another kind, an error that does not name
the file, and pixels that differ from one way of reading to another. "changed" are mutants that
read well but otherwise than the sound file: raw pixels carry no checksum.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from mutations import mutate
from originals import real_files, write_originals
from reporting import Row, run_row
from workers import Limits, watched

LIMITS = Limits(seconds=10, memory=2**30)


def main() -> int:
    """Run the row."""
    data = os.environ.get("PATCHSET_DATA") or Path(__file__).parents[3] / "shared" / "data"
    more: list[tuple[str, dict[str, Any]]] = [
        ("--data", {"type": Path, "default": Path(data), "help": "folder of real files"}),
        ("--only", {"default": "", "help": "only originals whose name holds this"}),
        ("--first", {"type": int, "default": 0, "help": "number of the first mutant"}),
        ("--keep", {"type": Path, "help": "keep the mutants that show a defect here"}),
    ]
    return run_row("mutants", run, 10_000, more)


def run(options: argparse.Namespace, row: Row) -> None:
    """Judge mutants `first` to `first + n` of a seed."""
    originals = find_originals(options)
    row.figures["originals"] = len(originals)
    command = [sys.executable, __file__, "worker", str(options.seed), str(options.work)]
    last = options.first + options.n
    for number, verdict in watched([*command, *map(str, originals)], options.first, last, LIMITS):
        name = originals[number % len(originals)].name
        row.add(
            verdict["kind"], f"{number} ({name}, {verdict.get('done')}): {verdict.get('detail')}"
        )
        if verdict["kind"] not in ("same", "changed", "refused") and options.keep:
            path = options.keep / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make(originals, options.seed, number, path)


def find_originals(options: argparse.Namespace) -> list[Path]:
    """Write the project's own files and find the real ones."""
    verdict = write_originals(options.work / "originals", options.only)
    if (options.data / "truth.json").is_file():
        verdict += real_files(options.data)
    return [path for path in verdict if options.only in path.name]


def make(originals: list[Path], seed: int, number: int, path: Path) -> str:
    """Write a mutant and describe the damage."""
    return mutate(originals[number % len(originals)], path, Random(f"{seed}:{number}"))


def judge_mutants(seed: int, work: Path, originals: list[Path]) -> Iterator[dict[str, Any]]:
    """Make and judge each requested mutant."""
    from trial import judge, use

    out = work / "out"
    digests: dict[Path, Any] = {}

    def known(original: Path) -> Any:
        if original not in digests:
            try:
                digests[original] = use(original, out)
            except Exception as error:  # a real file may be one that is to be refused
                digests[original] = repr(error)
            shutil.rmtree(out, ignore_errors=True)
        return digests[original]

    # What the libraries take for themselves is taken before the first mutant.
    for original in originals[:: max(len(originals) // 20, 1)]:
        known(original)
    verdict: dict[str, Any] = {}
    while True:
        number = yield verdict
        original = originals[number % len(originals)]
        expected = known(original)
        path = work / "mutant" / original.name
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        done = make(originals, seed, number, path)
        verdict = {"done": done, **judge(path, out, expected)._asdict()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        from workers import serve

        seed, work, *names = sys.argv[2:]
        folder = Path(work) / f"worker-{os.getpid()}"
        folder.mkdir()
        serve(judge_mutants(int(seed), folder, [Path(name) for name in names]))
    else:
        sys.exit(main())
