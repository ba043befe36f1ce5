"""One OME-Zarr image as its metadata describes it: valid 0.4 and 0.5, older, or half broken.

Letters for the axes of a zarr array, from names and types where it has them.

Label images of a store: which lie beside an image, and what is known of their values.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from pydantic import ValidationError
from yaozarrs import v04, v05

from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import (
    Channel,
    ImageMetadata,
    LabelValues,
    in_micrometres,
    in_seconds,
)
from napari_patchset.stacks.zarr.store import Node, Root, read_node

_LETTERS = {
    **{"t": "T", "time": "T", "c": "C", "channel": "C", "channels": "C"},
    **{"z": "Z", "y": "Y", "x": "X"},
}
_LETTER_OF_KIND = {"time": "T", "channel": "C"}
_SPARE = "SABDEFGHIJKLMNOPQRUVW"
_BY_POSITION = "BVHIRSTCZYX"
"""What unnamed axes are, counted from the last: OME's own order, then a CZI's further axes."""


class Axis(NamedTuple):
    """An axis as the file describes it."""

    name: str
    kind: str | None = None
    """OME's type: "time", "channel", "space" or the writer's own."""
    unit: str | None = None


def axis_letters(axes: Sequence[Axis]) -> str | None:
    """Give each axis its own capital letter, None if Y and X are not among them.

    An axis of an unknown kind has its own initial if that is free, else a spare letter; either
    way it is merged into S.
    """
    if len(axes) > len(_BY_POSITION):
        return None
    letters: list[str] = []
    for axis in axes:
        letter = _LETTERS.get(axis.name.lower()) or _LETTER_OF_KIND.get(axis.kind or "", "")
        letters.append(letter if letter not in letters else "")
    for i, axis in enumerate(axes):
        wanted = f"{axis.name[:1].upper()}{_SPARE}"
        letters[i] = letters[i] or next(a for a in wanted if a in _SPARE and a not in letters)
    return "".join(letters) if {"Y", "X"} <= set(letters) else None


def axes_by_position(shape: tuple[int, ...], label: str) -> str:
    """Name the axes of an array that does not name them.

    Two are YX, three ZYX (so that Z can be the depth axis; without one it is merged into S), four
    CZYX, five TCZYX. A third axis of 3 or 4 beside larger ones is colour, as in napari: YXC.

    Raises
    ------
    UnreadableFileError
        If there are too few or too many for an image.
    """
    if not 2 <= len(shape) <= len(_BY_POSITION):
        raise UnreadableFileError(
            f"{label}: an array of {len(shape)} dimensions is no image; "
            f"2 to {len(_BY_POSITION)} can be read."
        )
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        return "YXC"
    return _BY_POSITION[-len(shape) :]


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution; scale and translation along each axis, empty where the file has none."""

    path: Any
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image's resolutions, in the file's order, and what it says of axes and channels."""

    name: str | None
    version: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    channels: tuple[Any, ...]


def read_multiscale(node: Node) -> Multiscale | None:
    """Read the first multiscale image of a group, None if there is none that has resolutions."""
    listed = node.ome.get("multiscales")
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, dict):
        return None
    datasets = [d for d in _as_list(first.get("datasets")) if isinstance(d, dict) and "path" in d]
    common = _as_list(first.get("coordinateTransformations"))
    axes = tuple(_axis(axis) for axis in _as_list(first.get("axes")))
    levels = tuple(_level(dataset, common, len(axes)) for dataset in datasets)
    omero = node.ome.get("omero")
    channels = _as_list(omero.get("channels")) if isinstance(omero, dict) else []
    name = first.get("name")
    version = str(node.ome.get("version") or first.get("version") or "of an unnamed version")
    named = name if isinstance(name, str) and name else None
    return Multiscale(named, version, axes, levels, tuple(channels)) if levels else None


def complaint(node: Node) -> str | None:
    """Say in one line what is wrong with an image's OME metadata, None if it is valid.

    Units and display settings are not looked at: without them nothing is read differently.
    """
    multiscales = node.ome.get("multiscales")
    model, version = (v05.Image, "0.5") if "ome" in node.attributes else (v04.Image, "0.4")
    multiscale = read_multiscale(node)
    if multiscale is not None and re.match(r"0\.[1-3]\b", multiscale.version):
        return f"OME-Zarr {multiscale.version} is older than what is read in full (0.4 and 0.5)"
    try:
        model.model_validate({"version": version, "multiscales": _quiet(multiscales)})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, message = ".".join(map(str, first["loc"])), first["msg"].partition("\n")[0]
        return f"the metadata is no valid OME-Zarr {version} ({where}: {message})"
    return None


def image_metadata(
    multiscale: Multiscale | None, level: Level, letters: str, n_channels: int
) -> ImageMetadata:
    """Describe channels, pixel size and time step of one level whose axes are `letters`."""
    described = multiscale.channels if multiscale else ()
    channels = [
        _channel(described[i] if i < len(described) else None, i) for i in range(n_channels)
    ]
    axes = dict(zip(letters, multiscale.axes if multiscale else (), strict=False))
    scale = {a: s for a, s in zip(letters, level.scale, strict=False) if s > 0}
    sizes = {
        axis.lower(): in_micrometres(scale.get(axis), axes[axis].unit)
        for axis in "ZYX"
        if axis in axes
    }
    step = in_seconds(scale.get("T"), axes["T"].unit) if "T" in axes else None
    return ImageMetadata(tuple(channels), PixelSize(**sizes), step)


def translation(multiscale: Multiscale, level: Level, letters: str) -> dict[str, float]:
    """Give where the image begins, in micrometres by axis, as far as the file says it."""
    begins = zip(letters, multiscale.axes, level.translation, strict=False)
    found = {letter: in_micrometres(value, axis.unit) for letter, axis, value in begins}
    return {a: value for a, value in found.items() if a in "ZYX" and value is not None}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _axis(described: Any) -> Axis:
    """Read an axis: a dictionary since 0.4, only a name in 0.3."""
    if not isinstance(described, dict):
        return Axis(str(described))
    kind, unit = described.get("type"), described.get("unit")
    return Axis(
        str(described.get("name", "")),
        kind if isinstance(kind, str) else None,
        unit if isinstance(unit, str) else None,
    )


def _level(dataset: dict[str, Any], common: list[Any], ndim: int) -> Level:
    """Apply the level's own transformations, then those of the whole image."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    seen = False
    for transform in (*_as_list(dataset.get("coordinateTransformations")), *common):
        if factors := _numbers(transform, "scale", ndim):
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            shift = [a * b for a, b in zip(shift, factors, strict=True)]
            seen = True
        if offsets := _numbers(transform, "translation", ndim):
            shift = [a + b for a, b in zip(shift, offsets, strict=True)]
    return Level(dataset["path"], *((tuple(scale), tuple(shift)) if seen else ()))


def _numbers(transform: Any, kind: str, ndim: int) -> list[float]:
    if not isinstance(transform, dict) or transform.get("type") != kind:
        return []
    values = _as_list(transform.get(kind))
    return [float(v) for v in values] if len(values) == ndim and all(map(_finite, values)) else []


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < 1e300 and math.isfinite(value)


def _channel(described: Any, index: int) -> Channel:
    found = described if isinstance(described, dict) else {}
    label = found.get("label")
    name = f"Channel {index}" if label is None or label == "" else str(label)
    color = re.fullmatch(r"#?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?", str(found.get("color", "")))
    return Channel(name, f"#{color[1].lower()}" if color else None, _window(found.get("window")))


def _window(window: Any) -> tuple[float, float] | None:
    """Read the displayed range, which is "start" to "end"; "min" to "max" is that of the slider."""
    limits = [window.get(key) for key in ("start", "end")] if isinstance(window, dict) else []
    start, end = (float(v) if _finite(v) else math.nan for v in limits or (None, None))
    return (start, end) if start < end else None


def _quiet(multiscales: Any) -> Any:
    """Leave out units and paths: yaozarrs warns of unusual ones, and they are checked here."""
    if not isinstance(multiscales, list):
        return multiscales
    return [_quiet_one(m) if isinstance(m, dict) else m for m in multiscales]


def _quiet_one(multiscale: dict[str, Any]) -> dict[str, Any]:
    quiet = dict(multiscale)
    for field, spoken in (("axes", "unit"), ("datasets", "path")):
        if isinstance(listed := quiet.get(field), list):
            quiet[field] = [_without(item, spoken, i) for i, item in enumerate(listed)]
    return quiet


def _without(item: Any, spoken: str, index: int) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get(spoken), str):
        return item
    rest = {key: value for key, value in item.items() if key != spoken}
    return {**rest, "path": str(index)} if spoken == "path" else rest


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
