"""One CZI file open in libCZI: reopened by itself after pickling and after a fork."""

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect


class CziHandle:
    """Read rectangles of planes through libCZI; opens the file at the first read.

    libCZI's reader may be shared by threads. It is never shared by processes: a child opens its
    own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._reader: CziReader | None = None
        self._process = os.getpid()
        self._lock = Lock()
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
            If libCZI refuses to decode it, naming the plane and window.
        """
        reader = self._opened()
        try:
            pixels: NDArray[Any] = reader.read(
                roi=window, plane=plane, scene=scene, zoom=zoom, pixel_type=pixel_type
            )
        except RuntimeError as error:
            where = " ".join(f"{axis}={index}" for axis, index in plane.items())
            raise UnreadableFileError(
                f"{self.path}: libCZI can't decode {where}, x={window.x}, y={window.y}, "
                f"{window.w} x {window.h} px: {error}"
            ) from error
        return pixels[..., 0] if pixels.shape[2] == 1 else np.flip(pixels, axis=2)

    def close(self) -> None:
        """Give back the file."""
        with self._lock:
            self._closed = True
            self._release()

    def _opened(self) -> CziReader:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.path}: the stack is closed; open the file again.")
            if self._reader is None or self._process != os.getpid():
                self._process = os.getpid()
                try:
                    self._reader = CziReader(str(self.path))
                except RuntimeError as error:
                    raise UnreadableFileError(f"{self.path}: libCZI: {error}") from error
            return self._reader

    def _release(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and self._process == os.getpid():
            reader.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self._release()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "closed": self._closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # a fresh handle is what it needs
        self._closed = state["closed"]
