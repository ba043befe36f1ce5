"""The format of a patch set: write shards, complete the set, open it again."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from napari_patchset.patchset.files import write_json
from napari_patchset.patchset.layout import DESCRIPTION, FOLDER_SUFFIX, ArrayLayout
from napari_patchset.patchset.manifest import SetIdentity


class PatchStore(Protocol):
    """The patches of one array on disk; picklable, without its open files."""

    def read(self, index: int) -> NDArray[Any]:
        """Return one patch C(Z)YX, maybe a part of a mapped file in its order of bytes."""

    def close(self) -> None:
        """Close every open file; the next patch opens it again."""


class SetFormat(ABC):
    """Write patch sets of one format, and open them.

    Patches are written in shards, each independently of the others, in any order and by any
    process. A format may store a shard in one file, or in many.
    """

    suffix: ClassVar[str] = FOLDER_SUFFIX
    """Suffix of a set's name."""

    has_pixels: ClassVar[bool] = True
    """Whether a set holds more than the table and the manifest."""

    shard_pattern: ClassVar[re.Pattern[str]]
    """Matches the path, below a set that is being written, of a file of patches; a complete set
    holds those with the groups `array` and `number`."""

    def check(self, arrays: Sequence[ArrayLayout]) -> None:  # noqa: B027  # most formats hold any
        """Raise ExportError, naming the limit, if the format can't hold these arrays.

        It is called before the first byte is written.
        """

    @abstractmethod
    def shard_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Return the files of a shard; it is written if all of them exist."""

    @abstractmethod
    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a shard of patches N, C, (Z), Y, X; each file is whole or not there."""

    def complete(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> None:
        """Complete a set whose shards are all written; manifest and provenance come last."""
        for path, content in self.metadata_files(root, arrays, attributes).items():
            write_json(path, content)

    def metadata_files(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> dict[Path, dict[str, Any]]:
        """Return the JSON files of a set, in the order in which they are written."""
        return {root / DESCRIPTION: attributes}

    def find_damage(self, root: Path, array: ArrayLayout) -> str | None:
        """Describe damage in an array's files outside of the pixels, None if there is none."""
        return None

    def is_as_written(
        self, root: Path, array: ArrayLayout, index: int, patch: NDArray[Any]
    ) -> bool:
        """Return whether a patch's file, its metadata too, is as it was written."""
        return True

    def files(self, root: Path, array: ArrayLayout) -> Iterable[Path]:
        """Return the files of an array of a complete set."""
        for shard in range(array.n_shards):
            yield from self.shard_paths(root, array, shard)

    def n_files(self, array: ArrayLayout) -> int:
        """Return the number of an array's files with a number in their path."""
        return array.n_shards

    def contains(self, arrays: Mapping[str, ArrayLayout], path: str) -> bool:
        """Return whether a path below a complete set, with slashes, is a file of its patches."""
        match = self.shard_pattern.fullmatch(path)
        array = arrays.get(match["array"]) if match else None
        return bool(match and array and int(match["number"]) < self.n_files(array))

    @abstractmethod
    def open(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> PatchStore:
        """Open an array of a complete set.

        After it has opened a file of it, the store calls `identity.check_unchanged`.
        """
