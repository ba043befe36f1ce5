"""Where a zarr hierarchy lies, on disk or behind a URL, with no way out of it."""

import os
import re
from abc import ABC, abstractmethod
from errno import ENOENT
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from napari_patchset.errors import ArgumentError, UnreadableFileError


class Root(ABC):
    """Read keys below one folder; `name` is what an error calls it."""

    name: str

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Give a file's content, None where there is none."""

    @abstractmethod
    def children(self, path: str) -> list[str]:
        """Name the folders below a path, in natural order; none where that can't be known."""

    @abstractmethod
    def store(self) -> Store:
        """Give zarr's own view of this root, for reading only."""

    def folder(self, path: str) -> Path | None:
        """Give the folder on disk that holds a path, None if it is not on a disk."""
        return None

    def label(self, path: str) -> str:
        """Name a path within the root for an error."""
        return f"{self.name}/{path}" if path else self.name

    def join(self, base: str, relative: Any) -> str:
        """Join a path that a file gives to the one that it is relative to.

        Raises
        ------
        UnreadableFileError
            If it is no path, is absolute, or climbs.
        """
        if not isinstance(relative, str) or re.match(r"[/\\]|[A-Za-z]:|.*\0", relative):
            raise UnreadableFileError(
                f"{self.label(base)}: its metadata names {relative!r}, which is no path in a zarr."
            )
        parts = [part for part in re.split(r"[/\\]", relative) if part not in ("", ".")]
        if ".." in parts:
            raise self._leads_out(relative)
        return "/".join((*filter(None, base.split("/")), *parts))

    def _leads_out(self, path: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"{self.name}: the path {path!r} leads out of the store and is not followed; "
            f"put the data inside of it."
        )


class LocalRoot(Root):
    """A folder on disk; symbolic links are followed as far as they stay in it."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path))
        self.name = str(path)
        self.path = path.absolute()
        self._real = os.path.realpath(path)
        self._inside: set[str] = set()

    def folder(self, path: str) -> Path:  # noqa: D102, said on Root
        if path not in self._inside:
            real = os.path.realpath(self.path / path)
            if real != self._real and not real.startswith(os.path.join(self._real, "")):
                raise self._leads_out(path)
            self._inside.add(path)
        return self.path / path

    def read(self, key: str) -> bytes | None:  # noqa: D102, said on Root
        folder, _, name = key.rpartition("/")
        path = self.folder(folder) / name
        try:
            return (self.folder(key) if path.is_symlink() else path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def children(self, path: str) -> list[str]:  # noqa: D102, said on Root
        folder = self.folder(path)
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        except NotADirectoryError:
            return []
        return sorted(names, key=natural)

    def store(self) -> Store:  # noqa: D102, said on Root
        return LocalStore(self.path, read_only=True)


class RemoteRoot(Root):
    """A folder behind a URL, through fsspec."""

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        try:
            from fsspec.core import url_to_fs

            self._files, self._path = url_to_fs(self.name)
        except ImportError as error:
            raise ArgumentError(
                f"{url}: reading it needs more packages ({error}): "
                f"pip install 'napari-patchset[remote]'."
            ) from error
        except ValueError as error:
            raise ArgumentError(f"{url}: {error}.") from error

    def read(self, key: str) -> bytes | None:  # noqa: D102, said on Root
        try:
            return bytes(self._files.cat_file(f"{self._path}/{key}"))
        except (FileNotFoundError, IsADirectoryError):
            return None
        except Exception as error:  # each kind of server fails in its own way
            raise UnreadableFileError(f"{self.label(key)}: can't be read: {error}") from error

    def children(self, path: str) -> list[str]:  # noqa: D102, said on Root
        try:
            found = self._files.ls(f"{self._path}/{path}".rstrip("/"), detail=False)
        except Exception:  # a plain web server lists nothing
            return []
        return sorted((str(name).rstrip("/").rsplit("/", 1)[-1] for name in found), key=natural)

    def store(self) -> Store:  # noqa: D102, said on Root
        return FsspecStore.from_url(self.name, read_only=True)


def natural(name: str) -> list[tuple[int, str]]:
    """Give the sort key that puts "10" after "9"."""
    return [(int(n or 0), text) for n, text in re.findall(r"(\d{1,18})|(\D+|\d+)", name)]
