"""Put what `make bench` measured into performance.md: .venv/bin/python docs/performance.py.

The figures are those of benchmarks/measured.json; a test compares.
"""

import json
from pathlib import Path
from typing import Any

HEADLINES = {
    "export zstd 64 px / careamics": "an export of 64 px patches, against CAREamics' stack",
    "export zstd 64 px / raw": "the same, against decoding and writing alone",
    "PatchSet[i] at random, 64 px / zarr-python": "a random patch of a set, against zarr-python",
    "99728 subblocks: first picture of 99918 px": "the first picture of a slide of 99 918 px",
    "peak memory, 8.6 GB against 1.1 GB": "memory of an export of 8.6 GB, against one of 1.1 GB",
}
"""The rows that the page begins with, in plain words."""

PAGE = Path(__file__).with_name("performance.md")
MEASURED = Path(__file__).parents[1] / "benchmarks" / "measured.json"
MARKS = "<!-- {}: by docs/performance.py -->", "<!-- end of {} -->"
HELD = {True: "yes", False: "**no**", None: ""}


def table(measured: dict[str, Any]) -> str:
    """Return the measured rows as a table, under a line that describes the machine."""
    machine = dict(measured["machine"])
    cores, kind, python = (machine.pop(key) for key in ("cores", "machine", "python"))
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    where = f"{cores} cores, {kind}, Python {python}, {versions}; scenes of {measured['size']} px."
    lines = ["| what | ours | the other | ratio | target | held |", "|---|---|---|---|---|---|"]
    return "\n".join([where, "", *lines, *map(_line, measured["rows"])])


def headlines(measured: dict[str, Any]) -> str:
    """Return the rows that matter most, and the names of those below their targets."""
    rows = {row["name"]: row for row in measured["rows"]}
    lines = ["| what | ours | the other | ratio | better is |", "|---|---|---|---|---|"]
    for name, what in HEADLINES.items():
        row = rows[name]
        better = "more" if row["target"].startswith(">") else "less"
        ours, peer, ratio, _, _ = _cells(row)
        lines.append("| " + " | ".join((what, ours, peer, ratio, better)) + " |")
    held = [row for row in measured["rows"] if row["ok"] is not None]
    missed = [row for row in held if not row["ok"]]
    lines += ["", f"{len(held) - len(missed)} of {len(held)} targets are held. Not held:", ""]
    for row in missed:
        ours, _, ratio, target, _ = _cells(row)
        lines.append(f"- `{row['name']}`: {ratio or ours}, target {target}")
    return "\n".join(lines)


def filled(page: str, measured: dict[str, Any]) -> str:
    """Return a page with the generated parts between their marks."""
    for name, part in (("headlines", headlines), ("rows", table)):
        begin, end = (mark.format(name) for mark in MARKS)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{part(measured)}\n\n{end}{after}"
    return page


def _line(row: dict[str, Any]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in (row["name"], *_cells(row))) + " |"


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return ours, the other, ratio, target and whether it is held, as texts."""
    unit = f" {row['unit']}".rstrip()
    ours, peer = (
        _figure(row[side]) + unit if row[side] is not None else "" for side in ("ours", "peer")
    )
    ratio = "" if row["ratio"] is None else f"{_figure(row['ratio'])}x"
    return ours, peer, ratio, row["target"] or "", HELD[row["ok"]]


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def main() -> None:
    """Fill the page."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")


if __name__ == "__main__":
    main()
