"""Wells and fields of an OME-Zarr plate, and where a map draws them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

from napari_patchset.source import Rect
from napari_patchset.stacks.zarr.nodes import Node, read_node
from napari_patchset.stacks.zarr.roots import Root

_GAP = 10
"""The space between two wells is this part of a well's width."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of view: row and column of its well, and its number among the well's fields."""

    path: str
    row: int
    column: int
    number: int
    n_fields: int

    @property
    def name(self) -> str:
        """The well as it is spoken of, "A1", and the field where there are several."""
        *place, field = self.path.split("/")[-3:]
        well = "".join(place) or field  # a damaged plate lists wells that are not ROW/COLUMN
        return f"{well} field {field}" if self.n_fields > 1 else well


def plate_fields(root: Root, plate: Node) -> Iterator[Field]:
    """Give the fields of every well that the plate lists, as far as the wells are there."""
    described = plate.ome.get("plate")
    rows, columns = _names(described, "rows"), _names(described, "columns")
    wells = described.get("wells") if isinstance(described, dict) else None
    for well in wells if isinstance(wells, list) else ():
        path = root.join(plate.path, well.get("path") if isinstance(well, dict) else well)
        # The path is what the pixels are found by; writers get the two indices wrong.
        row, _, column = path.rpartition("/")
        place = (_index(rows, row.rpartition("/")[2]), _index(columns, column))
        paths = list(_field_paths(root, path))
        for number, field in enumerate(paths):
            yield Field(field, *place, number, len(paths))


def field_rects(fields: list[Field], sizes: list[tuple[int, int]]) -> list[Rect]:
    """Lay fields of these heights and widths out as a map: wells as on the plate, in each a square.

    Positions are of the map only: what a plate says of its wells is row and column.
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


def _field_paths(root: Root, well_path: str) -> Iterator[str]:
    node = read_node(root, well_path)
    well = node.ome.get("well") if node else None
    images = well.get("images") if isinstance(well, dict) else None
    if not isinstance(images, list):
        yield from (f"{well_path}/{name}" for name in root.children(well_path))
        return
    for image in images:
        yield root.join(well_path, image.get("path") if isinstance(image, dict) else image)


def _names(plate: Any, field: str) -> list[str]:
    listed = plate.get(field) if isinstance(plate, dict) else None
    found = listed if isinstance(listed, list) else []
    return [str(item.get("name")) for item in found if isinstance(item, dict)]


def _index(names: list[str], name: str) -> int:
    """Give the place of a row or column, after the others if the plate does not name it."""
    if name not in names:
        names.append(name)
    return names.index(name)
