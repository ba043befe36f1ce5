"""What a format of patch sets does: write patches in units, complete the set, open it again."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from napari_patchset.patchset.layout import DESCRIPTION, FOLDER_SUFFIX, ArrayLayout, write_json


class PatchStore(Protocol):
    """The patches of one array on disk; picklable, whatever it holds open."""

    def read(self, index: int) -> NDArray[Any]:
        """Read one patch C(Z)YX in native dtype: a copy, free to be changed."""

    def close(self) -> None:
        """Give back what is held open; the next patch opens it again."""


class SetFormat(ABC):
    """Write patch sets of one format, and open them.

    Patches are written in units of the array's capacity, each on its own, in any order and by any
    process; the unit is called a shard whatever the format makes of it.
    """

    suffix: ClassVar[str] = FOLDER_SUFFIX
    """What the name of a set ends in."""

    has_pixels: ClassVar[bool] = True
    """Whether there is anything to write but the table and the manifest."""

    unit_pattern: ClassVar[re.Pattern[str]]
    """Matches the path, below a set that is being written, of a file of patches; a complete set
    holds those with the groups `array` and `number`."""

    def check(self, arrays: Sequence[ArrayLayout]) -> None:  # noqa: B027  # most hold any
        """Refuse, before the first byte, arrays that the format can't hold.

        Raises
        ------
        ExportError
            Naming the limit.
        """

    @abstractmethod
    def unit_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Give the files of a unit: it is written if they are all there."""

    @abstractmethod
    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a unit of patches N, C, (Z), Y, X so that each file is whole or not there."""

    def finish(self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]) -> None:
        """Complete a set whose units are all written; its description comes last."""
        for path, content in self.descriptions(root, arrays, attributes).items():
            write_json(path, content)

    def descriptions(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> dict[Path, dict[str, Any]]:
        """Give the JSON files of a set, in the order in which they are written."""
        return {root / DESCRIPTION: attributes}

    def find_damage(self, root: Path, array: ArrayLayout) -> str | None:
        """Say what of an array's files is wrong beside the pixels, None if nothing is."""
        return None

    def is_as_written(
        self, root: Path, array: ArrayLayout, index: int, patch: NDArray[Any]
    ) -> bool:
        """Whether what is said of a patch beside its pixels is what was written."""
        return True

    def files(self, root: Path, array: ArrayLayout) -> Iterable[Path]:
        """Give the files that an array of a complete set lies in."""
        for shard in range(array.n_shards):
            yield from self.unit_paths(root, array, shard)

    def n_files(self, array: ArrayLayout) -> int:
        """Return how many files of an array are numbered."""
        return array.n_shards

    def contains(self, arrays: Mapping[str, ArrayLayout], path: str) -> bool:
        """Whether a path below a complete set, with slashes, is that of a file of its patches."""
        found = self.unit_pattern.fullmatch(path)
        array = arrays.get(found["array"]) if found else None
        return bool(found and array and int(found["number"]) < self.n_files(array))

    @abstractmethod
    def open(self, root: Path, array: ArrayLayout) -> PatchStore:
        """Open an array of a complete set."""
