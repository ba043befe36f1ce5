"""How rows are measured: both sides in turn, the median of the ratios, compared with a target."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from peers import PeerError

from napari_patchset.stacks.czi.subblocks import SubblockDecoder

Side = Callable[[], float]
"""Does its work once and returns the seconds that it took."""


@dataclass(frozen=True)
class Target:
    """A bound on a row's ratio, or on our own figure where there is no ratio."""

    bound: Literal["<=", ">="]
    value: float
    unit: str = "x"

    def met(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        return figure <= self.value if self.bound == "<=" else figure >= self.value

    def __str__(self) -> str:
        space = "" if self.unit == "x" else " "
        return f"{self.bound} {self.value:g}{space}{self.unit}"


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes
    ----------
    name : str
        What was measured.
    kind : {"time", "memory", "count"}
        A count is the same on every machine.
    ours, peer : float or None
        The figures in `unit`; none where it failed, or where there is no peer or it is not
        installed.
    ratio : float or None
        Held to the target; `ours` is where there is no ratio.
    target : Target or None
        None for a line that only informs.
    note : str
        What else to know.
    """

    name: str
    kind: Literal["time", "memory", "count"]
    unit: str
    ours: float | None
    peer: float | None = None
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None where there is nothing to hold to it."""
        if self.target is None:
            return None
        figure = self.ratio if self.target.unit == "x" else self.ours
        return None if figure is None else self.target.met(figure)

    def to_json(self) -> dict[str, Any]:
        """Return the row for the JSON file."""
        target = None if self.target is None else str(self.target)
        return {**asdict(self), "target": target, "ok": self.ok}


def timed(work: Callable[[], object]) -> float:
    """Time one call, after a collection and with the disk at rest."""
    gc.collect()
    os.sync()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(sides: Mapping[str, Side], repeats: int) -> dict[str, list[float]]:
    """Run every side once, then every side again; return the seconds of each by name.

    A peer that fails is omitted, and its error is printed.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name in list(times):
            try:
                times[name].append(sides[name]())
            except PeerError as error:
                print(f"{name}: {error}", file=sys.stderr)
                del times[name]
    return times


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of each turn."""
    return median(a / b for a, b in zip(above, below, strict=True))


@contextmanager
def counted_tiles() -> Iterator[list[int]]:
    """List the tiles that CZI stacks decode in the meantime."""
    decoded: list[int] = []
    decode = SubblockDecoder.decode

    def counting(self: SubblockDecoder, row: int) -> Any:
        decoded.append(row)
        return decode(self, row)

    SubblockDecoder.decode = counting  # type: ignore[method-assign]
    try:
        yield decoded
    finally:
        SubblockDecoder.decode = decode  # type: ignore[method-assign]
