"""PatchSet: open a patch set and take patches out of it."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import IncompleteSetError, UnreadableFileError
from napari_patchset.patchset.layout import (
    MANIFEST,
    PARTIAL_SUFFIX,
    PROVENANCE,
    TABLE,
    ArrayLayout,
    read_attributes,
)
from napari_patchset.patchset.manifest import SCHEMA_VERSION, Manifest, Provenance
from napari_patchset.patchset.shards import Shard, open_shard
from napari_patchset.source import SourceInfo

_MAPPED_SHARDS = 128
"""Each mapped shard holds a file descriptor; a process often has no more than 1024."""


class PatchArray:
    """The patches of one split, as a sequence; picklable, so a torch DataLoader takes it.

    An index gives a patch C(Z)YX in the native dtype, a slice gives N, C, (Z), Y, X; each is a
    copy, free to be changed.
    """

    def __init__(self, root: Path, layout: ArrayLayout) -> None:
        self.root = root
        self.layout = layout
        self._mapped: OrderedDict[int, Shard] = OrderedDict()
        self._lock = Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self.layout.dtype

    def __len__(self) -> int:
        return self.layout.n

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[Any]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        if isinstance(index, slice):
            patches = [self[i] for i in range(*index.indices(len(self)))]
            return np.stack(patches) if patches else np.empty((0, *self.shape[1:]), self.dtype)
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"Patch {index} is out of bounds for {len(self)} patches.")
        shard, row = divmod(position, self.layout.capacity)
        patch: NDArray[Any] = self._shard(shard)[row].astype(self.dtype)
        return patch

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def close(self) -> None:
        """Give back every mapped shard; the next access maps it again."""
        with self._lock:
            self._mapped.clear()

    def _shard(self, shard: int) -> Shard:
        with self._lock:
            mapped = self._mapped.get(shard)
            if mapped is None:
                mapped = self._mapped[shard] = self._map(shard)
                if len(self._mapped) > _MAPPED_SHARDS:
                    self._mapped.popitem(last=False)
            else:
                self._mapped.move_to_end(shard)
            return mapped

    def _map(self, shard: int) -> Shard:
        path = self.layout.shard_path(self.root, shard)
        return open_shard(path, self.layout, len(self.layout.rows(shard)))

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "layout": self.layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], state["layout"])  # type: ignore[misc]  # maps anew


class PatchSet(Mapping[str, PatchArray]):
    """A complete patch set on disk: `PatchSet(path)["all"][0]` is its first patch.

    Parameters
    ----------
    path : str or Path
        The folder NAME.patches.zarr.

    Attributes
    ----------
    manifest : Manifest
        How the set was made, what it holds, and its statistics.
    provenance : Provenance
        When, and from which paths.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    IncompleteSetError
        If it is no patch set, or one that was not completed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))
        attributes = read_attributes(self.path)
        if attributes is None:
            raise self._refusal()
        try:
            self.manifest = Manifest.model_validate(attributes[MANIFEST])
            self.provenance = Provenance.model_validate(attributes[PROVENANCE])
        except (ValidationError, KeyError) as error:
            raise IncompleteSetError(
                f"{self.path}: the manifest can't be read (this version reads schema "
                f"{SCHEMA_VERSION}): {error}"
            ) from error
        self._check_files()
        self._arrays = {split: self._images(split) for split in self.manifest.counts}

    def __getitem__(self, split: str) -> PatchArray:
        return self._arrays[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @cached_property
    def table(self) -> pa.Table:
        """The table: one row a patch; see `patch_table` for its columns."""
        return pq.read_table(self.path / TABLE)

    def locate(self, index: int) -> tuple[SourceInfo, dict[str, Any]]:
        """Say where a patch was cut: its source and its row of the table."""
        row = self.table.slice(index, 1).to_pylist()[0]
        return self.manifest.sources[row["source_index"]], row

    def close(self) -> None:
        """Give back every mapped shard."""
        for array in self._arrays.values():
            array.close()

    def _images(self, split: str) -> PatchArray:
        name = f"{split}/image"
        return PatchArray(self.path, self.manifest.layout(name))

    def _check_files(self) -> None:
        """Refuse a set that lacks a shard or its table, before a patch is asked for."""
        expected = [self.path / TABLE]
        for name in self.manifest.arrays:
            layout = self.manifest.layout(name)
            expected += [layout.shard_path(self.path, i) for i in range(layout.n_shards)]
        for path in expected:
            if not path.is_file():
                raise UnreadableFileError(
                    f"{self.path}: {path.relative_to(self.path)} is missing; "
                    "copy the set again, or export it again."
                )

    def _refusal(self) -> Exception:
        if not self.path.exists():
            return FileNotFoundError(f"{self.path}: no such patch set.")
        if self.path.name.endswith(PARTIAL_SUFFIX):
            return IncompleteSetError(
                f"{self.path}: an export that was not completed; run the same export again to "
                "go on with it."
            )
        return IncompleteSetError(f"{self.path}: not a patch set (no manifest).")
