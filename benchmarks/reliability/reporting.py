"""What every script of this folder shares: its options, its one line, its JSON."""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOD = frozenset({"same", "changed", "refused", "complete", "resumed", "closed"})


@dataclass
class Row:
    """The figures of one script: how often what came about, and each defect.

    Attributes
    ----------
    name, seed : str, int
        The row of the design's table, and what repeats it.
    counts : Counter
        Cases by outcome.
    defects : list of str
        One text for each case that came out wrong.
    figures : dict
        Whatever else was measured.
    """

    name: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, outcome: str, detail: str = "") -> None:
        """Count one case; an outcome that is none of the good ones is a defect."""
        self.counts[outcome] += 1
        if outcome not in GOOD:
            self.defects.append(f"{outcome}: {detail}")

    def __str__(self) -> str:
        parts = [f"{n} {outcome}" for outcome, n in sorted(self.counts.items())]
        parts += [f"{key} {value}" for key, value in self.figures.items()]
        total = self.counts.total()
        return (
            f"{self.name}: {total} (seed {self.seed}): {', '.join(parts)}; "
            f"{len(self.defects)} defects"
        )


def run_row(
    name: str,
    run: Callable[[argparse.Namespace, Row], None],
    n: int,
    more: Iterable[tuple[str, dict[str, Any]]] = (),
) -> int:
    """Parse the options, run the row in a folder of its own, print one line, write the JSON.

    Returns
    -------
    int
        1 if there was a defect.
    """
    parser = argparse.ArgumentParser(description=f"Reliability: {name}.")
    parser.add_argument("--n", type=int, default=n, help=f"how many cases, {n} by default")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other cases")
    parser.add_argument("--work", type=Path, help="where files are written; a fast disk is best")
    parser.add_argument("--json", type=Path, help="write the figures and every defect here")
    for option, settings in more:
        parser.add_argument(option, **settings)
    options = parser.parse_args()
    row, began = Row(name, options.seed), time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        options.work = Path(folder)
        run(options, row)
    row.figures["seconds"] = round(time.monotonic() - began)
    print(row)
    for defect in row.defects[:20]:
        print(f"  {defect}", file=sys.stderr)
    if options.json:
        content = {**vars(row), "n": options.n}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(bool(row.defects))
