"""The program of a helper process: a crash-prone library, and nothing that could be lost with it.

It is run by its path, so that it imports no more than it needs. A request is a line of JSON on
standard input, followed by the stored bytes if it is to decode those of a tile. The answer is the
length of a JSON text in four bytes, the text, then the pixels as they are in memory.
"""

import base64
import json
import os
import signal
import sys
from contextlib import suppress
from functools import lru_cache, partial
from io import FileIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader

Readers = dict[int, "CziReader"]


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt stops
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        _limit_memory(int(sys.argv[1]))
        readers: Readers = {}
        for line in iter(sys.stdin.buffer.readline, b""):
            _answer(json.loads(line), readers, answers)


def _answer(request: dict[str, Any], readers: Readers, answers: FileIO) -> None:
    if "close" in request:
        if (reader := readers.pop(request["close"], None)) is not None:
            reader.close()
        return
    try:
        if "length" not in request:
            pixels = _read(readers, **request)
        else:
            data = sys.stdin.buffer.read(request.pop("length"))
            pixels = (_decompress if "codec" in request else _decode)(data, **request)
    except MemoryError as error:
        _write(answers, {"error": str(error), "lacks_memory": True})
    except Exception as error:  # the parent makes it an error of its own
        _write(answers, {"error": str(error) or repr(error)})
    else:
        _write(answers, {"shape": pixels.shape, "dtype": pixels.dtype.str}, pixels)


def _read(
    readers: Readers, handle: int, path: str, window: list[int], **options: Any
) -> NDArray[Any]:
    from pylibCZIrw.czi import CziReader

    if handle not in readers:
        readers[handle] = CziReader(path)
    pixels: NDArray[Any] = readers[handle].read(roi=tuple(window), **options)
    return pixels


def _decompress(data: bytes, codec: str, limit: int, options: dict[str, Any]) -> NDArray[Any]:
    import imagecodecs

    result = getattr(imagecodecs, f"{codec}_decode")(data, **options)
    pixels = result if isinstance(result, np.ndarray) else np.frombuffer(result, np.uint8)
    if pixels.nbytes > limit:
        raise ValueError(f"it decodes to {pixels.nbytes} bytes")
    return pixels


def _decode(
    data: bytes,
    path: str,
    stat: list[int],
    offset: int,
    index: list[int],
    segment: int,
    tables: str | None,
) -> NDArray[Any]:
    """Decode a segment of the page whose directory is at an offset, as tifffile does.

    `stat` is the file's, so that the decoder of a file that was replaced is not reused.
    """
    decode = _page_decoder(path, tuple(stat), offset, tuple(index))
    options = {"jpegtables": base64.b64decode(tables)} if tables else {}
    pixels: NDArray[Any] = decode(data, segment, **options)[0]
    return pixels


@lru_cache(maxsize=64)
def _page_decoder(path: str, stat: tuple[int, ...], offset: int, index: tuple[int, ...]) -> Any:
    from tifffile import TiffFile, TiffPage

    with TiffFile(path) as file:
        file.filehandle.seek(offset)
        page = TiffPage(file, index)
        header = {"jpegheader": page.jpegheader} if page.jpegheader else {}
        return partial(page.decode, **header)


def _write(answers: FileIO, head: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    text = json.dumps(head).encode()
    _write_all(answers, memoryview(len(text).to_bytes(4, "little") + text))
    if pixels is not None:
        _write_all(answers, np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)


def _write_all(answers: FileIO, data: memoryview) -> None:
    while data:
        data = data[answers.write(data) :]


def _limit_memory(size: int) -> None:
    """Let an allocation beyond the limit fail, if the system supports it."""
    if sys.platform != "win32":
        import resource

        with suppress(ValueError, OSError):  # macOS maps more than that from the start
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (size, hard))


if __name__ == "__main__":
    main()
