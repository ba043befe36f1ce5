"""Put what `make bench` measured into performance.md: .venv/bin/python docs/performance.py.

The figures are those of benchmarks/measured.json; a test compares.
"""

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("performance.md")
MEASURED = Path(__file__).parents[1] / "benchmarks" / "measured.json"
BEGIN, END = "<!-- measured: by docs/performance.py -->", "<!-- end -->"
HELD = {True: "yes", False: "**no**", None: ""}


def table(measured: dict[str, Any]) -> str:
    """Return the measured rows as a table, under a line that describes the machine."""
    machine = dict(measured["machine"])
    cores, kind, python = (machine.pop(key) for key in ("cores", "machine", "python"))
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    where = f"{cores} cores, {kind}, Python {python}, {versions}; scenes of {measured['size']} px."
    lines = ["| what | ours | the other | ratio | target | held |", "|---|---|---|---|---|---|"]
    return "\n".join([where, "", *lines, *map(_line, measured["rows"])])


def filled(page: str, measured: dict[str, Any]) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(measured)}\n\n{END}{after}"


def _line(row: dict[str, Any]) -> str:
    unit = f" {row['unit']}".rstrip()
    ours, peer = (_figure(row[side]) + unit if row[side] is not None else "" for side in SIDES)
    ratio = "" if row["ratio"] is None else f"{_figure(row['ratio'])}x"
    cells = (row["name"], ours, peer, ratio, row["target"] or "", HELD[row["ok"]])
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


SIDES = ("ours", "peer")


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main() -> None:
    """Fill the page."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")


if __name__ == "__main__":
    main()
