"""What a patch set says of itself: the manifest, which repeats, and the provenance, which does not.

No digest covers the provenance: the same plan on the same pixels gives the same manifest.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_patchset.axes import DepthAxis
from napari_patchset.model import Frozen
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.source import PixelSize, SourceInfo

SCHEMA_VERSION = 1


class ArrayEntry(Frozen):
    """One array of the set: shape N, C, (Z), Y, X and the digest of its patches' checksums."""

    shape: tuple[int, ...]
    patches_per_shard: int
    dtype: str
    axes: str
    digest: str

    def layout(self, name: str) -> ArrayLayout:
        """Give where the array's patches lie."""
        n, *patch_shape = self.shape
        dtype = np.dtype(self.dtype)
        return ArrayLayout(name, n, tuple(patch_shape), dtype, self.axes, self.patches_per_shard)


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
    depth_axis, channels, pixel_size
        What all sources have in common; pixel size in micrometres.
    counts : dict of str to int
        Patches in each split.
    dropped : dict of str to int
        Candidates that were left out, by reason.
    arrays : dict of str to ArrayEntry
        By path in the set.
    table_digest : str
        Of the bytes of the table.
    statistics : tuple of ChannelStatistics
        Per channel, of the training split (of all patches where there is no split).
    """

    schema_version: int = SCHEMA_VERSION
    recipe: dict[str, Any]
    recipe_hash: str
    sources: tuple[SourceInfo, ...]
    depth_axis: DepthAxis
    channels: tuple[str, ...]
    pixel_size: PixelSize
    counts: dict[str, int]
    dropped: dict[str, int]
    arrays: dict[str, ArrayEntry]
    table_digest: str
    statistics: tuple[ChannelStatistics, ...]


class Provenance(Frozen):
    """Say when, from which paths and with which versions a set was made."""

    created: str
    """UTC, ISO 8601."""
    sources: tuple[str, ...]
    """The path of each source, for `verify` to read it again."""
    versions: dict[str, str]


def digest_bytes(data: bytes) -> str:
    """Digest bytes: blake2b of 16 bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_checksums(checksums: Iterable[int]) -> str:
    """Digest the crc32c of each patch of an array, in order."""
    return digest_bytes(b"".join(value.to_bytes(4, "little") for value in checksums))
