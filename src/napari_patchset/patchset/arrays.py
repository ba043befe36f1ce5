"""The patches of a set as sequences: picklable, so a torch DataLoader takes them as they are."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patchset.formats.base import PatchStore
from napari_patchset.patchset.layout import ArrayLayout


class PatchArray:
    """The patches of one array of a set.

    An index gives a patch C(Z)YX in the native dtype, a slice gives N, C, (Z), Y, X; each is a
    copy, free to be changed.
    """

    def __init__(self, layout: ArrayLayout, store: PatchStore) -> None:
        self.layout = layout
        self._store = store
        self._n = layout.n

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self.layout.dtype

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> NDArray[Any]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any]:
        if isinstance(index, slice):
            patches = [self[i] for i in range(*index.indices(self._n))]
            return np.stack(patches) if patches else np.empty((0, *self.shape[1:]), self.dtype)
        position = index + self._n if index < 0 else index
        if not 0 <= position < self._n:
            raise IndexError(f"Patch {index} is out of bounds for {self._n} patches.")
        return self._store.read(position)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(self._n))

    def close(self) -> None:
        """Give back every open file; the next patch opens it again."""
        self._store.close()


class PatchTuples:
    """Arrays of one split side by side: an index gives (image, target), each as `PatchArray`."""

    def __init__(self, arrays: Sequence[PatchArray]) -> None:
        self.arrays = tuple(arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        return tuple(array[index] for array in self.arrays)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        return (self[i] for i in range(len(self)))
