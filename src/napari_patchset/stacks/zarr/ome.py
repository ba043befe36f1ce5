"""OME-Zarr metadata of images and plates: 0.4 and 0.5, older, or partly invalid.

A group's "multiscales" are read into a `Multiscale`: its axes with their units, and for each
resolution ("dataset") the path, scale and translation. From these come the axis letters, and the
pixel size, time step and position in micrometres and seconds; "omero" has the channels, and
"image-label" the colours and properties of label values. Arrays without such metadata have axes by
the names of their dimensions, else by their number. A plate lists its wells, and these the fields
of view (`PlateField`), each of which is an image.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from pydantic import ValidationError
from yaozarrs import v04, v05

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize, Rect
from napari_patchset.stacks.metadata import (
    Channel,
    ImageMetadata,
    LabelValues,
    micrometres,
    seconds,
)
from napari_patchset.stacks.zarr.store import Node, Root, as_dict, as_list

_LETTER_OF_NAME = {
    **{"t": "T", "time": "T", "c": "C", "channel": "C", "channels": "C"},
    **{"z": "Z", "y": "Y", "x": "X"},
}
_LETTER_OF_TYPE = {"time": "T", "channel": "C"}
_SPARE_LETTERS = "SABDEFGHIJKLMNOPQRUVW"
_BY_POSITION = "BVHIRSTCZYX"
"""Letters of unnamed axes, counted from the last: OME's own order, then a CZI's further axes."""


class OmeAxis(NamedTuple):
    """An axis as the file describes it."""

    name: str
    """Such as "t", "c", "z", or the writer's own."""
    kind: str | None = None
    """OME's "type": "time", "channel", "space", or the writer's own."""
    unit: str | None = None
    """Such as "micrometer" or "second"."""


@dataclass(frozen=True, slots=True)
class OmeDataset:
    """One resolution as "datasets" lists it."""

    path: Any
    """The array's path below the image; not checked yet."""
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    """Along each axis, in the axis's unit; empty if the file has none."""


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image: its axes, its resolutions in the file's order, and its channels, not parsed yet."""

    name: str | None
    version: str
    axes: tuple[OmeAxis, ...]
    datasets: tuple[OmeDataset, ...]
    channels: tuple[Any, ...]


def read_multiscale(node: Node, number: int = 0) -> Multiscale | None:
    """Read a multiscale image of a group, None if there is none with resolutions."""
    listed = as_list(node.ome.get("multiscales"))
    first = listed[number] if number < len(listed) else None
    if not isinstance(first, dict):
        return None
    axes = tuple(_read_axis(axis) for axis in as_list(first.get("axes")))
    common = as_list(first.get("coordinateTransformations"))
    datasets = tuple(
        _read_dataset(dataset, common, len(axes))
        for dataset in as_list(first.get("datasets"))
        if isinstance(dataset, dict) and "path" in dataset
    )
    channels = as_list(as_dict(node.ome.get("omero")).get("channels"))
    name = first.get("name")
    name = name if isinstance(name, str) and name else None
    version = str(node.ome.get("version") or first.get("version") or "of an unnamed version")
    return Multiscale(name, version, axes, datasets, tuple(channels)) if datasets else None


def multiscale_numbers(node: Node) -> list[int]:
    """Return the numbers of the multiscale images of a group that have resolutions."""
    n = len(as_list(node.ome.get("multiscales")))
    return [number for number in range(n) if read_multiscale(node, number)]


def _read_axis(described: Any) -> OmeAxis:
    """Read an axis: an object since 0.4, only a name in 0.3."""
    if not isinstance(described, dict):
        return OmeAxis(str(described))
    kind, unit = described.get("type"), described.get("unit")
    return OmeAxis(
        str(described.get("name", "")),
        kind if isinstance(kind, str) else None,
        unit if isinstance(unit, str) else None,
    )


def _read_dataset(dataset: dict[str, Any], common: list[Any], ndim: int) -> OmeDataset:
    """Apply the resolution's own transformations, then those common to all resolutions."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    is_scaled = False
    for transform in (*as_list(dataset.get("coordinateTransformations")), *common):
        if factors := _read_numbers(transform, "scale", ndim):
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            translation = [a * b for a, b in zip(translation, factors, strict=True)]
            is_scaled = True
        if offsets := _read_numbers(transform, "translation", ndim):
            translation = [a + b for a, b in zip(translation, offsets, strict=True)]
    if not is_scaled:
        return OmeDataset(dataset["path"])
    return OmeDataset(dataset["path"], tuple(scale), tuple(translation))


def _read_numbers(transform: Any, kind: str, ndim: int) -> list[float]:
    if not isinstance(transform, dict) or transform.get("type") != kind:
        return []
    values = as_list(transform.get(kind))
    return [float(v) for v in values] if len(values) == ndim and all(map(_finite, values)) else []


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)


def axis_letters(axes: Sequence[OmeAxis]) -> str | None:
    """Return a capital letter for each axis, all different; None if Y and X are not among them.

    An axis of an unknown kind gets its own initial if that is free, else a spare letter; either
    way it is merged into S.
    """
    if len(axes) > len(_BY_POSITION):
        return None
    letters: list[str] = []
    for axis in axes:
        letter = _LETTER_OF_NAME.get(axis.name.lower()) or _LETTER_OF_TYPE.get(axis.kind or "", "")
        letters.append(letter if letter not in letters else "")
    for i, axis in enumerate(axes):
        wanted = f"{axis.name[:1].upper()}{_SPARE_LETTERS}"
        free = (a for a in wanted if a in _SPARE_LETTERS and a not in letters)
        letters[i] = letters[i] or next(free)
    return "".join(letters) if {"Y", "X"} <= set(letters) else None


def axes_by_position(shape: tuple[int, ...], name: str) -> str:
    """Return the axes of an array that does not name them.

    Two are YX, three ZYX (so that Z can be the depth axis; without one it is merged into S), four
    CZYX, five TCZYX. A last axis of size 3 or 4 after two larger ones is colour, as in napari: YXC.
    """
    if not 2 <= len(shape) <= len(_BY_POSITION):
        raise UnreadableFileError(
            f"{name}: an array of {len(shape)} dimensions is not an image; "
            f"2 to {len(_BY_POSITION)} can be read."
        )
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        return "YXC"
    return _BY_POSITION[-len(shape) :]


def multiscale_metadata(
    multiscale: Multiscale | None, dataset: OmeDataset, letters: str, n_channels: int
) -> ImageMetadata:
    """Return channels, pixel size and time step of one resolution whose axes are `letters`."""
    described = multiscale.channels if multiscale else ()
    channels = [
        _read_channel(described[i] if i < len(described) else None, i) for i in range(n_channels)
    ]
    axes = dict(zip(letters, multiscale.axes if multiscale else (), strict=False))
    # A negative scale mirrors the image on the stage; pixels have a size all the same.
    scale = {a: abs(s) for a, s in zip(letters, dataset.scale, strict=False) if s}
    sizes = {a: micrometres(s, axes[a].unit) for a, s in scale.items() if a in "ZYX"}
    time_step = seconds(scale["T"], axes["T"].unit) if "T" in scale else None
    known = sizes | {"T": time_step}
    return ImageMetadata(
        tuple(channels),
        PixelSize(**{axis.lower(): size for axis, size in sizes.items()}),
        time_step,
        unitless={a: s for a, s in scale.items() if a in "ZYXT" and known[a] is None},
    )


def multiscale_translation(
    multiscale: Multiscale, dataset: OmeDataset, letters: str
) -> dict[str, float]:
    """Return the position of the image's first pixel, by Z, Y and X if known.

    It is in micrometres, or in the unit that the file does not name.
    """
    position = {}
    for letter, axis, value in zip(letters, multiscale.axes, dataset.translation, strict=False):
        if letter in "ZYX":
            converted = micrometres(value, axis.unit)
            position[letter] = value if converted is None else converted
    return position


def _read_channel(described: Any, index: int) -> Channel:
    described = as_dict(described)
    label = described.get("label")
    name = f"Channel {index}" if label is None or label == "" else str(label)
    color = re.fullmatch(r"#?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?", str(described.get("color", "")))
    # What is displayed is "start" to "end"; "min" to "max" is the range of the slider.
    window = as_dict(described.get("window"))
    start, end = (window.get(key) for key in ("start", "end"))
    limits = (float(start), float(end)) if _finite(start) and _finite(end) and start < end else None
    return Channel(name, f"#{color[1].lower()}" if color else None, limits)


def metadata_problem(node: Node, multiscale: Multiscale) -> str | None:
    """Return in one line the fault of an image's OME metadata, None if it is valid.

    Units and display settings are not checked: the pixels are read the same without them.
    """
    if re.match(r"0\.[1-3]\b", multiscale.version):
        return f"OME-Zarr {multiscale.version} is older than what is read in full (0.4 and 0.5)"
    model, version = (v05.Image, "0.5") if "ome" in node.attributes else (v04.Image, "0.4")
    # yaozarrs warns of unusual units and paths; the paths are checked by Root.join.
    multiscales = []
    for image in node.ome["multiscales"]:
        checked = dict(image) if isinstance(image, dict) else image
        for name, key in (("axes", "unit"), ("datasets", "path")) if checked is not image else ():
            if isinstance(listed := image.get(name), list):
                checked[name] = [_without_text(item, key, i) for i, item in enumerate(listed)]
        multiscales.append(checked)
    try:
        model.model_validate({"version": version, "multiscales": multiscales})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, message = ".".join(map(str, first["loc"])), first["msg"].partition("\n")[0]
        return f"the metadata is not valid OME-Zarr {version} ({where}: {message})"
    return None


def _without_text(item: Any, key: str, index: int) -> Any:
    """Return a copy of an object without its unit, or with its index for a path, if a text."""
    if not isinstance(item, dict) or not isinstance(item.get(key), str):
        return item
    rest = {name: value for name, value in item.items() if name != key}
    return rest | {"path": str(index)} if key == "path" else rest


_VALUE = "label-value"


def label_values(node: Node) -> LabelValues | None:
    """Read the valid colours and properties of a label image; None for any other image."""
    described = node.ome.get("image-label")
    if not isinstance(described, dict):
        return None
    colors = {}
    for value, entry in _label_entries(described.get("colors")):
        rgba = as_list(entry.get("rgba"))
        if len(rgba) == 4 and all(type(c) is int and 0 <= c <= 255 for c in rgba):
            colors[value] = tuple(component / 255 for component in rgba)
    properties = {
        value: {key: known for key, known in entry.items() if key != _VALUE}
        for value, entry in _label_entries(described.get("properties"))
    }
    return LabelValues(colors, properties)


def _label_entries(listed: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for entry in as_list(listed):
        value = entry.get(_VALUE) if isinstance(entry, dict) else None
        if isinstance(value, int | float) and value == value // 1:
            yield int(value), entry


_WELL_GAP = 10
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
    rows, columns = (_item_names(described.get(name)) for name in ("rows", "columns"))
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


def _item_names(listed: Any) -> list[str]:
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
    side = max(math.isqrt(field.n_fields - 1) + 1 for field in fields)
    well_w, well_h = (side * n + math.ceil(side * width / _WELL_GAP) for n in (width, height))
    return [
        Rect(
            field.column * well_w + field.number % side * width,
            field.row * well_h + field.number // side * height,
            w,
            h,
        )
        for field, (h, w) in zip(fields, sizes, strict=True)
    ]
