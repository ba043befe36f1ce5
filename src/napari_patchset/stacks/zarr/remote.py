"""A zarr hierarchy behind a URL: its requests, through fsspec, are repeated while the server fails.

Errors name the server's answer. A chunk that the server does not have is one of fill values, by the
rules of zarr; the store counts them.
"""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from zarr.storage import FsspecStore

from napari_patchset.credentials import find_credentials, restore_url, strip_credentials
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import natural_key
from napari_patchset.stacks.retrying import (
    await_with_retries,
    call_with_retries,
    http_status,
    is_transient,
    unreadable,
)
from napari_patchset.stacks.zarr.store import METADATA_FILES, Root

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

MAX_REQUESTS = 16
"""Requests to one store at once."""

_CLOSING_SECONDS = 1.0
"""How long a store waits for its requests to be cancelled."""

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class RemoteRoot(Root):
    """A folder behind a URL, read through fsspec."""

    def __init__(self, url: str) -> None:
        super().__init__(strip_credentials(url.rstrip("/")))
        self._filesystem, self._path = _connect(self.name)

    def read(self, key: str) -> bytes | None:  # noqa: D102, documented on Root
        path, name = f"{self._path}/{key}", self.full_name(key)
        with suppress(*_ABSENT), _server_errors(name):
            return bytes(call_with_retries(name, lambda: self._filesystem.cat_file(path)))
        return None

    def children(self, path: str) -> list[str]:  # noqa: D102, documented on Root
        try:
            paths = self._filesystem.ls(f"{self._path}/{path}".rstrip("/"), detail=False)
        except Exception:  # a plain web server can't list folders
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return sorted(names, key=natural_key)

    def store(self) -> "RemoteStore":  # noqa: D102, documented on Root
        filesystem, path = _connect(self.name, asynchronous=True)
        store = RemoteStore(filesystem, read_only=True, path=path)
        store.url = self.name
        return store


def _connect(url: str, *, asynchronous: bool = False) -> tuple[Any, str]:
    """Return fsspec's file system for a URL without credentials, and the path in it."""
    try:
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {"asynchronous": True} if asynchronous else {}
        is_web = url.startswith(("http://", "https://"))
        options |= _web_options(url) if is_web else {}
        filesystem, path = url_to_fs(url if is_web else restore_url(url), **options)
    except ImportError as error:
        raise ArgumentError(
            f"{url}: reading it needs more packages ({error}): "
            f"pip install 'napari-patchset[remote]'."
        ) from error
    except ValueError as error:
        raise ArgumentError(f"{url}: {error}.") from error
    if asynchronous and not filesystem.async_impl:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        filesystem = AsyncFileSystemWrapper(filesystem, asynchronous=True)
    return filesystem, path


def _web_options(url: str) -> dict[str, Any]:
    """Return what sends a URL's credentials; without any, ~/.netrc is asked."""
    from fsspec.config import conf

    found, configured = find_credentials(url), conf.get(url.partition(":")[0], {})
    has_user = found is not None and found.user != ""
    client = {"trust_env": not has_user, **configured.get("client_kwargs", {})}
    options: dict[str, Any] = {"client_kwargs": client}
    if found is not None and has_user:
        pair = b64encode(f"{found.user}:{found.password}".encode()).decode()
        options["headers"] = {**configured.get("headers", {}), "Authorization": f"Basic {pair}"}
    if found is not None and found.query:
        options["params"] = found.query
    return options


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
        self._set_up()

    def _set_up(self) -> None:
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._reading = set[Any]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def close(self) -> None:
        """Cancel what is still being read: when one chunk fails, zarr lets the others wait on."""
        super().close()
        self._is_closed = True
        if self._loop is not None and self._loop.is_running():
            cancelling = asyncio.run_coroutine_threadsafe(self._cancel_reads(), self._loop)
            try:
                cancelling.result(_CLOSING_SECONDS)
            except TimeoutError:  # another image is being read in the same loop
                cancelling.cancel()

    async def _cancel_reads(self) -> None:
        if not self._reading:
            return
        for task in self._reading:
            task.cancel()
        while len(asyncio.all_tasks()) > 1:  # zarr's tasks, which wait for these
            await asyncio.sleep(0.001)

    async def get(
        self, key: str, prototype: "BufferPrototype", byte_range: "ByteRequest | None" = None
    ) -> "Buffer | None":
        """Return a stored value, or a part of it; None if the server does not have it."""
        if self._is_closed:
            raise asyncio.CancelledError
        name, read, task = f"{self.url}/{key}", super().get, asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._reading.add(task)
        try:
            async with self._slots:
                with _server_errors(name):
                    value = await await_with_retries(name, lambda: read(key, prototype, byte_range))
        finally:
            self._reading.discard(task)
        if value is None and not key.endswith(METADATA_FILES):
            self.absent.add(key)
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slots": None, "_reading": None, "_loop": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()


def stored_ends(store: FsspecStore, key: str, nbytes: int) -> tuple[int, bytes, bytes] | None:
    """Return size, first and last bytes of a stored chunk, without the rest; None if it is absent.

    Threads may call it at once; the requests overlap.
    """
    filesystem, path = _synchronous(store.fs), f"{store.path}/{key}"
    name = f"{getattr(store, 'url', store.path)}/{key}"
    with suppress(*_ABSENT), _server_errors(name):
        size = call_with_retries(name, lambda: _size(filesystem, path))
        if size is None or size <= 2 * nbytes:  # a server may not tell the size
            whole = call_with_retries(name, lambda: bytes(filesystem.cat_file(path)))
            return len(whole), whole[:nbytes], whole[max(len(whole) - nbytes, 0) :]
        spans = ((0, nbytes), (size - nbytes, size))
        head, tail = (
            bytes(call_with_retries(name, partial(filesystem.cat_file, path, *span)))
            for span in spans
        )
        return size, head, tail
    return None


@contextmanager
def _server_errors(name: str) -> Iterator[None]:
    """Name in an error what was read; that it is absent is raised as it is."""
    try:
        yield
    except (UnreadableFileError, MemoryError, *_ABSENT):
        raise
    except Exception as error:  # each kind of server raises errors of its own
        raise unreadable(name, error) from None  # its text may hold a token


def _size(filesystem: Any, path: str) -> int | None:
    """Return the bytes of a file; fsspec calls every error of HTTP an absent file."""
    try:
        size: int | None = filesystem.info(path)["size"]
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause and (
            is_transient(cause) or http_status(cause) not in (None, HTTPStatus.NOT_FOUND)
        ):
            raise cause from None
        raise
    return size


def _synchronous(filesystem: Any) -> Any:
    """Return the file system for threads of one for zarr's event loop; fsspec makes it once."""
    if (wrapped := getattr(filesystem, "sync_fs", None)) is not None:
        return wrapped
    options = {**filesystem.storage_options, "asynchronous": False}
    return type(filesystem)(*filesystem.storage_args, **options)
