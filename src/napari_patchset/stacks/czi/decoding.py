"""Decode one subblock alone.

libCZI decodes every subblock that meets a rectangle, again for each rectangle: in a mosaic whose
tiles overlap, several times each. Raw and zstd data are plain enough to be read here; libCZI is
left what is not (JPEG XR) and the file's own pyramid.

One CZI file open in libCZI: opened at the first read, and again after pickling and a fork.
"""

from pathlib import Path
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import OpenFiles, take_memory
from napari_patchset.stacks.czi.directory import PIXEL_TYPES, UNCOMPRESSED, Subblocks
from napari_patchset.stacks.czi.subblocks import (
    ZSTD0,
    ZSTD1,
    Located,
    SubblockData,
    decoded_bytes,
    locate_data,
    splits_bytes,
    zstd1_header_size,
)
from napari_patchset.stacks.isolated import POOL, ReaderError


class SubblockDecoder:
    """Read the pixels of single subblocks; opens the file at the first one.

    Threads and forked processes may share it, and it pickles.
    """

    def __init__(self, path: Path, blocks: Subblocks, file_size: int, located: Located) -> None:
        self._path = path.absolute()
        self._blocks = blocks
        self._file_size = file_size
        self._located = located
        self._files = OpenFiles([self._path])

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


_LARGEST_PIXEL = 12
"""Bytes of three float32."""


class CziHandle:
    """Read rectangles of planes through libCZI; threads may share it.

    libCZI runs in helper processes, see `contained`; each opens the file when it first reads
    from it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._pool = POOL
        self._number = POOL.handle()
        self._closed = False

    def read(
        self,
        window: Rect,
        plane: dict[str, int],
        scene: int | None,
        pixel_type: str,
        zoom: float = 1.0,
    ) -> NDArray[Any]:
        """Read a window (in stage pixels) of a plane (in the file's numbering).

        Returns
        -------
        ndarray
            YX for grey pixels, YXC with C in the order R, G, B for colour; zero where there are
            no pixels.

        Raises
        ------
        UnreadableFileError
            If libCZI refuses to decode it, or dies of it, naming the plane and window.
        """
        if self._closed:
            raise ValueError(f"{self.path}: the stack is closed; open the file again.")
        options = {"plane": plane, "scene": scene, "zoom": zoom, "pixel_type": pixel_type}
        n_bytes = round(window.w * window.h * zoom**2) * _LARGEST_PIXEL
        try:
            pixels = self._pool.read(self._number, self.path, n_bytes, window=window, **options)
        except ReaderError as error:
            where = " ".join(f"{axis}={index}" for axis, index in plane.items())
            raise UnreadableFileError(
                f"{self.path}: libCZI can't decode {where}, x={window.x}, y={window.y}, "
                f"{window.w} x {window.h} px: {error}"
            ) from error
        return pixels[..., 0] if pixels.shape[2] == 1 else np.flip(pixels, axis=2)

    def close(self) -> None:
        """Give back the file."""
        self._closed = True
        self._pool.close(self._number)

    def __del__(self) -> None:
        self._pool.close(self._number)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # a fresh handle is what it needs
        self._closed = state["closed"]
