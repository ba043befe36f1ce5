"""Read a CZI through libCZI: JPEG XR, and the pyramid in the file.

libCZI runs in helper processes (see `stacks.isolated`), as damaged data can crash it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import Rect
from napari_patchset.stacks.isolated import POOL, ReaderError

_MAX_PIXEL_BYTES = 12
"""Of three float32."""


class LibCziFile:
    """Reads rectangles of planes; threads may share it.

    Each helper process opens the file when it first reads from it. An unpickled copy opens it anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._pool = POOL  # `__del__` may run when the module's names are gone
        self._handle = POOL.new_handle()
        self._is_closed = False

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
            If libCZI refuses to decode it, or crashes, naming the plane and window.
        """
        if self._is_closed:
            raise ValueError(f"{self.path}: the stack is closed; open the file again.")
        options = {"plane": plane, "scene": scene, "zoom": zoom, "pixel_type": pixel_type}
        n_bytes = round(window.w * window.h * zoom**2) * _MAX_PIXEL_BYTES
        try:
            pixels = self._pool.read(self._handle, self.path, n_bytes, window=window, **options)
        except ReaderError as error:
            indices = " ".join(f"{axis}={index}" for axis, index in plane.items())
            raise UnreadableFileError(
                f"{self.path}: libCZI can't decode {indices}, x={window.x}, y={window.y}, "
                f"{window.w} x {window.h} px: {error}"
            ) from error
        return pixels[..., 0] if pixels.shape[2] == 1 else np.flip(pixels, axis=2)

    def close(self) -> None:
        """Close the file in every helper process."""
        self._is_closed = True
        self._pool.close(self._handle)

    def __del__(self) -> None:
        self._pool.close(self._handle)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "closed": self._is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # a fresh handle is what it needs
        self._is_closed = state["closed"]
