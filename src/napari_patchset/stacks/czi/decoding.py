"""Decode one subblock alone.

libCZI decodes every subblock that meets a rectangle, again for each rectangle: in a mosaic whose
tiles overlap, several times each. Raw and zstd data are plain enough to be read here; libCZI is
left what is not (JPEG XR) and the file's own pyramid.
"""

from pathlib import Path
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi.check import PIXEL_TYPES, UNCOMPRESSED
from napari_patchset.stacks.czi.directory import Subblocks
from napari_patchset.stacks.czi.subblock import (
    ZSTD0,
    ZSTD1,
    Located,
    SubblockData,
    decoded_bytes,
    locate_data,
    splits_bytes,
    zstd1_header_size,
)
from napari_patchset.stacks.open_files import Files
from napari_patchset.stacks.tiles import take_memory


class SubblockDecoder:
    """Read the pixels of single subblocks; opens the file at the first one.

    Threads and forked processes may share it, and it pickles.
    """

    def __init__(self, path: Path, blocks: Subblocks, file_size: int, located: Located) -> None:
        self._path = path.absolute()
        self._blocks = blocks
        self._file_size = file_size
        self._located = located
        self._files = Files({self._path})

    def can_decode(self, row: int) -> bool:
        """Whether a subblock is of a kind that is decoded here."""
        return int(self._blocks.compression[row]) in (UNCOMPRESSED, ZSTD0, ZSTD1)

    def decode(self, row: int) -> NDArray[Any]:
        """Decode a subblock that `can_decode`.

        Returns
        -------
        ndarray
            YX for grey pixels, YXC with C in the order R, G, B for colour.

        Raises
        ------
        UnreadableFileError
            If the subblock is damaged, naming it.
        """
        found = self.check(row)
        pixels = take_memory(decoded_bytes(self._blocks, row))
        if int(self._blocks.compression[row]) == UNCOMPRESSED:
            self._files.read_into(self._path, found.position, pixels)
        else:
            self._unpack(row, self._files.read(self._path, *found), pixels)
        return self._as_pixels(row, pixels)

    def check(self, row: int) -> SubblockData:
        """Check a subblock's header, unless that was done, and say where its data lie.

        Raises
        ------
        UnreadableFileError
            With the fault, the subblock's position and what to do.
        """
        found = self._located.get(row)
        if found is None:
            found = locate_data(self._read, self._path, self._blocks, row, self._file_size)
            self._located.add(row, found)
        return found

    def close(self) -> None:
        """Give back the file."""
        self._files.close()

    def _read(self, position: int, length: int) -> bytes:
        room = max(self._file_size - position, 0)
        return self._files.read(self._path, position, min(length, room))

    def _unpack(self, row: int, data: bytes, pixels: NDArray[np.uint8]) -> None:
        own_header = int(self._blocks.compression[row]) == ZSTD1
        frame = memoryview(data)[zstd1_header_size(data) if own_header else 0 :]
        if own_header and splits_bytes(data):
            halves = take_memory(len(pixels))
            self._decompress(row, frame, halves)
            _join_bytes(halves, pixels)
        else:
            self._decompress(row, frame, pixels)

    def _decompress(self, row: int, frame: memoryview, out: NDArray[np.uint8]) -> None:
        try:
            # Stubs before imagecodecs 2026.10 do not know that any buffer will do.
            n = len(imagecodecs.zstd_decode(cast("bytes", frame), out=out.data))
        except imagecodecs.ZstdError as error:
            raise self._damaged(row, f"its zstd data can't be decoded: {error}") from error
        if n != len(out):
            raise self._damaged(row, f"it decodes to {n} bytes, not {len(out)}")

    def _as_pixels(self, row: int, data: NDArray[np.uint8]) -> NDArray[Any]:
        _, dtype, components = PIXEL_TYPES[int(self._blocks.pixel_type[row])]
        width, height = self._blocks.stored[row].tolist()
        pixels = data.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
        if components == 1:
            return pixels.reshape(height, width)
        return pixels.reshape(height, width, components)[..., ::-1]

    def _damaged(self, row: int, fault: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"{self._path}: subblock {row} of {len(self._blocks)} at byte "
            f"{self._blocks.position[row]} is damaged: {fault}; copy the file again."
        )


def _join_bytes(halves: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """Undo the split of 16-bit pixels into all low bytes, then all high bytes."""
    low, high = halves.reshape(2, -1)
    joined = pixels.view("<u2")
    np.multiply(high, np.uint16(256), out=joined)
    np.add(joined, low, out=joined)
