"""Read a node's metadata, zarr v2 or v3, without opening it: a plate has thousands."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.zarr.roots import Root

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
