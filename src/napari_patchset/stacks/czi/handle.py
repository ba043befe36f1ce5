"""One CZI file open in libCZI: opened at the first read, and again after pickling and a fork."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.contained.pool import POOL
from napari_patchset.stacks.contained.process import ReaderError

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
