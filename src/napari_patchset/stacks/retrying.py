"""Reads that fail for a while: repeated after a pause, which may double each time.

Such are answers of a server that is busy or restarting, time-outs and lost connections, and the
errors EIO and ESTALE of a disk or a network file system. What still fails is an `UnreachableError`,
since the file itself may be sound.
"""

import asyncio
import errno
import sys
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from random import uniform
from time import sleep
from typing import Any, TypeVar

from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import UnreachableError, UnreadableFileError

_T = TypeVar("_T")

N_ATTEMPTS = 5
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 4.0

_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN"),
        *("ENETUNREACH", "ENETRESET", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "EAGAIN"),
    )
    if hasattr(errno, name)
}

_STATUSES = {408, 425, 429, 500, 502, 503, 504}
"""Of HTTP: the request may succeed later."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same read may succeed later."""
    if isinstance(error, UnreachableError):
        return False  # it was repeated already
    if (status := http_status(error)) is not None:
        return status in _STATUSES
    if isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno in _ERRNOS):
        return True
    aiohttp: Any = sys.modules.get("aiohttp")  # what raises its errors has imported it
    return aiohttp is not None and isinstance(
        error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError
    )


def http_status(error: BaseException) -> int | None:
    """Return the status of HTTP that a server answered with, None if the error tells none."""
    response = getattr(error, "response", None)  # botocore's
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = getattr(error, "status", metadata.get("HTTPStatusCode"))
    return status if isinstance(status, int) else None


def describe_error(error: BaseException) -> str:
    """Return in a few words why a read failed, with the status of HTTP if there is one."""
    if (status := http_status(error)) is not None:
        known = {each.value: each.phrase for each in HTTPStatus}
        return f"the server answered {status} {known.get(status, '')}".rstrip()
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return hide_credentials(text.partition("\n")[0].rstrip(".")) or type(error).__name__


def call_with_retries(name: str, read: Callable[[], _T]) -> _T:
    """Return `read()`, repeated while it fails for a while.

    Parameters
    ----------
    name : str
        What is read, for the error.

    Raises
    ------
    UnreachableError
        If every attempt fails for a while; other errors are raised as they are.
    """
    pauses = _pauses()
    while True:
        try:
            return read()
        except Exception as error:
            if not is_transient(error):
                raise
            if (pause := next(pauses, None)) is None:
                raise _unreachable(name, error) from None  # its text may hold a token
        sleep(pause)


async def await_with_retries(name: str, read: Callable[[], Awaitable[_T]]) -> _T:
    """Return `await read()`; see `call_with_retries`."""
    pauses = _pauses()
    while True:
        try:
            return await read()
        except Exception as error:
            if not is_transient(error):
                raise
            if (pause := next(pauses, None)) is None:
                raise _unreachable(name, error) from None
        await asyncio.sleep(pause)


def _pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt.

    They are random, so that jobs that failed together do not come back together.
    """
    yield FIRST_PAUSE_SECONDS
    for doublings in range(2, N_ATTEMPTS):
        yield uniform(0, min(FIRST_PAUSE_SECONDS * 2**doublings, MAX_PAUSE_SECONDS))


def _unreachable(name: str, error: Exception) -> UnreachableError:
    reason = describe_error(error)
    return UnreachableError(f"{name}: {reason}, {N_ATTEMPTS} times; try again later.")


def unreadable(name: str, error: Exception) -> UnreadableFileError:
    """Return the error for what can't be read; the text of another may hold secrets."""
    return UnreadableFileError(f"{name}: can't be read: {describe_error(error)}.")
