"""Label images of a store: which lie beside an image, and what is known of their values."""

from collections.abc import Iterator
from typing import Any

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.metadata import LabelValues
from napari_patchset.stacks.zarr.nodes import Node, read_node
from napari_patchset.stacks.zarr.roots import Root

_VALUE = "label-value"


def label_paths(root: Root, image: str) -> list[str]:
    """Give the paths of the label images that an image lists; what can't be read is left out."""
    folder = root.join(image, "labels")
    try:
        node = read_node(root, folder)
        listed = node.ome.get("labels") if node else None
        names = listed if isinstance(listed, list) else []
        paths = [root.join(folder, name) for name in names if isinstance(name, str)]
        return [path for path in paths if read_node(root, path) is not None]
    except UnreadableFileError:
        return []


def label_values(node: Node) -> LabelValues | None:
    """Read the colours and properties of a label image; None for an image of another kind.

    What is not as OME-Zarr has it is left out.
    """
    found = node.ome.get("image-label")
    if not isinstance(found, dict):
        return None
    colors = {
        value: tuple(part / 255 for part in entry["rgba"])
        for value, entry in _entries(found.get("colors"))
        if _is_rgba(entry.get("rgba"))
    }
    properties = {
        value: {key: known for key, known in entry.items() if key != _VALUE}
        for value, entry in _entries(found.get("properties"))
    }
    return LabelValues(colors, properties)


def _entries(listed: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for entry in listed if isinstance(listed, list) else ():
        value = entry.get(_VALUE) if isinstance(entry, dict) else None
        if isinstance(value, int | float) and value == value // 1:
            yield int(value), entry


def _is_rgba(value: Any) -> bool:
    parts = value if isinstance(value, list) else []
    return len(parts) == 4 and all(type(part) is int and 0 <= part <= 255 for part in parts)
