"""What a patch set says of itself: the manifest, which repeats, and the provenance, which does not.

No digest covers the provenance: the same plan on the same pixels gives the same manifest.
"""

import hashlib
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from napari_patchset._model import Frozen
from napari_patchset.axes import DepthAxis
from napari_patchset.patchset.layout import ARRAY_PATTERN, ArrayLayout
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.source import PixelSize, SourceInfo

SCHEMA_VERSION: Literal[1] = 1

ArrayName = Annotated[str, Field(pattern=f"^{ARRAY_PATTERN}$")]
"""SPLIT/ROLE: nothing that leads out of the set."""

PixelType = Annotated[
    str, Field(pattern="^(bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128))$")
]
"""NumPy's name of a pixel type, without byte order."""


class ArrayEntry(Frozen):
    """One array of the set.

    Attributes
    ----------
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
    digest : str
        Of the crc32c of each patch, in order.
    """

    shape: tuple[NonNegativeInt, ...]
    patches_per_shard: PositiveInt
    dtype: PixelType
    axes: Annotated[str, Field(pattern="^SC[ZT]?YX$")]
    channels: tuple[str, ...]
    codec: Literal["none", "zstd", "lz4"]
    digest: str

    @classmethod
    def of(cls, array: ArrayLayout, checksums: NDArray[np.uint32]) -> Self:
        """Describe an array that holds patches of these checksums, in order."""
        return cls(
            shape=array.shape,
            patches_per_shard=array.capacity,
            dtype=array.dtype.name,
            axes=array.axes,
            channels=array.channels,
            codec=array.codec,
            digest=digest_checksums(checksums),
        )


class Manifest(Frozen):
    """Describe a patch set; equal for equal sets.

    Attributes
    ----------
    schema_version : int
        Version of this description.
    recipe, recipe_hash : dict, str
        Strategy, channels, format: how the patches were chosen; and its digest.
    sources : tuple of SourceInfo
        What they were cut from, in the order of the table's `source_index`.
    depth_axis, channels, pixel_size : str, tuple of str, PixelSize
        What all sources have in common; pixel size in micrometres.
    counts : dict of str to int
        Patches in each split.
    dropped : dict of str to int
        Places where no candidate was made, by reason.
    rejected : dict of str to int
        Candidates that are not in the set, by reason.
    limits : dict of str to dict of str to float
        What thresholds that depend on all candidates came to, by the metric's column.
    arrays : dict of str to ArrayEntry
        By path in the set, SPLIT/ROLE: the role is "image", and "target" or "labels" for what was
        cut at the same places, patch by patch. None where the format holds no pixels. The mask of
        a filter is not written; the recipe names the filter, the table what it measured.
    table_digest : str
        Of the bytes of the table.
    statistics : dict of str to tuple of ChannelStatistics
        By role, "image" and where there is one "target", for each channel: of the training split,
        or of all patches where there is no split.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe: dict[str, Any]
    recipe_hash: str
    sources: tuple[SourceInfo, ...]
    depth_axis: DepthAxis
    channels: tuple[str, ...]
    pixel_size: PixelSize
    counts: dict[str, int]
    dropped: dict[str, int]
    rejected: dict[str, int]
    limits: dict[str, dict[str, float]]
    arrays: dict[ArrayName, ArrayEntry]
    table_digest: str
    statistics: dict[str, tuple[ChannelStatistics, ...]]

    @property
    def format(self) -> str:
        """How the set is written, a name in `FORMATS`."""
        return str(self.recipe.get("format"))

    def layout(self, name: str) -> ArrayLayout:
        """Give where the patches of an array lie."""
        entry = self.arrays[name]
        n, *patch_shape = entry.shape
        return ArrayLayout(
            name=name,
            n=n,
            patch_shape=tuple(patch_shape),
            dtype=np.dtype(entry.dtype),
            axes=entry.axes,
            capacity=entry.patches_per_shard,
            channels=entry.channels,
            pixel_size=self.pixel_size,
            codec=entry.codec,
        )


class Provenance(Frozen):
    """Say when, from which paths and with which versions a set was made."""

    created: str
    """UTC, ISO 8601."""
    sources: tuple[dict[str, Any], ...]
    """Path and scene of each source and of what lies beside it, for `verify` to read them again."""
    versions: dict[str, str]


def digest_bytes(data: bytes) -> str:
    """Digest bytes: blake2b of 16 bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_checksums(checksums: NDArray[np.uint32]) -> str:
    """Digest the crc32c of each patch of an array, in order."""
    return digest_bytes(checksums.astype("<u4").tobytes())
