"""The keys of sources in plans and manifests, computed from the content alone.

A file's key is a fingerprint, of samples of its bytes, so that the cost does not grow with its
size; an array's is a digest, of every byte. See `source` for these words. Images that differ in
other bytes alone, such as masks and dark frames, have one fingerprint; where that matters, a digest
of all bytes follows it (`detailed_key`).
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.cache import FileCache, OpenFiles
from napari_patchset.stacks.protocol import ImageStack

_END_BYTES = 64 * 1024
_BLOCK_BYTES = 4 * 1024
_N_BLOCKS = 16
_WHOLE_BYTES = 2 * _END_BYTES + _N_BLOCKS * _BLOCK_BYTES
"""Size up to which a file is read whole, by one read, as threads cost more than these bytes."""

_N_THREADS = 9
"""For half of the reads at once."""

_READ_BYTES = 2**22
"""Bytes that are read at once for a digest."""

_BETWEEN = "-"
"""Between the fingerprint and the digest of a detailed key."""

Advance = Callable[[int], object]
"""Is called with the number of bytes that were read; may raise an exception to end the reading."""

_DIGESTS: FileCache[str] = FileCache(1024)
"""Digests of whole files, valid until the file changes."""


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


def part_digests(stack: ImageStack, advance: Advance = lambda nbytes: None) -> tuple[str, ...]:
    """Return the digest of all bytes of each file that `file_keys` has the key of.

    Of one that `content_key` has no file for, such as an array in a folder or on a server, it is
    that of all pixels.
    """
    if parts := getattr(stack, "parts", ()):
        return tuple(text_key(part_digests(part, advance)) for part in parts)
    if getattr(stack, "file_keys", ()):
        files: Any = getattr(stack, "files", ())
        return tuple(file_digest(file, advance) for file in files)
    path: Any = getattr(stack, "data_path", stack.source)
    if not has_own_key(stack) and isinstance(path, Path) and path.is_file():
        return (file_digest(path, advance),)
    return (_pixels_digest(stack, advance),)


def detailed_key(fingerprint: str, digests: Iterable[str]) -> str:
    """Return the key of an image of which others, with other pixels, have the fingerprint."""
    return f"{fingerprint}{_BETWEEN}{text_key(digests)}"


def fingerprint_of(key: str) -> str:
    """Return a key without its digest, if it has one."""
    return key.partition(_BETWEEN)[0]


def is_detailed(key: str) -> bool:
    """Return whether a key has a digest of all bytes behind the fingerprint."""
    return _BETWEEN in key


def file_digest(path: Path, advance: Advance = lambda nbytes: None) -> str:
    """Return the digest of a whole file; of one that did not change, it is read once."""
    return _DIGESTS.get(path.absolute(), partial(_read_digest, advance=advance))


def _read_digest(path: Path, advance: Advance) -> str:
    digest, size = hashlib.blake2b(digest_size=16), path.stat().st_size
    with closing(OpenFiles([path])) as files:
        for start in range(0, size, _READ_BYTES):
            data = files.read(path, start, min(_READ_BYTES, size - start))
            digest.update(data)
            advance(len(data))
    return digest.hexdigest()


def _pixels_digest(stack: ImageStack, advance: Advance) -> str:
    n_samples, n_channels, *depth, height, width = stack.data_shape
    dtype = np.dtype(stack.data_dtype)
    digest = hashlib.blake2b(f"{dtype.str}{tuple(stack.data_shape)}".encode(), digest_size=16)
    block = getattr(stack, "block_shape", None)
    rows = max(1, _READ_BYTES // (width * dtype.itemsize))
    if block is not None:  # each block is decoded once
        rows = max(block[0], rows // block[0] * block[0])
    for sample in range(n_samples):
        for channel in range(n_channels):
            for z in range(*depth or [1]):
                for y in range(0, height, rows):
                    size = [*(1 for _ in depth), min(rows, height - y), width]
                    start = [*(z for _ in depth), y, 0]
                    pixels = np.ascontiguousarray(
                        stack.extract_patch(sample, [channel], start, size)
                    )
                    digest.update(pixels.data)
                    advance(pixels.nbytes)
    return digest.hexdigest()


def file_key(path: Path) -> str:
    """Return the fingerprint of a file: its size, both ends, and blocks evenly spread in between.

    At most 192 KiB are read. Files that differ in other bytes alone have the same: see
    `part_digests`.
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
