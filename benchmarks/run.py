"""Measure, print a table, write it as JSON: `make bench ARGS="--only raw,transfers"`.

usage: run.py [--data DIR] [--size N | --full] [--repeats N] [--only ROWS] [--no-peers] [--json F]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from bench import FULL, Bench, Scale
from measure import Result
from peers import PeerError, Peers, peer_python
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rows import ROWS

VERSIONED = ("napari-patchset", "numpy", "pylibCZIrw", "zarr")
STATE = {True: "[green]ok", False: "[red]below", None: ""}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen rows."""
    options = _parser().parse_args(arguments)
    scale = Scale(size=FULL if options.full else options.size, repeats=options.repeats)
    results: list[Result] = []
    console = Console(stderr=True)
    with ExitStack() as stack:
        data = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = None if options.no_peers else _start_peers(stack, console)
        bench = Bench(data, data / "out", scale, peers)
        for name in options.only or ROWS:
            console.print(f"{name} ...", style="dim")
            bench.clear()
            results += measured(name, bench)
        bench.clear()
    Console(width=150 if not console.is_terminal else None).print(as_table(results))
    if options.json:
        lines = [result.to_json() for result in results]
        content = {"machine": machine(), "size": scale.size, "rows": lines}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if any(result.ours is None for result in results):
        sys.exit(1)


def _start_peers(stack: ExitStack, console: Console) -> Peers | None:
    try:
        return stack.enter_context(Peers(peer_python()))
    except PeerError as error:
        console.print(f"Without the peers: {error}", style="yellow")
        return None


def measured(name: str, bench: Bench) -> Iterator[Result]:
    """Yield the results of a row; a failure is a result too."""
    try:
        yield from ROWS[name](bench)
    except Exception as error:  # a missing display, a full disk, a fault of ours
        traceback.print_exc()
        note = f"failed: {type(error).__name__}: {error}"
        yield Result(name, "count", "", None, note=note)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure napari-patchset against its peers.")
    parser.add_argument("--data", type=Path, help="folder of the files, which are used again")
    parser.add_argument("--size", type=int, default=Scale.size, help="pixels of a scene's side")
    parser.add_argument("--full", action="store_true", help=f"the design's size, {FULL}")
    parser.add_argument("--repeats", type=int, default=Scale.repeats, help="turns of each side")
    parser.add_argument("--only", type=_rows, help=f"some of {','.join(ROWS)}")
    parser.add_argument("--no-peers", action="store_true", help="install none, measure our side")
    parser.add_argument("--json", type=Path, help="write the table here too")
    return parser


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - ROWS.keys():
        raise argparse.ArgumentTypeError(f"no row {', '.join(sorted(unknown))}")
    return names


def as_table(results: Sequence[Result]) -> Table:
    """Lay the results out for a terminal."""
    table = Table("row", title=f"{os.cpu_count()} cores, {platform.machine()}")
    for column in ("ours", "peer", "ratio", "target", ""):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("note")
    for result in results:
        figures = (f"{_figure(result.ours)} {result.unit}".strip(), _figure(result.peer))
        target = str(result.target or "")
        state = "[red]failed" if result.ours is None else STATE[result.ok]
        verdict = (_figure(result.ratio), target, state, escape(result.note))
        table.add_row(escape(result.name), *figures, *verdict)
    return table


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def machine() -> dict[str, object]:
    """Describe the machine and the versions."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONED},
    }


if __name__ == "__main__":
    main()
