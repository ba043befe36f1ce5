"""zarr: one zarr v3 group, an array for each split and role."""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from numpy.typing import NDArray

from napari_patchset.forking import ForkAware
from napari_patchset.patchset.consistency import require_inside
from napari_patchset.patchset.formats.base import SetFormat
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    ATTRIBUTE,
    SUFFIX,
    ArrayLayout,
    zarr_descriptions,
)
from napari_patchset.patchset.shards import Shard, open_shard, write_shard

_MAPPED_SHARDS = 128
"""Each mapped shard holds a file descriptor; a process often has no more than 1024."""


class ZarrSet(SetFormat):
    """Shards that are mapped for reading; see `layout` and `shards`."""

    suffix: ClassVar[str] = SUFFIX
    unit_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<array>{ARRAY_PATTERN})/c/(?P<number>0|[1-9][0-9]*)(/0)+"
    )

    def unit_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Give the shard's file."""
        return [array.shard_path(root, shard)]

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a shard."""
        write_shard(array.shard_path(root, shard), array, patches)

    def descriptions(
        self, root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
    ) -> dict[Path, dict[str, Any]]:
        """Give the metadata of every array and group, the root's last."""
        return zarr_descriptions(root, arrays, {ATTRIBUTE: attributes})

    def open(self, root: Path, array: ArrayLayout) -> "MappedShards":
        """Open an array; a shard is mapped when its first patch is read."""
        return MappedShards(root, array)


class MappedShards(ForkAware):
    """The shards of an array, of which the last ones used stay mapped."""

    def __init__(self, root: Path, array: ArrayLayout) -> None:
        self._root, self._array = root, array
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        self._mapped: OrderedDict[int, Shard] = OrderedDict()
        self._lock = Lock()

    def read(self, index: int) -> NDArray[Any]:
        """Read one patch C(Z)YX: a copy."""
        shard, row = divmod(index, self._array.capacity)
        patch: NDArray[Any] = self._shard(shard)[row].astype(self._array.dtype)
        return patch

    def close(self) -> None:
        """Unmap every shard."""
        self._mind_fork()
        with self._lock:
            self._mapped.clear()

    def _shard(self, shard: int) -> Shard:
        self._mind_fork()
        with self._lock:
            mapped = self._mapped.get(shard)
            if mapped is None:
                path, n = self._array.shard_path(self._root, shard), len(self._array.rows(shard))
                require_inside(self._root, path)
                mapped = self._mapped[shard] = open_shard(path, self._array, n)
                if len(self._mapped) > _MAPPED_SHARDS:
                    self._mapped.popitem(last=False)
            else:
                self._mapped.move_to_end(shard)
            return mapped

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedShards, (self._root, self._array)  # mapped anew where it is unpickled
