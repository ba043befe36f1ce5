"""The keys of sources in plans and manifests, computed from the content alone.

A file's key is a fingerprint, of samples of its bytes, so that the cost does not grow with its
size; an array's is a digest, of every byte. See `source` for these words.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.cache import OpenFiles
from napari_patchset.stacks.protocol import ImageStack

_END_BYTES = 64 * 1024
_BLOCK_BYTES = 4 * 1024
_N_BLOCKS = 16
_WHOLE_BYTES = 2 * _END_BYTES + _N_BLOCKS * _BLOCK_BYTES
"""Size up to which a file is read whole, by one read, as threads cost more than these bytes."""

_N_FILES = 64
"""Largest number of files of a folder that are read."""

_N_THREADS = 9
"""For half of the reads at once."""


class KeyedStack(Protocol):
    """A stack with a key of its own: another scene of its file may have another one.

    Such are the series of a set of files. All scenes of any other stack's file have one key.
    """

    def fingerprint(self) -> str | None:
        """Return the key of the content, None if `content_key` is to compute it."""


def has_own_key(stack: ImageStack) -> TypeGuard[KeyedStack]:
    """Return whether a stack is a `KeyedStack`."""
    return hasattr(stack, "fingerprint")


def content_key(stack: ImageStack) -> str:
    """Return a stack's own `fingerprint()`, else the key of its files, else of all its pixels."""
    if has_own_key(stack) and (key := stack.fingerprint()) is not None:
        return key
    if keys := getattr(stack, "file_keys", ()):
        return text_key(keys)
    path: Any = getattr(stack, "data_path", stack.source)
    if isinstance(path, Path) and path.is_file():
        return file_key(path)
    n_samples, _, *spatial = stack.data_shape
    zeros = [0] * len(spatial)
    samples = (stack.extract_patch(i, None, zeros, spatial) for i in range(n_samples))
    return array_key(np.stack(list(samples)))


def file_key(path: Path) -> str:
    """Return the fingerprint of a file: its size, both ends, and blocks evenly spread in between.

    At most 192 KiB are read. A change that spares the size and all of these bytes is not detected;
    the checksums of a patch set detect it.
    """
    path = path.absolute()
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    spans = _sampled_spans(size)
    with closing(OpenFiles([path])) as files:
        if size <= _WHOLE_BYTES:
            whole = files.read(path, 0, size)
            for start, length in spans:
                digest.update(whole[start : start + length])
            return digest.hexdigest()
        with ThreadPoolExecutor(_N_THREADS, "fingerprint") as pool:
            for data in pool.map(lambda span: files.read(path, *span), spans):
                digest.update(data)
    return digest.hexdigest()


def folder_key(folder: Path) -> str:
    """Return the fingerprint of a folder: the names of its files, and `file_key` of up to 64."""
    names = [
        os.path.relpath(os.path.join(path, name), folder)
        for path, _, files in os.walk(folder)
        for name in files
    ]
    names.sort()
    sampled = sorted({i * len(names) // _N_FILES for i in range(_N_FILES)}) if names else ()
    return text_key([*map(ascii, names), *(file_key(folder / names[i]) for i in sampled)])


def text_key(parts: Iterable[str]) -> str:
    """Return the digest of texts, such as the keys of several files, in their order."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _sampled_spans(size: int) -> list[tuple[int, int]]:
    """Return position and length of each read."""
    last = max(size - _END_BYTES, 0)
    inner = np.linspace(_END_BYTES, max(last, _END_BYTES), _N_BLOCKS, dtype=np.int64).tolist()
    spans = (0, _END_BYTES), *((start, _BLOCK_BYTES) for start in inner), (last, _END_BYTES)
    return [(start, max(0, min(length, size - start))) for start, length in spans]


def array_key(data: NDArray[Any]) -> str:
    """Return the digest of an array: its dtype, shape and every byte."""
    digest = hashlib.blake2b(f"{data.dtype.str}{data.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(data).data)
    return digest.hexdigest()
