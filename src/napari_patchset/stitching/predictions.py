"""Predictions of the patches of a split: one array N, C, (Z), Y, X in the order of its rows.

They lie in a zarr array, an .npy or .npz file, a folder of TIFF files (one a patch, in natural
order of their names), or a patch set. They are read a few at a time, and may be larger than memory.
`PredictedPatches` says where the patches lie that have some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError

from napari_patchset.errors import ArgumentError, IncompleteSetError, UnreadableFileError
from napari_patchset.exporting.plans.plan import Recipe
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patching.strategies.tiled import Crops
from napari_patchset.patchset.layout import TABLE, UNSPLIT
from napari_patchset.patchset.reader import PatchArray, PatchSet
from napari_patchset.patchset.table import TableFile, find_split_rows, grid_of
from napari_patchset.source import natural_key
from napari_patchset.stacks.cache import OpenFiles, SharedCache
from napari_patchset.stitching.stitch_folder import StitchFolder, StitchPlan


class Predictions(Protocol):
    """Predictions of all patches of a split; threads may share them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Read N, C, (Z), Y, X of the patches `first` up to, not including, `last`."""


def open_predictions(path: Path, split: str, ndim: int) -> Predictions:
    """Open the predictions of a split's patches.

    Parameters
    ----------
    path : Path
        Of a zarr group, a patch set or an .npz with several arrays, the one named after the split
        is taken; of a folder of TIFFs, the subfolder of that name, if there is one.
    split : str
        "all", "train" or "val".
    ndim : int
        Number of dimensions of N, C, (Z), Y, X. Predictions with one dimension less have one
        channel.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ArgumentError
        If it holds no array, several and none of the split's name, or one of other dimensions.
    UnreadableFileError
        If a file can't be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder of predictions.")
    predictions = _open(path, split)
    if len(predictions.shape) == ndim - 1:
        return _OneChannel(predictions)
    check_axes(predictions.shape, ndim, str(path))
    return predictions


def check_axes(shape: tuple[int, ...], ndim: int, name: str) -> None:
    """Raise ArgumentError if that is not the shape of predictions of `ndim` dimensions."""
    if len(shape) != ndim or 0 in shape[1:]:
        axes = "N, C, Z, Y, X" if ndim == 5 else "N, C, Y, X"
        raise ArgumentError(
            f"{name}: an array of shape {shape}; predictions have the axes {axes}, "
            "with as many dimensions as the patches of the set."
        )


def _open(path: Path, split: str) -> Predictions:
    if path.suffix == ".npy":
        return _NpyFile(path)
    if path.suffix == ".npz":
        return _Array(_read_npz(path, split))
    if not path.is_dir():
        raise ArgumentError(
            f"{path}: predictions are a zarr array, an .npy or .npz file, a folder of TIFF files, "
            "or a patch set."
        )
    try:
        return _Array(PatchSet(path)[split])
    except IncompleteSetError:
        pass  # another folder
    if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        return _ZarrArray(path, split)
    return _TiffFolder(path / split if (path / split).is_dir() else path)


def _choose(path: Path, split: str, names: Sequence[str]) -> str:
    """Return the array of a split among several, or the only one."""
    if split in names:
        return split
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names) or "none"
    raise ArgumentError(f"{path}: it has no array {split!r}; its arrays are: {listed}.")


class _OneChannel:
    """Predictions without a channel axis, with one."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        n, *spatial = predictions.shape
        self.shape, self.dtype = (n, 1, *spatial), predictions.dtype

    def read(self, first: int, last: int) -> NDArray[Any]:
        return self._predictions.read(first, last)[:, np.newaxis]


class _Array:
    """An array in memory, or of a patch set."""

    def __init__(self, array: NDArray[Any] | PatchArray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, first: int, last: int) -> NDArray[Any]:
        return self._array[first:last]


class _NpyFile:
    """An .npy file, which is read, not mapped: mapped pages count as memory of the process."""

    def __init__(self, path: Path) -> None:
        try:
            mapped = np.load(path, mmap_mode="r")
        except ValueError as error:
            raise UnreadableFileError(f"{path}: it can't be read as .npy: {error}") from error
        if not mapped.flags.c_contiguous:
            raise ArgumentError(f"{path}: it is in Fortran order; save np.ascontiguousarray of it.")
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self._path, self._offset, self._files = path, mapped.offset, OpenFiles([path])

    def read(self, first: int, last: int) -> NDArray[Any]:
        values = np.empty((last - first, *self.shape[1:]), self.dtype)
        offset = self._offset + first * prod(self.shape[1:]) * self.dtype.itemsize
        self._files.read_into(self._path, offset, values.reshape(-1).view(np.uint8))
        return values


def _read_npz(path: Path, split: str) -> NDArray[Any]:
    """Read an array of an .npz, whole."""
    try:
        with np.load(path) as arrays:
            values: NDArray[Any] = arrays[_choose(path, split, list(arrays))]
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise UnreadableFileError(f"{path}: it can't be read as .npz: {error}") from error
    return values


_BLOCK_BYTES = 2 * 2**20
_CACHED_BYTES = 32 * 2**20


class _ZarrArray:
    """A zarr array, read in blocks of whole chunks along N; the last ones used stay in memory."""

    def __init__(self, path: Path, split: str) -> None:
        try:
            node = zarr.open(path, mode="r")
            if isinstance(node, zarr.Group):
                names = [name for name, _ in node.arrays()]
                node = node[_choose(path, split, names)]
        except (BaseZarrError, ValueError, KeyError, OSError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise UnreadableFileError(f"{path}: it can't be read as zarr: {error}") from error
        if not isinstance(node, zarr.Array):
            raise ArgumentError(f"{path}: {split} is a group; name the array in it.")
        self.shape, self.dtype = node.shape, np.dtype(node.dtype)
        chunk_rows = node.chunks[0] if node.chunks else 1
        chunk_bytes = max(1, chunk_rows * prod(self.shape[1:]) * self.dtype.itemsize)
        self._path, self._array = path, node
        self._rows = chunk_rows * max(1, _BLOCK_BYTES // chunk_bytes)
        self._blocks = SharedCache[int, NDArray[Any]](_CACHED_BYTES, attrgetter("nbytes"))

    def read(self, first: int, last: int) -> NDArray[Any]:
        parts = []
        for number in range(first // self._rows, (last - 1) // self._rows + 1):
            block = self._blocks.get(number, partial(self._read_block, number))
            start = number * self._rows
            parts.append(block[max(0, first - start) : last - start])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_block(self, number: int) -> NDArray[Any]:
        first = number * self._rows
        try:
            return np.asarray(self._array[first : min(first + self._rows, self.shape[0])])
        except (BaseZarrError, ValueError, RuntimeError, OSError) as error:
            raise UnreadableFileError(f"{self._path}: it can't be read: {error}") from error


class _TiffFolder:
    """A folder of TIFF files, one a patch, in natural order of their names."""

    def __init__(self, folder: Path) -> None:
        files = (path for path in folder.iterdir() if path.suffix.lower() in (".tif", ".tiff"))
        self._paths = sorted(files, key=lambda path: natural_key(path.name))
        if not self._paths:
            raise ArgumentError(f"{folder}: it has no TIFF files, and no array.")
        first = self._read_file(self._paths[0])
        self.shape, self.dtype = (len(self._paths), *first.shape), first.dtype

    def read(self, first: int, last: int) -> NDArray[Any]:
        return np.stack([self._read_patch(path) for path in self._paths[first:last]])

    def _read_patch(self, path: Path) -> NDArray[Any]:
        patch = self._read_file(path)
        if (patch.shape, patch.dtype) != (self.shape[1:], self.dtype):
            raise ArgumentError(
                f"{path}: {patch.shape} {patch.dtype}, but {self._paths[0].name} is "
                f"{self.shape[1:]} {self.dtype}; all predictions must be alike."
            )
        return patch

    @staticmethod
    def _read_file(path: Path) -> NDArray[Any]:
        try:
            patch: NDArray[Any] = tifffile.imread(path)
        except (ValueError, OSError, tifffile.TiffFileError) as error:
            raise UnreadableFileError(f"{path}: it can't be read as TIFF: {error}") from error
        return patch


def check_alike(predictions: Mapping[str, Predictions], counts: Mapping[str, int]) -> None:
    """Require as many predictions as each split has patches, and of one shape and type.

    Raises
    ------
    ArgumentError
        Naming the split.
    """
    first = next(iter(predictions.values()))
    for split, each in predictions.items():
        if each.shape[0] != counts[split]:
            raise ArgumentError(
                f"There are {each.shape[0]:,} predictions{_of(split)}, but {counts[split]:,} "
                "patches; predict every patch, in the order of the set."
            )
        if (each.shape[1:], each.dtype) != (first.shape[1:], first.dtype):
            raise ArgumentError(
                f"Predictions{_of(split)} are {each.shape[1:]} {each.dtype}, others "
                f"{first.shape[1:]} {first.dtype}; all must be alike."
            )


def _of(split: str) -> str:
    """Return " of train"; "" in a set that is not split."""
    return "" if split == UNSPLIT else f" of {split}"


@dataclass(frozen=True)
class PredictedPatches:
    """The patches that have predictions, in the order of the table.

    Attributes
    ----------
    grid : PatchGrid
        Where they lie.
    crops : Crops or None
        How the tiling crops them; None if it does not.
    number : int64 array
        Index of each patch in the predictions of all splits, one split after the other.
    offsets : list of int
        Number of the first patch of each split of the plan. One number is left out in between, so
        that consecutive patches are of one split.
    """

    grid: PatchGrid
    crops: Crops | None
    number: NDArray[np.int64]
    offsets: list[int]

    @classmethod
    def of(cls, patch_set: PatchSet, plan: StitchPlan, folder: StitchFolder) -> "PredictedPatches":
        """Find the patches of a set that a plan has predictions of."""
        sources = patch_set.manifest.sources
        of_split = find_split_rows(TableFile(patch_set.path / TABLE), patch_set.manifest)
        rows, number, offsets = [], [], [0]
        for name in plan.predictions:
            predicted = folder.rows(name)
            chosen = np.flatnonzero(predicted) if predicted is not None else slice(None)
            rows.append(of_split[name][chosen])
            number.append(offsets[-1] + np.arange(len(of_split[name]))[chosen])
            offsets.append(offsets[-1] + len(of_split[name]) + 1)
        order = np.argsort(np.concatenate(rows))
        grid = _read_grid(patch_set, np.concatenate(rows)[order])
        strategy = Recipe.model_validate(patch_set.manifest.recipe).strategy
        crops = None
        if plan.blend == "crop" and isinstance(strategy, Tiled) and strategy.edge == "shift":
            crops = strategy.crops(grid, sources)
        return cls(grid, crops, np.concatenate(number)[order], offsets)


def _read_grid(patch_set: PatchSet, rows: NDArray[np.int64]) -> PatchGrid:
    """Read where the patches in ascending rows of the table lie, a part of the table at a time."""
    sources = patch_set.manifest.sources
    axes = sources[0].layout.spatial_axes.lower()
    extents = [f"{axis}_{what}" for what in ("start", "size") for axis in axes]
    grids, first = [], 0
    for part in patch_set.table_parts(["source_index", "sample", "valid", *extents]):
        own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(part))]
        if len(part):
            grids.append(grid_of(part, sources, first)[own - first])
        first += len(part)
    return PatchGrid.concatenate(grids)
