"""Names in a patch set, and the layout of its arrays.

NAME.patches.zarr/            NAME.partial/set/ until it is complete
    zarr.json                 root group; attributes.patchset = {manifest, provenance}
    train/zarr.json           group of a split; "all" without a split
    train/image/zarr.json     array N, C, (Z), Y, X
    train/image/c/I/0/0/0     shard I of the array
    train/target, train/labels    paired arrays: the same N and order
    val/...
    patches.parquet           one row per candidate

The other formats (see `writers`) hold the same arrays in files of their own, and manifest and
provenance in patchset.json.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from napari_patchset._model import Frozen
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.source import PixelSize, SourceInfo

SUFFIX = ".patches.zarr"
FOLDER_SUFFIX = ".patches"
SUFFIXES = (SUFFIX, FOLDER_SUFFIX)
"""Suffixes of a set's name: a zarr, or a folder of another format."""

PARTIAL_SUFFIX = ".partial"
TABLE = "patches.parquet"
DESCRIPTION = "patchset.json"
"""Manifest and provenance of a set that is not a zarr."""

ATTRIBUTE = "patchset"
MANIFEST = "manifest"
PROVENANCE = "provenance"
UNSPLIT = "all"
"""Name of the only split of a set without a split."""

IMAGE, TARGET, LABELS = "image", "target", "labels"
ROLES = (IMAGE, TARGET, LABELS)
"""The content of an array of a split, whose name is SPLIT/ROLE."""

SPLIT_PATTERN = f"({UNSPLIT}|train|val|test)"
ARRAY_PATTERN = f"{SPLIT_PATTERN}/({'|'.join(ROLES)})"
"""Regular expressions of the name of a split, and of an array."""

SHARD_BYTES = 32 * 2**20
"""Size of a full shard of a new set, before compression."""


def stem_of(out: Path) -> str:
    """Return the name of the set at `out` without its suffix."""
    suffix = next((suffix for suffix in SUFFIXES if out.name.endswith(suffix)), "")
    return out.name.removesuffix(suffix)


def workdir_path(out: Path) -> Path:
    """Return the folder in which the set at `out` is written until it is complete."""
    return out.with_name(stem_of(out) + PARTIAL_SUFFIX)


PIXEL_TYPE_PATTERN = "^(bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128))$"

PixelType = Annotated[str, Field(pattern=PIXEL_TYPE_PATTERN)]
"""NumPy's name of a pixel type, without byte order."""


class ArrayLayout(Frozen):
    """One array of a set: N patches of one shape, in shards.

    It is planned with an export, tells the writers where each patch goes, and becomes an entry of
    the manifest.

    Attributes
    ----------
    name : str
        SPLIT/ROLE, its path in the set: "train/image", "all/target".
    shape : tuple of int
        N, C, (Z), Y, X.
    patches_per_shard : int
        Patches that are written together: in a zarr, those of a full shard.
    dtype : str
        NumPy's name of the pixel type.
    axes : str
        "SCYX", "SCZYX" or "SCTYX"; S counts the patches.
    channels : tuple of str
        One name for each channel.
    codec : {"none", "zstd", "lz4"}
        How each patch is compressed in a zarr.
    pixel_size : PixelSize
        In micrometres.
    """

    name: str
    shape: tuple[NonNegativeInt, ...]
    patches_per_shard: PositiveInt
    dtype: PixelType
    axes: Annotated[str, Field(pattern="^SC[ZT]?YX$")]
    channels: tuple[str, ...]
    codec: CodecName
    pixel_size: PixelSize

    @classmethod
    def from_source(
        cls,
        name: str,
        n: int,
        source: SourceInfo,
        size: Sequence[int],
        dtype: str | None = None,
        codec: str = "none",
    ) -> Self:
        """Lay out `n` patches of a size along (Z)YX that are cut from sources like this one.

        `dtype` is the pixel type to cast to, None for the source's own.
        """
        shape, dtype = (len(source.channels), *size), dtype or source.dtype
        return cls(
            name=name,
            shape=(n, *shape),
            patches_per_shard=shard_capacity(shape, np.dtype(dtype)),
            dtype=dtype,
            axes=source.layout.stack_axes,
            channels=source.channels,
            codec=codec,
            pixel_size=source.pixel_size,
        )

    def in_split(self, split: str, n: int) -> Self:
        """Return the layout of the array of the same role in a split of `n` patches."""
        shape = (n, *self.patch_shape)
        return self.model_copy(update={"name": f"{split}/{self.role}", "shape": shape})

    @property
    def split(self) -> str:
        """The split that the array belongs to."""
        return self.name.partition("/")[0]

    @property
    def role(self) -> str:
        """The content of the array, one of `ROLES`."""
        return self.name.partition("/")[2]

    @property
    def n(self) -> int:
        """Number of patches."""
        return self.shape[0]

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """C, (Z), Y, X."""
        return self.shape[1:]

    @property
    def pixel_type(self) -> np.dtype[Any]:
        """NumPy's type of a pixel, in native byte order."""
        return np.dtype(self.dtype)

    @property
    def patch_size(self) -> int:
        """Pixels of one patch, over all channels."""
        return prod(self.patch_shape)

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch."""
        return self.patch_size * self.pixel_type.itemsize

    @property
    def n_shards(self) -> int:
        """Number of shards; the last one may not be full."""
        return -(-self.n // self.patches_per_shard)

    @property
    def scale(self) -> dict[str, float]:
        """Pixel size in micrometres along those axes of a patch where it is known."""
        known = self.pixel_size.model_dump(exclude_none=True)
        return {axis: size for axis, size in known.items() if axis.upper() in self.axes}

    def rows(self, shard: int) -> range:
        """Return the indices of the patches in a shard."""
        first = shard * self.patches_per_shard
        return range(first, min(first + self.patches_per_shard, self.n))


def shard_capacity(patch_shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return the number of patches in a full shard of a new set."""
    return max(1, SHARD_BYTES // (prod(patch_shape) * dtype.itemsize))
