"""Where a zarr hierarchy lies, on disk or behind a URL, with no way out of it.

Read a node's metadata, zarr v2 or v3, without opening it: a plate has thousands.

What an error calls a node of a store, and what zarr says of it.
"""

import json
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from typing import Any, Literal

import numpy as np
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, StorePath

from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import FILE


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


ZarrFormat = Literal[2, 3]
NUMBERS = "biufc"
"""NumPy's letters for the kinds of pixel that can be read."""


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """An array as its metadata declares it; `dimensions` are names, as far as there are any."""

    shape: tuple[int, ...]
    dtype: str
    dimensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A group, or an array if it has a `head`."""

    path: str
    zarr_format: ZarrFormat
    attributes: dict[str, Any] = field(default_factory=dict)
    head: ArrayHead | None = None

    @property
    def ome(self) -> dict[str, Any]:
        """The OME metadata: below "ome" since OME-Zarr 0.5, among the attributes before."""
        ome = self.attributes.get("ome")
        return ome if isinstance(ome, dict) else self.attributes


def read_node(root: Root, path: str) -> Node | None:
    """Read the node at a path, None where there is none.

    Raises
    ------
    UnreadableFileError
        If its metadata is no JSON, or declares no pixels that can be read.
    """
    if (doc := _read_json(root, path, "zarr.json")) is not None:
        attributes = _as_dict(doc.get("attributes"))
        if doc.get("node_type") != "array":
            return Node(path, 3, attributes)
        return Node(path, 3, attributes, _head(root.label(path), doc, "data_type"))
    doc = _read_json(root, path, ".zarray")
    stored = _read_json(root, path, ".zattrs")
    if doc is not None:
        head = _head(root.label(path), {**_xarray_names(_as_dict(stored)), **doc}, "dtype")
        return Node(path, 2, _as_dict(stored), head)
    if stored is None and _read_json(root, path, ".zgroup") is None:
        return None
    return Node(path, 2, _as_dict(stored))


def _read_json(root: Root, path: str, name: str) -> dict[str, Any] | None:
    key = f"{path}/{name}" if path else name
    content = root.read(key)
    if content is None:
        return None
    try:
        doc = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{root.label(key)}: no valid JSON: {error}.") from error
    if not isinstance(doc, dict):
        raise UnreadableFileError(f"{root.label(key)}: no zarr metadata: {doc!r:.60}.")
    return doc


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _xarray_names(attributes: dict[str, Any]) -> dict[str, Any]:
    return {"dimension_names": attributes.get("_ARRAY_DIMENSIONS")}


def _head(label: str, doc: dict[str, Any], type_field: str) -> ArrayHead:
    shape = doc.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise UnreadableFileError(f"{label}: an array of shape {shape!r:.60} has no pixels.")
    _check_chunk_shape(label, doc)
    names = doc.get("dimension_names")
    valid = isinstance(names, list) and len(names) == len(shape)
    dimensions = tuple(str(name or "") for name in names) if valid and names else ()
    return ArrayHead(tuple(shape), _number_type(label, doc.get(type_field)), dimensions)


def _check_chunk_shape(label: str, doc: dict[str, Any]) -> None:
    """Refuse chunks, or shards, of no size: since 3.4 zarr guesses another, and finds no pixels."""
    grid = _as_dict(_as_dict(doc.get("chunk_grid")).get("configuration"))
    declared = doc.get("chunks", grid.get("chunk_shape", []))
    if not isinstance(declared, list) or not all(type(n) is int and n > 0 for n in declared):
        raise UnreadableFileError(f"{label}: chunks of {declared!r:.60} hold no pixels.")


def _number_type(label: str, declared: Any) -> str:
    try:
        dtype = np.dtype(declared) if isinstance(declared, str) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in NUMBERS:
        raise UnreadableFileError(
            f"{label}: pixels of type {declared!r:.60} can't be read; it must be a number type."
        )
    return dtype.name


def uri(node: StorePath) -> str:
    """Give a node's URI, absolute also where the store was opened by a relative path."""
    if isinstance(node.store, LocalStore):
        return f"{FILE}{(node.store.root.absolute() / node.path).as_posix()}"
    if isinstance(node.store, FsspecStore):
        return str(node.store.fs.unstrip_protocol(f"{node.store.path}/{node.path}")).rstrip("/")
    return str(node).rstrip("/")


def label(node: StorePath) -> str:
    """Name a node for an error: one on a disk by its path, another by its URI."""
    return without_schemes(uri(node))


def reason(error: Exception) -> str:
    """Say in one line why zarr failed, naming local files by their paths."""
    return without_schemes(str(error).partition("\n")[0].rstrip(".")) or type(error).__name__


def without_schemes(text: str) -> str:
    """Take off what zarr puts before the paths of local files."""
    return text.replace(FILE, "")
