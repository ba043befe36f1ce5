"""zarr's store behind a URL: its requests, through fsspec, are repeated while the server fails.

At most `MAX_REQUESTS` overlap, and errors name the server's answer. A chunk that the server does
not have is one of fill values, by the rules of zarr; the store counts them.
"""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from zarr.storage import FsspecStore

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.retrying import (
    await_with_retries,
    call_with_retries,
    http_status,
    is_transient,
    unreadable,
)
from napari_patchset.stacks.zarr.store import METADATA_FILES

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

MAX_REQUESTS = 16
"""Requests to one store at once."""

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class RemoteStore(FsspecStore):
    """zarr's store over fsspec, with at most `MAX_REQUESTS` requests at once.

    Attributes
    ----------
    url : str
        Of the store, for errors.
    absent : set of str
        The keys of chunks that the server does not have, as far as they were read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = self.path
        self.absent: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    async def get(
        self, key: str, prototype: "BufferPrototype", byte_range: "ByteRequest | None" = None
    ) -> "Buffer | None":
        """Return a stored value, or a part of it; None if the server does not have it."""
        name = f"{self.url}/{key}"
        try:
            async with self._slots:
                read = super().get
                value = await await_with_retries(name, lambda: read(key, prototype, byte_range))
        except (UnreadableFileError, MemoryError):
            raise
        except Exception as error:  # each kind of server raises errors of its own
            raise unreadable(name, error) from None  # its text may hold a token
        if value is None and not key.endswith(METADATA_FILES):
            self.absent.add(key)
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slots": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._slots = asyncio.Semaphore(MAX_REQUESTS)


def stored_ends(store: FsspecStore, key: str, nbytes: int) -> tuple[int, bytes, bytes] | None:
    """Return size, first and last bytes of a stored chunk, without the rest; None if it is absent.

    Threads may call it at once; the requests overlap.
    """
    filesystem, path = _synchronous(store.fs), f"{store.path}/{key}"
    name = f"{getattr(store, 'url', store.path)}/{key}"
    try:
        size = call_with_retries(name, lambda: _size(filesystem, path))
        if size is None or size <= 2 * nbytes:  # a server may not tell the size
            whole = call_with_retries(name, lambda: bytes(filesystem.cat_file(path)))
            return len(whole), whole[:nbytes], whole[max(len(whole) - nbytes, 0) :]
        spans = ((0, nbytes), (size - nbytes, size))
        head, tail = (
            bytes(call_with_retries(name, partial(filesystem.cat_file, path, *span)))
            for span in spans
        )
    except _ABSENT:
        return None
    except (UnreadableFileError, MemoryError):
        raise
    except Exception as error:  # each kind of server raises errors of its own
        raise unreadable(name, error) from None  # its text may hold a token
    return size, head, tail


def _size(filesystem: Any, path: str) -> int | None:
    """Return the bytes of a file; fsspec calls every error of HTTP an absent file."""
    try:
        size: int | None = filesystem.info(path)["size"]
    except FileNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, Exception) and (is_transient(cause) or http_status(cause)):
            if http_status(cause) == HTTPStatus.NOT_FOUND:
                raise
            raise cause from None
        raise
    return size


def _synchronous(filesystem: Any) -> Any:
    """Return the file system for threads of one for zarr's event loop; fsspec makes it once."""
    if (wrapped := getattr(filesystem, "sync_fs", None)) is not None:
        return wrapped
    options = {**filesystem.storage_options, "asynchronous": False}
    return type(filesystem)(*filesystem.storage_args, **options)
