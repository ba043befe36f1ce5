"""Patches as sequences, whatever they are read from, and the mapping that names them.

`PatchMapping` is what a set on disk and one that is cut from its sources have in common: arrays by
name, tuples of arrays, and folds, which are views of the training patches.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, MissingArrayError
from napari_patchset.patching.splits.groups import TRAINING, VALIDATION
from napari_patchset.patchset.columns import column_values
from napari_patchset.patchset.layout import IMAGE, LABELS, ROLES
from napari_patchset.patchset.statistics import ChannelStatistics, channel_sums
from napari_patchset.source import SourceInfo

_SUMMED_BYTES = 64 * 2**20
"""Patches of which statistics are summed up at once."""

_MAX_REPR = 60
"""Characters of a wrong index that an error shows."""


class PatchSequence(ABC):
    """A sequence of patches of one shape and type.

    An index returns a patch C(Z)YX in the native dtype; a slice, a list or an array of indices, or
    a mask of all patches returns an array N, C, (Z), Y, X. Each is a copy that may be changed.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        """N, C, (Z), Y, X."""
        self.dtype = dtype
        """Pixel type."""
        self._n = shape[0]

    @abstractmethod
    def _read(self, index: int) -> NDArray[Any]:
        """Return the patch of an index that exists."""

    def _read_many(self, indices: Sequence[int]) -> Sequence[NDArray[Any]] | NDArray[Any]:
        """Return several patches; what reads them faster together overrides this."""
        return [self._read(index) for index in indices]

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} x {self.shape[1:]} {self.dtype}>"

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(
        self, index: slice | Sequence[int] | NDArray[np.integer | np.bool_]
    ) -> NDArray[Any]: ...
    def __getitem__(
        self, index: int | slice | Sequence[int] | NDArray[np.integer | np.bool_]
    ) -> NDArray[Any]:
        if isinstance(index, slice):
            return self._stacked(range(*index.indices(len(self))))
        if not isinstance(index, int) and (isinstance(index, Sequence) or np.ndim(index)):
            return self._stacked([self._checked(i) for i in _as_indices(index, len(self))])
        return self._read(self._checked(index))

    def _stacked(self, indices: Sequence[int]) -> NDArray[Any]:
        patches = self._read_many(indices)
        if isinstance(patches, np.ndarray):
            return patches
        return np.stack(patches) if patches else np.empty((0, *self.shape[1:]), self.dtype)

    def __getitems__(self, indices: Sequence[int]) -> list[NDArray[Any]]:
        """Return the patches of a batch; torch's `DataLoader` calls this."""
        return list(self._read_many([self._checked(index) for index in indices]))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def _checked(self, index: Any) -> int:
        if isinstance(index, bool):  # which is an integer to Python
            raise _index_error(index)
        try:
            index = operator.index(index)
        except TypeError:
            raise _index_error(index) from None
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"Patch {index} is out of bounds for {len(self)} patches.")
        return int(position)


def _index_error(index: Any) -> TypeError:
    text = repr(index)
    if isinstance(index, np.ndarray):
        text = f"An array of {index.dtype} of shape {index.shape}"
    elif len(text) > _MAX_REPR:
        text = f"{text[:_MAX_REPR]}…"
    return TypeError(
        f"{text} is no index of patches; use an integer, a slice, a list or 1-D array of integers, "
        "or a mask with a value for each patch."
    )


def _as_indices(index: Any, n: int) -> list[int]:
    """Return a list or an array of indices, or a mask of all n patches, as integers."""
    try:
        indices = np.asarray(index)
    except ValueError:  # lists of different lengths
        raise _index_error(index) from None
    if indices.dtype == bool and indices.shape == (n,):
        chosen: list[int] = np.flatnonzero(indices).tolist()
        return chosen
    is_mixed = isinstance(index, Sequence) and any(isinstance(i, bool) for i in index)
    if is_mixed or indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise _index_error(index)
    numbers: list[int] = indices.astype(np.int64).tolist()
    return numbers


Array = TypeVar("Array", bound=PatchSequence, covariant=True)


class PatchSubset(PatchSequence):
    """Some patches of a sequence, by their indices there; no pixel is copied."""

    def __init__(self, patches: PatchSequence, indices: NDArray[np.int64]) -> None:
        super().__init__((len(indices), *patches.shape[1:]), patches.dtype)
        self.patches, self.indices = patches, indices

    def _read(self, index: int) -> NDArray[Any]:
        return self.patches[int(self.indices[index])]

    def _read_many(self, indices: Sequence[int]) -> NDArray[Any]:
        patches: NDArray[Any] = self.patches[self.indices[list(indices)]]
        return patches


class PatchTuples:
    """Arrays of one split, zipped: an index returns (image, target), each as from its array."""

    def __init__(self, arrays: Sequence[PatchSequence]) -> None:
        self.arrays = tuple(arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        return tuple(array[index] for array in self.arrays)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[NDArray[Any], ...]]:
        """Return the tuples of a batch; torch's `DataLoader` calls this."""
        return list(zip(*(array.__getitems__(indices) for array in self.arrays), strict=True))

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        return (self[i] for i in range(len(self)))


def array_name(split: str, role: str) -> str:
    """Return the name of an array in a mapping: "train", "train/target"."""
    return split if role == IMAGE else f"{split}/{role}"


class NamedPatches(Mapping[str, Array], Generic[Array]):
    """Arrays by name: that of a split for its images, "train/target" for their targets."""

    _arrays: dict[str, Array]

    @property
    @abstractmethod
    def _title(self) -> str:
        """What these patches are of, for messages."""

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            has = f"its arrays are {', '.join(self)}" if self else "it holds no pixels"
            raise MissingArrayError(f"{self._title} has no {name!r}; {has}.")
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def pairs(self, split: str, *roles: str) -> PatchTuples:
        """Return the arrays of a split as one sequence of tuples.

        Parameters
        ----------
        split : str
            "all", "train", "val" or "test".
        roles : str
            "image", "target", "labels", in the order of a tuple; by default all that there are.

        Raises
        ------
        MissingArrayError
            If there is no such array.
        """
        present = [role for role in ROLES if array_name(split, role) in self]
        return PatchTuples([self[array_name(split, r)] for r in roles or present or [IMAGE]])


class Fold(NamedPatches[PatchSubset]):
    """One fold of a cross-validation: its patches are "val", those of all others "train".

    The test patches are in no fold: they are the set's own, `patches["test"]`.

    Attributes
    ----------
    number : int
        Which of the folds validates.
    indices : dict of str to int64 array
        By split, the index in the set's "train" of each patch.
    """

    def __init__(
        self, patches: "PatchMapping[Any]", title: str, number: int, fold: NDArray[np.int8]
    ) -> None:
        self.number, self._patches, self._set_title = number, patches, title
        self.indices = {
            TRAINING: np.flatnonzero(fold != number),
            VALIDATION: np.flatnonzero(fold == number),
        }
        self._arrays = {
            array_name(split, role): PatchSubset(patches[array_name(TRAINING, role)], indices)
            for split, indices in self.indices.items()
            for role in ROLES
            if array_name(TRAINING, role) in patches
        }

    @property
    def _title(self) -> str:
        return f"Fold {self.number} of {self._set_title}"

    def __getitem__(self, name: str) -> PatchSubset:
        if name not in self and name in self._patches:
            raise MissingArrayError(
                f"{self._title} has no {name!r}, which belongs to no fold: use patches[{name!r}] "
                f"of the set itself; the arrays of the fold are {', '.join(self)}."
            )
        return super().__getitem__(name)

    def locate(self, index: int, split: str) -> tuple[SourceInfo, dict[str, Any]]:
        """Return source and row of the patch `fold[split][index]`; see `PatchSet.locate`."""
        return self._patches.locate(int(self._indices_of(split)[index]), TRAINING)

    def column(self, name: str, split: str) -> NDArray[Any]:
        """Return the values of a column for the patches of a split; see `PatchSet.column`."""
        indices = self._indices_of(split)
        values: NDArray[Any] = self._patches.column(name, TRAINING)[indices]
        return values

    def _indices_of(self, split: str) -> NDArray[np.int64]:
        if split not in self.indices:
            has = ", ".join(self.indices)
            raise ArgumentError(f"There is no split {split!r} in a fold; its splits are {has}.")
        return self.indices[split]

    @cached_property
    def statistics(self) -> dict[str, tuple[ChannelStatistics, ...]]:
        """Statistics of each channel over the training patches of this fold, which it reads."""
        return {
            role: statistics_of(self[name])
            for role in ROLES
            if role != LABELS and (name := array_name(TRAINING, role)) in self
        }


def statistics_of(patches: PatchSequence) -> tuple[ChannelStatistics, ...]:
    """Return the statistics of each channel over all patches of a sequence, which are read."""
    nbytes = int(np.prod(patches.shape[1:], dtype=np.int64)) * patches.dtype.itemsize
    step = max(1, _SUMMED_BYTES // nbytes)
    parts = [channel_sums(patches[i : i + step]) for i in range(0, len(patches), step)]
    sums = parts[0]
    for part in parts[1:]:
        sums = [a + b for a, b in zip(sums, part, strict=True)]
    return tuple(map(ChannelStatistics.from_sums, sums))


class PatchMapping(NamedPatches[Array]):
    """The splits of a set, which may have folds; closed at the end of a `with` statement."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close every open file; reading a patch opens it again."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The names of the splits: "train", "val" and "test", as far as there are any, or "all"."""

    @abstractmethod
    def _rows(self, split: str) -> NDArray[np.int64]:
        """Return the row of the table of each patch of a split."""

    @property
    @abstractmethod
    def _column_names(self) -> Sequence[str]:
        """The names of the columns of the table."""

    @abstractmethod
    def _take(self, rows: NDArray[np.int64], name: str) -> pa.Table:
        """Return rows of the table: the column of this name, and maybe others."""

    @abstractmethod
    def _locate(self, row: int) -> tuple[SourceInfo, dict[str, Any]]:
        """Return the source that the patch of a row is cut from, and the row."""

    def locate(self, index: int, split: str | None = None) -> tuple[SourceInfo, dict[str, Any]]:
        """Return the source that a patch is cut from, and its row of the table.

        Parameters
        ----------
        index : int
            As in `patch_set[split][index]`.
        split : str or None
            May be left out if there is only one.

        Raises
        ------
        ArgumentError
            If there is no such split, or several and none is named.
        IndexError
            If the split has no such patch.
        """
        return self._locate(int(self._rows(self.named_split(split))[index]))

    def column(self, name: str, split: str) -> NDArray[Any]:
        """Return the values of a column of the table for the patches of a split.

        Parameters
        ----------
        name : str
            A column of numbers or texts.
        split : str
            A split, whose patches are in the order of its array.

        Raises
        ------
        ArgumentError
            If there is no such column or split, or a value is null.
        """
        chosen = self._rows(self.named_split(split))
        if name not in self._column_names:
            has = ", ".join(self._column_names)
            raise ArgumentError(f"{self._title} has no column {name!r}; its columns are {has}.")
        rows = self._take(chosen, name)
        if n := rows[name].null_count:
            raise ArgumentError(
                f"{self._title}: {n} of {len(rows)} patches have no {name}; choose another column."
            )
        if pa.types.is_string(rows[name].type):
            return np.array(rows[name].to_pylist())
        return column_values(rows[name])

    def named_split(self, split: str | None) -> str:
        """Return a split by name, or the only one; raise ArgumentError if there is none."""
        if split is None and len(self.splits) == 1:
            return self.splits[0]
        if split not in self.splits:
            has = ", ".join(self.splits)
            raise ArgumentError(f"There is no split {split!r}; the splits are {has}.")
        return split

    @property
    @abstractmethod
    def n_folds(self) -> int:
        """Number of folds, 0 without."""

    @property
    @abstractmethod
    def fold_numbers(self) -> NDArray[np.int8]:
        """The fold of each training patch."""

    def fold(self, number: int) -> Fold:
        """Return the training and validation patches of a fold, as views of the training patches.

        Parameters
        ----------
        number : int
            Which fold validates, from 0.

        Raises
        ------
        ArgumentError
            If there is no such fold.
        """
        if not 0 <= number < self.n_folds:
            has = f"its folds are 0 to {self.n_folds - 1}" if self.n_folds else "it has no folds"
            raise ArgumentError(f"{self._title} has no fold {number}; {has}.")
        return Fold(self, self._title, number, self.fold_numbers)
