"""The one place that knows names, shapes, chunks and shards of a patch set.

NAME.patches.zarr/            while it is written: NAME.partial/set/
    zarr.json                 group; attributes.patchset = {manifest, provenance}
    train/zarr.json           group of one split; "all" where there is no split
    train/image/zarr.json     array N, C, (Z), Y, X
    train/image/c/I/0/0/0     its shard I
    train/target, train/labels    the paired arrays: the same N and order
    val/...
    patches.parquet           one row a candidate

How the patches of a zarr are compressed: zarr v3's "blosc", which zarr-python reads natively.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.disk import write_durably
from napari_patchset.source import PixelSize

_BITSHUFFLE = 2


@dataclass(frozen=True, slots=True)
class Codec:
    """Blosc with bitshuffle: a compressor and its level."""

    compressor: str
    level: int

    def metadata(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Give the codec as it stands in a zarr.json."""
        configuration = {
            "cname": self.compressor,
            "clevel": self.level,
            "shuffle": "bitshuffle",
            "typesize": dtype.itemsize,
            "blocksize": 0,
        }
        return {"name": "blosc", "configuration": configuration}

    def encode(self, patch: NDArray[Any]) -> bytes | bytearray | memoryview:
        """Compress a contiguous little-endian patch."""
        return imagecodecs.blosc_encode(
            patch.tobytes(),
            level=self.level,
            compressor=self.compressor,
            shuffle=_BITSHUFFLE,
            typesize=patch.dtype.itemsize,
            numthreads=1,  # the export has threads of its own, and the bytes must not depend on it
        )

    def decode(self, data: bytes, out: NDArray[Any]) -> None:
        """Decompress into a contiguous patch.

        Raises
        ------
        UnreadableFileError
            If that is not what the data hold.
        """
        flat = out.reshape(-1).view(np.uint8)
        try:
            found = len(imagecodecs.blosc_decode(data, numthreads=1, out=flat.data))
        except imagecodecs.BloscError as error:
            raise UnreadableFileError(str(error)) from error
        if found != flat.size:
            raise UnreadableFileError(f"{found} bytes where a patch has {flat.size}")


CODECS: Mapping[str, Codec | None] = {
    "none": None,
    "zstd": Codec("zstd", 1),
    "lz4": Codec("lz4", 5),
}
"""By the name that a plan gives; None stores patches as they are, so that they can be mapped."""


SUFFIX = ".patches.zarr"
FOLDER_SUFFIX = ".patches"
SUFFIXES = (SUFFIX, FOLDER_SUFFIX)
"""What the name of a set ends in: a zarr, or a folder of another format."""

PARTIAL_SUFFIX = ".partial"
TABLE = "patches.parquet"
DESCRIPTION = "patchset.json"
"""Manifest and provenance of a set that is no zarr."""

ATTRIBUTE = "patchset"
MANIFEST = "manifest"
PROVENANCE = "provenance"
UNSPLIT = "all"
"""The split's name where there is no split."""

IMAGE, TARGET, LABELS = "image", "target", "labels"
ROLES = (IMAGE, TARGET, LABELS)
"""What an array of a split holds: its name is SPLIT/ROLE."""

SPLIT_PATTERN = f"({UNSPLIT}|train|val)"
ARRAY_PATTERN = f"{SPLIT_PATTERN}/({'|'.join(ROLES)})"
"""Regular expressions of the name of a split, and of an array."""

SHARD_BYTES = 32 * 2**20

_FILLS: dict[str, Any] = {"b": False, "c": [0.0, 0.0]}
"""How a zarr.json writes zero, by the kind of pixel; for all others it is 0."""


def stem_of(out: Path) -> str:
    """Give the name of the set at `out` without what it ends in."""
    suffix = next((suffix for suffix in SUFFIXES if out.name.endswith(suffix)), "")
    return out.name.removesuffix(suffix)


def partial_path(out: Path) -> Path:
    """Give the folder in which the set at `out` is written until it is complete."""
    return out.with_name(stem_of(out) + PARTIAL_SUFFIX)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One array of a set: N patches of one shape, in shards.

    Attributes
    ----------
    name : str
        Its path in the set: "train/image", "all/target".
    n : int
        Number of patches.
    patch_shape : tuple of int
        C, (Z), Y, X.
    dtype : dtype
        Of a pixel.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    capacity : int
        Patches in a full shard.
    channels : tuple of str
        One name for each channel.
    pixel_size : PixelSize
        In micrometres.
    codec : str
        How each patch is compressed, a name in `CODECS`.
    """

    name: str
    n: int
    patch_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    capacity: int
    channels: tuple[str, ...]
    pixel_size: PixelSize
    codec: str = "none"

    @property
    def split(self) -> str:
        """The split that the array belongs to."""
        return self.name.partition("/")[0]

    @property
    def role(self) -> str:
        """What the array holds, one of `ROLES`."""
        return self.name.partition("/")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, (Z), Y, X."""
        return (self.n, *self.patch_shape)

    @property
    def patch_size(self) -> int:
        """Pixels of one patch, over all channels."""
        return prod(self.patch_shape)

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch."""
        return self.patch_size * self.dtype.itemsize

    @property
    def n_shards(self) -> int:
        """Number of shards; the last one may not be full."""
        return -(-self.n // self.capacity)

    @property
    def scale(self) -> dict[str, float]:
        """Pixel size in micrometres along those axes of a patch where it is known."""
        known = self.pixel_size.model_dump(exclude_none=True)
        return {axis: size for axis, size in known.items() if axis.upper() in self.axes}

    def rows(self, shard: int) -> range:
        """Give the indices of the patches that lie in a shard."""
        return range(shard * self.capacity, min((shard + 1) * self.capacity, self.n))

    def shard_path(self, root: Path, shard: int) -> Path:
        """Give the file of a shard in the set at `root`."""
        return root.joinpath(self.name, "c", str(shard), *"0" * len(self.patch_shape))

    def zarr_metadata(self) -> dict[str, Any]:
        """Give the array's zarr v3 metadata."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        codec = CODECS[self.codec]
        sharding = {
            "chunk_shape": [1, *self.patch_shape],
            "codecs": [little, *([codec.metadata(self.dtype)] if codec else [])],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        grid = {"chunk_shape": [self.capacity, *self.patch_shape]}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": grid},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": _FILLS.get(self.dtype.kind, 0),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {"channels": list(self.channels), "pixel_size_um": self.scale},
            "dimension_names": list(self.axes.lower()),
        }


def shard_capacity(patch_shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Give how many patches a full shard of a new set holds."""
    return max(1, SHARD_BYTES // (prod(patch_shape) * dtype.itemsize))


def zarr_descriptions(
    root: Path, arrays: Sequence[ArrayLayout], attributes: dict[str, Any]
) -> dict[Path, dict[str, Any]]:
    """Give the content of every zarr.json of a set, the root's last and with all of them in it."""
    nodes: dict[str, dict[str, Any]] = {}
    for array in arrays:
        nodes[array.name.rpartition("/")[0]] = _group({})
        nodes[array.name] = array.zarr_metadata()
    consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
    of_root = _group(attributes) | {"consolidated_metadata": consolidated}
    return {root / name / "zarr.json": content for name, content in {**nodes, "": of_root}.items()}


def read_attributes(root: Path) -> dict[str, Any] | None:
    """Give what the set at `root` says of itself, None if the folder is no complete set."""
    zarr = read_json(root / "zarr.json").get("attributes")
    said = zarr.get(ATTRIBUTE) if isinstance(zarr, dict) else read_json(root / DESCRIPTION)
    return said if isinstance(said, dict) and said else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; empty if it is not there, or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    write_durably(path, [(json.dumps(content, indent=1) + "\n").encode()])


def _group(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}
