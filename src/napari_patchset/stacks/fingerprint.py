"""Tell the same content from another, at a cost that does not grow with the file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENDS = 64 * 1024
_BLOCK = 4 * 1024
_N_BLOCKS = 16


def file_key(path: Path) -> str:
    """Fingerprint a file: its size, both ends, and blocks evenly spread in between.

    A copy at another path has the same key. At most 192 KiB are read, so a change that leaves
    the size and all of these bytes alone is not seen; the checksums of a patch set see it.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(size.to_bytes(8, "little"))
        inner = np.linspace(_ENDS, max(size - _ENDS, _ENDS), _N_BLOCKS, dtype=np.int64).tolist()
        for start, length in ((0, _ENDS), *((i, _BLOCK) for i in inner), (size - _ENDS, _ENDS)):
            file.seek(max(start, 0))
            digest.update(file.read(length))
    return digest.hexdigest()


def array_key(data: NDArray[Any]) -> str:
    """Fingerprint an array: its type, shape and every byte."""
    digest = hashlib.blake2b(f"{data.dtype.str}{data.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(data).data)
    return digest.hexdigest()
