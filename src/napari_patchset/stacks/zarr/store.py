"""A zarr hierarchy, on disk or in an archive: its folders, and the metadata of its nodes.

The metadata of a node, zarr v2 or v3, is parsed without opening the array: a plate has thousands.
zarr itself is imported only where a store is opened, as importing it takes longer than opening a
slide.
"""

import json
import os
import re
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard
from zipfile import BadZipFile, ZipFile

import numpy as np

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import FILE, natural_key, refuse_special_file

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.storage import StorePath

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")

NUMBER_KINDS = "biufc"
"""NumPy's letters for the kinds of pixel that can be read."""

ZarrFormat = Literal[2, 3]


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr group or array, at the top of a store or within one."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA_FILES)


_ZIP_MAGIC = b"PK\x03\x04"


def is_zip(path: Path) -> bool:
    """Return whether a path is a file that begins as a zip archive."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def is_zipped_zarr(path: Path, head: bytes) -> bool:
    """Return whether a file is a zip archive of a zarr store, such as .ozx."""
    if not head.startswith(_ZIP_MAGIC):
        return False
    try:
        with ZipFile(path) as archive:
            return _zip_top(archive) is not None
    except BadZipFile:
        return False


def _zip_top(archive: ZipFile) -> str | None:
    """Return the only folder in an archive that is a store, "" for its root; None if none is."""
    parts = (name.rpartition("/") for name in archive.namelist())
    nodes = {f"{folder}{slash}" for folder, slash, name in parts if name in METADATA_FILES}
    top = min(nodes, key=lambda folder: folder.count("/"), default="")
    return top if nodes and all(node.startswith(top) for node in nodes) else None


class Root(ABC):
    """The folder of a hierarchy; every path that leads out of it is refused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: dict[str, Node | None] = {}

    def node(self, path: str) -> "Node | None":
        """Return the node at a path, whose metadata is read once; None if there is none."""
        if path not in self._nodes:
            self._nodes[path] = _read_node(self, path)
        return self._nodes[path]

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""

    @abstractmethod
    def children(self, path: str) -> list[str]:
        """Return the names of the folders below a path, sorted; none where they can't be listed."""

    @abstractmethod
    def store(self) -> "Store":
        """Return zarr's own store over this folder, for reading only."""

    def store_path(self, path: str) -> str:
        """Return the path in zarr's own store of a path in the hierarchy."""
        return path

    def folder(self, path: str) -> Path | None:
        """Return the folder on disk of a path, None if the hierarchy is not on a disk."""
        return None

    def full_name(self, path: str) -> str:
        """Return the name of a path in the hierarchy, for errors."""
        return f"{self.name}/{path}" if path else self.name

    def join(self, base: str, relative: Any) -> str:
        """Join a path that stands in the metadata to the path that it is relative to.

        One that is no path, is absolute or leads upwards is refused.
        """
        if not isinstance(relative, str) or re.match(r"[/\\]|[A-Za-z]:|.*\0", relative):
            raise UnreadableFileError(
                f"{self.full_name(base)}: its metadata names {relative!r}, "
                "which is not a path in a store."
            )
        parts = [part for part in re.split(r"[/\\]", relative) if part not in ("", ".")]
        if ".." in parts:
            raise self._leads_out(relative)
        return "/".join((*filter(None, base.split("/")), *parts))

    def _leads_out(self, path: str) -> UnreadableFileError:
        return UnreadableFileError(
            f"{self.name}: the path {path!r} leads out of the store and is not followed; "
            f"move the data into the store."
        )


class LocalRoot(Root):
    """A folder on disk; symbolic links are followed only to targets inside of it."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path))
        super().__init__(str(path))
        self.path = path.absolute()
        self._real = os.path.realpath(path)
        self._checked: set[str] = set()

    def folder(self, path: str) -> Path:  # noqa: D102, documented on Root
        if path not in self._checked:
            real = os.path.realpath(self.path / path)
            if real != self._real and not real.startswith(os.path.join(self._real, "")):
                raise self._leads_out(path)
            self._checked.add(path)
        return self.path / path

    def read(self, key: str) -> bytes | None:  # noqa: D102, documented on Root
        folder, _, name = key.rpartition("/")
        path = self.folder(folder) / name
        try:
            file = self.folder(key) if path.is_symlink() else path
            refuse_special_file(file, file.stat().st_mode)
            return file.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def children(self, path: str) -> list[str]:  # noqa: D102, documented on Root
        folder = self.folder(path)
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(names, key=natural_key)

    def store(self) -> "Store":  # noqa: D102, documented on Root
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=True)


class ZipRoot(Root):
    """A zip archive that holds a store, at its top or in its only folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path.absolute()
        try:
            with ZipFile(path) as archive:
                self._top = _zip_top(archive) or ""
                self._names = archive.namelist()
        except BadZipFile as error:
            raise UnreadableFileError(
                f"{path}: its archive is damaged: {error}; copy it again."
            ) from error

    def read(self, key: str) -> bytes | None:  # noqa: D102, documented on Root
        try:
            with ZipFile(self.path) as archive:
                return archive.read(f"{self._top}{key}")
        except KeyError:
            return None
        except (BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
            raise UnreadableFileError(
                f"{self.full_name(key)}: can't be read: {error}; copy the archive again."
            ) from error

    def children(self, path: str) -> list[str]:  # noqa: D102, documented on Root
        prefix = f"{self._top}{path}/" if path else self._top
        below = (name.removeprefix(prefix) for name in self._names if name.startswith(prefix))
        return sorted({name.partition("/")[0] for name in below if "/" in name}, key=natural_key)

    def store_path(self, path: str) -> str:  # noqa: D102, documented on Root
        return f"{self._top}{path}".rstrip("/")

    def store(self) -> "Store":  # noqa: D102, documented on Root
        from zarr.storage import ZipStore

        return ZipStore(self.path, mode="r", read_only=True)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the hierarchy: a group, unless it is an `ArrayNode`."""

    path: str
    zarr_format: ZarrFormat
    attributes: dict[str, Any]

    @property
    def ome(self) -> dict[str, Any]:
        """The OME metadata: below "ome" since OME-Zarr 0.5, among the attributes before."""
        ome = self.attributes.get("ome")
        return ome if isinstance(ome, dict) else self.attributes


@dataclass(frozen=True, slots=True)
class ArrayNode(Node):
    """An array: its shape, NumPy type and dimension names, if any, as its metadata declares."""

    shape: tuple[int, ...]
    dtype: str
    dimensions: tuple[str, ...]


def _read_node(root: Root, path: str) -> Node | None:
    if (doc := _read_json(root, path, "zarr.json")) is not None:
        group = Node(path, 3, as_dict(doc.get("attributes")))
        is_array = doc.get("node_type") == "array"
        return _array_node(root, group, doc, "data_type") if is_array else group
    array, attributes = (_read_json(root, path, name) for name in (".zarray", ".zattrs"))
    group = Node(path, 2, as_dict(attributes))
    if array is not None:
        # xarray's name for the dimensions; v2 has none of its own.
        doc = {"dimension_names": group.attributes.get("_ARRAY_DIMENSIONS"), **array}
        return _array_node(root, group, doc, "dtype")
    is_group = attributes is not None or _read_json(root, path, ".zgroup") is not None
    return group if is_group else None


def _read_json(root: Root, path: str, name: str) -> dict[str, Any] | None:
    key = f"{path}/{name}" if path else name
    content = root.read(key)
    if content is None:
        return None
    try:
        doc = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{root.full_name(key)}: not valid JSON: {error}.") from error
    if not isinstance(doc, dict):
        raise UnreadableFileError(f"{root.full_name(key)}: not zarr metadata: {doc!r:.60}.")
    return doc


def as_dict(value: Any) -> dict[str, Any]:
    """Return a value of JSON if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a value of JSON if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def _array_node(root: Root, node: Node, doc: dict[str, Any], type_field: str) -> ArrayNode:
    name, shape = root.full_name(node.path), doc.get("shape")
    if not _are_sizes(shape):
        raise UnreadableFileError(f"{name}: an array of shape {shape!r:.60} has no pixels.")
    # Since 3.4 zarr replaces chunks, or shards, of no size by a guess, and finds no pixels.
    grid = as_dict(as_dict(doc.get("chunk_grid")).get("configuration"))
    chunks = doc.get("chunks", grid.get("chunk_shape", []))
    if not _are_sizes(chunks):
        raise UnreadableFileError(f"{name}: chunks of {chunks!r:.60} hold no pixels.")
    listed = as_list(doc.get("dimension_names"))
    dimensions = tuple(str(each or "") for each in listed) if len(listed) == len(shape) else ()
    declared = doc.get(type_field)
    try:
        dtype = np.dtype(declared) if isinstance(declared, str) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in NUMBER_KINDS:
        raise UnreadableFileError(
            f"{name}: pixels of type {declared!r:.60} can't be read; it must be a number type."
        )
    fields = node.path, node.zarr_format, node.attributes
    return ArrayNode(*fields, tuple(shape), dtype.name, dimensions)


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n > 0 for n in value)


def node_uri(node: "StorePath") -> str:
    """Return a node's URI, absolute even if the store was opened by a relative path."""
    from zarr.storage import FsspecStore, LocalStore

    if isinstance(node.store, LocalStore):
        return f"{FILE}{(node.store.root.absolute() / node.path).as_posix()}"
    if isinstance(node.store, FsspecStore):
        return str(node.store.fs.unstrip_protocol(f"{node.store.path}/{node.path}")).rstrip("/")
    return str(node).rstrip("/")


def node_name(node: "StorePath") -> str:
    """Return the name of a node, for errors: the path of one on disk, else the URI."""
    return node_uri(node).replace(FILE, "")


def zarr_reason(error: Exception) -> str:
    """Return in one line why zarr failed, with local files named by their paths."""
    text = str(error).partition("\n")[0].rstrip(".").replace(FILE, "")
    # numcodecs quotes a name twice.
    return re.sub(r"''([^']+)''", r"'\1'", text) or type(error).__name__
