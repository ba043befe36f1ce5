"""tiff: a folder of OME-TIFFs, one for each patch: train/image/000000.ome.tif."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_patchset.errors import ExportError, UnreadableFileError
from napari_patchset.patchset.files import check_inside, write_file
from napari_patchset.patchset.layout import ARRAY_PATTERN, LABELS, ArrayLayout
from napari_patchset.patchset.manifest import SetIdentity, digest_bytes
from napari_patchset.patchset.writers.base import SetFormat

_CREATOR = f"tifffile.py {tifffile.__version__}".encode()
"""The software tag of each file; another version may encode the same patch differently."""


class TiffSet(SetFormat):
    """OME-TIFFs with pixel size, channel names and axes; the same bytes for the same patch."""

    shard_pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<array>{ARRAY_PATTERN})/(?P<number>[0-9]{{6}}|[1-9][0-9]{{6,}})[.]ome[.]tif"
    )

    def check(self, arrays: Sequence[ArrayLayout]) -> None:
        """Refuse pixel types that OME-TIFF has no name for."""
        for array in arrays:
            if array.dtype in ("int64", "uint64", "float16"):
                convert = "" if array.role == LABELS else ", or choose another pixel type"
                raise ExportError(
                    f"OME-TIFF has no pixel type {array.dtype}, the one of the {array.role}; "
                    f"export a zarr or an npz, convert the {array.role}{convert}."
                )

    def shard_paths(self, root: Path, array: ArrayLayout, shard: int) -> Iterable[Path]:
        """Return the file of each patch."""
        return [patch_path(root, array, index) for index in array.rows(shard)]

    def write(self, root: Path, array: ArrayLayout, shard: int, patches: NDArray[Any]) -> None:
        """Write a file for each patch."""
        for index, patch in zip(array.rows(shard), patches, strict=True):
            write_file(patch_path(root, array, index), [encode(patch, array, index)])

    def n_files(self, array: ArrayLayout) -> int:
        """Return the number of patches."""
        return array.n

    def is_as_written(
        self, root: Path, array: ArrayLayout, index: int, patch: NDArray[Any]
    ) -> bool:
        """Compare every byte, unless another version of tifffile wrote the file."""
        data = patch_path(root, array, index).read_bytes()
        return data == encode(patch, array, index) or _CREATOR not in data

    def open(self, root: Path, array: ArrayLayout, identity: SetIdentity) -> "TiffPatches":
        """Open an array; a file is opened when its patch is read."""
        return TiffPatches(root, array, identity)


@dataclass(frozen=True)
class TiffPatches:
    """The patches of an array, each in a file of its own."""

    root: Path
    array: ArrayLayout
    identity: SetIdentity

    def read(self, index: int) -> NDArray[Any]:
        """Read one patch C(Z)YX."""
        path = patch_path(self.root, self.array, index)
        with self.identity.checked():
            check_inside(self.root, path)
            return self._read(path)

    def _read(self, path: Path) -> NDArray[Any]:
        try:
            with tifffile.TiffFile(path) as tiff:
                self._check_fit(tiff)
                pixels: NDArray[Any] = tiff.asarray()
        except (FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # tifffile raises any error for a damaged file
            raise UnreadableFileError(f"{path}: damaged: {error}; export the set again.") from error
        return pixels.reshape(self.array.patch_shape)  # tifffile drops axes of size 1

    def _check_fit(self, tiff: tifffile.TiffFile) -> None:
        """Raise ValueError for another shape or type, before memory is allocated for it."""
        (series,), array = tiff.series, self.array
        if series.size != array.patch_size or series.dtype != array.pixel_type:
            raise ValueError(
                f"{series.dtype} of shape {series.shape} where a patch is {array.dtype} of shape "
                f"{array.patch_shape}"
            )

    def close(self) -> None:
        """Do nothing: no file stays open."""


def patch_path(root: Path, array: ArrayLayout, index: int) -> Path:
    """Return the file of a patch."""
    return root / array.name / f"{index:06d}.ome.tif"


def encode(patch: NDArray[Any], array: ArrayLayout, index: int) -> bytes:
    """Encode a patch C(Z)YX as OME-TIFF, without a date, and with a digest as its UUID."""
    little = np.ascontiguousarray(patch, patch.dtype.newbyteorder("<"))
    digest = digest_bytes(f"{array.name}/{index}".encode() + little.tobytes())
    ome: dict[str, Any] = {"axes": array.axes[1:], "Channel": {"Name": list(array.channels)}}
    for axis, size in array.scale.items():
        ome |= {f"PhysicalSize{axis.upper()}": size, f"PhysicalSize{axis.upper()}Unit": "µm"}
    resolution: dict[str, Any] = {}
    if {"x", "y"} <= set(array.scale):  # for readers that do not know OME
        pixels_per_cm = 1e4 / array.scale["x"], 1e4 / array.scale["y"]
        resolution = {"resolution": pixels_per_cm, "resolutionunit": "CENTIMETER"}
    buffer = BytesIO()
    tifffile.imwrite(
        buffer,
        little,
        ome=True,
        byteorder="<",
        photometric="minisblack",
        metadata=ome | {"UUID": str(UUID(digest))},
        **resolution,
    )
    return buffer.getvalue()
