"""The program of the helper process: libCZI, and nothing that it could take along when it dies.

It is run by its path, so that it imports no more than it needs. Each request is a line of JSON on
standard input. The answer is the length of a JSON text in four bytes, the text, then the pixels as
they lie in memory.
"""

import json
import os
import signal
import sys
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt stops
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        _limit_memory(int(sys.argv[1]))
        readers: dict[int, CziReader] = {}
        for line in sys.stdin.buffer:
            _answer(json.loads(line), readers, answers)


def _answer(request: dict[str, Any], readers: dict[int, CziReader], answers: FileIO) -> None:
    if "close" in request:
        if (reader := readers.pop(request["close"], None)) is not None:
            reader.close()
        return
    try:
        pixels = _read(readers, **request)
    except Exception as error:  # the parent says it in its own way
        _write(answers, {"error": str(error) or repr(error)})
    else:
        _write(answers, {"shape": pixels.shape, "dtype": pixels.dtype.str}, pixels)


def _read(
    readers: dict[int, CziReader], handle: int, path: str, window: list[int], **options: Any
) -> NDArray[Any]:
    if handle not in readers:
        readers[handle] = CziReader(path)
    pixels: NDArray[Any] = readers[handle].read(roi=tuple(window), **options)
    return pixels


def _write(answers: FileIO, head: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    text = json.dumps(head).encode()
    _write_all(answers, memoryview(len(text).to_bytes(4, "little") + text))
    if pixels is not None:
        _write_all(answers, np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)


def _write_all(answers: FileIO, data: memoryview) -> None:
    while data:
        data = data[answers.write(data) :]


def _limit_memory(size: int) -> None:
    """Let an allocation beyond the limit fail, where the system can do that."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main()
