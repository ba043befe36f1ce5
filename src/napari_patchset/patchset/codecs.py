"""How the patches of a zarr are compressed: zarr v3's "blosc", which zarr-python reads natively."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError

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
