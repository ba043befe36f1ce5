"""Manifest and provenance of a patch set: what it holds, and how, when and from what it was made.

The same plan on the same pixels gives the same manifest. Dates, paths and versions, which differ
from run to run, are in the provenance, which no digest covers.
"""

import hashlib
import json
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from napari_patchset._model import Frozen
from napari_patchset.annotations.features import ClassLabel
from napari_patchset.axes import DepthAxis
from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.files import read_json
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    ATTRIBUTE,
    DESCRIPTION,
    MANIFEST,
    ArrayLayout,
)
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.source import PixelSize, SourceInfo
from napari_patchset.stacks.cache import FileStat

SCHEMA_VERSIONS = "1 and 2"

SchemaVersion = Literal[1, 2]
"""2 has resampled sources, channels that only filters measured, classes that patches were drawn
for, annotations, a share that must be inside, a test set, folds, and columns of a samples sheet; a
set without them is 1."""

REMEDY = "copy the set again, or export it again"
"""The remedy for a set that was edited or damaged."""

ArrayName = Annotated[str, Field(pattern=f"^{ARRAY_PATTERN}$")]
"""SPLIT/ROLE: nothing that leads out of the set."""


class ArrayEntry(ArrayLayout):
    """One array of the set.

    Attributes
    ----------
    digest : str
        Of the crc32c of each patch, in order.
    """

    # The JSON has the name as the array's key, and the pixel size once for all arrays.
    name: SkipJsonSchema[str] = Field(exclude=True)
    pixel_size: SkipJsonSchema[PixelSize] = Field(exclude=True)
    digest: str

    @classmethod
    def from_checksums(cls, array: ArrayLayout, checksums: NDArray[np.uint32]) -> Self:
        """Describe an array whose patches have these checksums (crc32c), in order."""
        return cls(**dict(array), digest=digest_checksums(checksums))


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
    classes : tuple of ClassLabel
        The classes of annotations: name, value in labels that are drawn from them, and colour. Each
        has a column in the table, "share_Tumor".
    counts : dict of str to int
        Patches in each split.
    folds : tuple of int
        Patches in each fold, which are those of "train"; empty without folds.
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

    schema_version: SchemaVersion = 1
    recipe: dict[str, Any]
    recipe_hash: str
    sources: tuple[SourceInfo, ...]
    depth_axis: DepthAxis
    channels: tuple[str, ...]
    pixel_size: PixelSize
    classes: tuple[ClassLabel, ...] = Field(default=(), exclude_if=operator.not_)
    counts: dict[str, int]
    folds: tuple[int, ...] = Field(default=(), exclude_if=operator.not_)
    dropped: dict[str, int]
    rejected: dict[str, int]
    limits: dict[str, dict[str, float]]
    arrays: dict[ArrayName, ArrayEntry]
    table_digest: str
    statistics: dict[str, tuple[ChannelStatistics, ...]]

    @model_validator(mode="before")
    @classmethod
    def _complete_arrays(cls, data: Any) -> Any:
        """Add the name and the pixel size, which the JSON of an array does not repeat."""
        if not isinstance(data, dict) or not isinstance(data.get("arrays"), dict):
            return data
        arrays = {
            name: {**entry, "name": name, "pixel_size": data.get("pixel_size")}
            if isinstance(entry, dict)
            else entry
            for name, entry in data["arrays"].items()
        }
        return {**data, "arrays": arrays}

    @property
    def format(self) -> str:
        """The format of the set, a name in `FORMATS`."""
        return str(self.recipe.get("format"))

    def check_consistent(self, path: Path) -> None:
        """Raise UnreadableFileError, naming the set at `path`, if the manifest contradicts itself.

        Anyone can edit it.
        """
        for name, array in self.arrays.items():
            n, *patch = array.shape or (0,)
            count = self.counts.get(array.split)
            fits = len(array.shape) == len(array.axes) and patch[0] == len(array.channels)
            if n != count or not fits or min(patch) < 1 or prod(array.shape) >= 2**63:
                raise UnreadableFileError(
                    f"{path}: its manifest contradicts itself: {name} of shape {array.shape} and "
                    f"axes {array.axes}, {count} patches, {len(array.channels)} channels; {REMEDY}."
                )
        if not self.sources:
            raise UnreadableFileError(f"{path}: its manifest names no source; {REMEDY}.")


class Provenance(Frozen):
    """When, from which paths and with which versions a set was made."""

    created: str
    """UTC, ISO 8601."""
    sources: tuple[dict[str, Any], ...]
    """Path and scene of each source and of its paired images, from which `verify` reads again."""
    versions: dict[str, str]
    skipped: tuple[dict[str, str], ...] = ()
    """The sources that could not be read, each with the `message` that says why; not written if
    there is none."""


def read_attributes(root: Path) -> dict[str, Any] | None:
    """Read manifest and provenance of the set at `root` as JSON, None for an incomplete set."""
    zarr = read_json(root / "zarr.json").get("attributes")
    attributes = zarr.get(ATTRIBUTE) if isinstance(zarr, dict) else read_json(root / DESCRIPTION)
    return attributes if isinstance(attributes, dict) and attributes else None


def digest_bytes(data: bytes) -> str:
    """Return the blake2b digest of bytes: 16 bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """Return `digest_bytes` of a file, which may be larger than the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_checksums(checksums: NDArray[np.uint32]) -> str:
    """Return the digest of the crc32c of each patch of an array, in order."""
    return digest_bytes(checksums.astype("<u4").tobytes())


class SetIdentity:
    """The identity of the set at a path: the digest of its manifest.

    An export with overwrite puts another set under the name of one that is open, here or in another
    process, such as a worker with a pickled split. Each time that a file of the set is opened, the
    manifest under that name must still be the one that was opened.

    It pickles, and threads may share it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stats = path, _find_stats(path)
        self._digest = _manifest_digest(path)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Open a file of the set: its pixels, or an error of opening it, are of the opened set.

        Raise what `check_unchanged` raises.
        """
        try:
            yield
        finally:
            self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise UnreadableFileError if another set, or none, is at the path now.

        The manifest is read only if the size or time of its file differs.
        """
        stats = _find_stats(self._path)
        if stats == self._stats:
            return
        if _manifest_digest(self._path) != self._digest:
            what = "replaced by another patch set" if stats else "removed"
            raise UnreadableFileError(
                f"{self._path} was {what} after it was opened; open the patch set again."
            )
        self._stats = stats


def _find_stats(path: Path) -> dict[str, FileStat]:
    """Return size and time of each file that may hold the manifest."""
    files = {name: path / name for name in ("zarr.json", DESCRIPTION)}
    return {name: FileStat.from_file(file) for name, file in files.items() if file.is_file()}


def _manifest_digest(path: Path) -> str:
    manifest = (read_attributes(path) or {}).get(MANIFEST)
    return digest_bytes(json.dumps(manifest, sort_keys=True).encode())
