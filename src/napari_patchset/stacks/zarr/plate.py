"""The plate of a screen in OME-Zarr: its fields of view, and a map of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

from napari_patchset.source import Rect
from napari_patchset.stacks.zarr.store import Node, Root, as_dict, as_list

_GAP = 10
"""The gap between two wells on the map is a well's width divided by this."""


@dataclass(frozen=True, slots=True)
class PlateField:
    """One field of view of a plate."""

    path: str
    """Of its image."""
    row: int
    column: int
    """Of its well, counted from 0, as the row."""
    number: int
    """Its index among the fields of its well."""
    n_fields: int
    """The number of these."""

    @property
    def well(self) -> str:
        """The well as biologists write it, "A1"."""
        *row_and_column, field = self.path.split("/")[-3:]
        return "".join(row_and_column) or field  # not every path of a damaged plate is ROW/COLUMN

    @property
    def name(self) -> str:
        """The well, and the field where there are several."""
        field = self.path.rpartition("/")[2]
        return f"{self.well} field {field}" if self.n_fields > 1 else self.well


def plate_fields(root: Root, plate: Node) -> Iterator[PlateField]:
    """Yield the fields of every well that the plate lists."""
    described = as_dict(plate.ome.get("plate"))
    rows, columns = _names(described.get("rows")), _names(described.get("columns"))
    for well in as_list(described.get("wells")):
        path = root.join(plate.path, well.get("path") if isinstance(well, dict) else well)
        # Some writers get rowIndex and columnIndex wrong; the path leads to the pixels.
        row_path, _, column = path.rpartition("/")
        row = row_path.rpartition("/")[2]
        position = _index_or_append(rows, row), _index_or_append(columns, column)
        # A well that is not there is one field, so that it is named among what can't be read.
        paths = list(_field_paths(root, path)) or [path]
        for number, field in enumerate(paths):
            yield PlateField(field, *position, number, len(paths))


def _field_paths(root: Root, well_path: str) -> Iterator[str]:
    node = root.node(well_path)
    images = as_dict(node.ome.get("well")).get("images") if node else None
    if not isinstance(images, list):
        yield from (f"{well_path}/{name}" for name in root.children(well_path))
        return
    for image in images:
        yield root.join(well_path, image.get("path") if isinstance(image, dict) else image)


def _names(listed: Any) -> list[str]:
    return [str(item.get("name")) for item in as_list(listed) if isinstance(item, dict)]


def _index_or_append(names: list[str], name: str) -> int:
    """Return the index of a row or column; one that the plate does not name comes last."""
    if name not in names:
        names.append(name)
    return names.index(name)


def field_rects(fields: list[PlateField], sizes: list[tuple[int, int]]) -> list[Rect]:
    """Lay fields of (height, width) out as a map: wells as on the plate, fields in a square each.

    These are not positions on the stage: a plate has only row and column.
    """
    height, width = (max(size) for size in zip(*sizes, strict=True))
    side = max(isqrt(field.n_fields - 1) + 1 for field in fields)
    well_w, well_h = (side * n + ceil(side * width / _GAP) for n in (width, height))
    return [
        Rect(
            field.column * well_w + field.number % side * width,
            field.row * well_h + field.number // side * height,
            w,
            h,
        )
        for field, (h, w) in zip(fields, sizes, strict=True)
    ]
