"""Finding: one thing that is wrong with a patch set, under one of a fixed list of names."""

from dataclasses import dataclass
from typing import Literal

FindingName = Literal[
    "missing file",
    "damaged file",
    "damaged patch",
    "edited manifest",
    "edited table",
    "wrong counts",
    "wrong statistics",
    "overlapping split",
    "absent source",
    "changed source",
    "differs from source",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a set and what it should be.

    Attributes
    ----------
    name : str
        The kind of difference.
    message : str
        The file, shard or row that differs, and the remedy.
    """

    name: FindingName
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"
