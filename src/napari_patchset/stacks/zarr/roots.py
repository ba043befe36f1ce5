"""The hierarchy that a path or URL belongs to, on disk, in an archive or behind a URL."""

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_patchset.credentials import find_credentials, restore_url, strip_credentials
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import natural_key
from napari_patchset.stacks.retrying import call_with_retries, unreadable
from napari_patchset.stacks.zarr.store import (
    ArrayNode,
    LocalRoot,
    Root,
    ZipRoot,
    is_zarr,
    is_zip,
)

if TYPE_CHECKING:
    from zarr.abc.store import Store


def open_root(path: Path | str) -> tuple[Root, str]:
    """Find the hierarchy that a folder or URL belongs to, and the path in it.

    For an array on disk it is the folder around it, if that is part of a store: the image that
    lists the array has its axes and pixel size.
    """
    if isinstance(path, str) and "://" in path:
        return RemoteRoot(path), ""
    path = Path(path)
    if is_zip(path):
        return ZipRoot(path), ""
    root = LocalRoot(path)
    node = root.node("")
    parent = path.absolute().parent
    if isinstance(node, ArrayNode) and is_zarr(parent):
        return LocalRoot(parent), path.absolute().name
    return root, ""


class RemoteRoot(Root):
    """A folder behind a URL, read through fsspec."""

    def __init__(self, url: str) -> None:
        super().__init__(strip_credentials(url.rstrip("/")))
        self._filesystem, self._path = _connect(self.name)

    def read(self, key: str) -> bytes | None:  # noqa: D102, documented on Root
        path, name = f"{self._path}/{key}", self.full_name(key)
        try:
            return bytes(call_with_retries(name, lambda: self._filesystem.cat_file(path)))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except (UnreadableFileError, MemoryError):
            raise
        except Exception as error:  # each kind of server raises errors of its own
            raise unreadable(name, error) from None  # its text may hold a token

    def children(self, path: str) -> list[str]:  # noqa: D102, documented on Root
        try:
            paths = self._filesystem.ls(f"{self._path}/{path}".rstrip("/"), detail=False)
        except Exception:  # a plain web server can't list folders
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return sorted(names, key=natural_key)

    def store(self) -> "Store":  # noqa: D102, documented on Root
        from napari_patchset.stacks.zarr.remote import RemoteStore  # zarr is slow to import

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
