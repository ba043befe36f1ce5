"""GeoJSON as QuPath, napari-geojson and dlup write it, read as `Annotations`.

A file is a FeatureCollection, a list of features, one feature, or a geometry. Coordinates are
full-resolution pixels from the upper left corner. Of QuPath's own keys these are read:

- `properties.classification`: a name, or an object with `name` or `names`, and `color` or, in old
  files, `colorRGB`; without it, `properties.name` and `properties.color` are the class;
- `geometry.plane`: z and t, counted from 0. QuPath omits it for z 0 and t 0, others always: so a
  feature without one is of z 0 and t 0 if another of the file has one, else of every plane. The
  channel does not matter;
- `properties.childObjects`: features inside of a feature.

A file of gigabytes is read in parts, with the decoder of the standard library: it takes NaN, which
QuPath writes among measurements, and which other parsers refuse.
"""

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_patchset.annotations.features import EVERY_PLANE, UNCLASSIFIED, Annotations, Color
from napari_patchset.annotations.polygons import Feature, make_annotations
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.source import refuse_special_file

SUFFIXES = (".geojson", ".json")
"""Suffixes of GeoJSON files."""

_CHUNK = 2**22
"""Bytes that are read at a time; more if a single feature has more."""

_END = 32
"""A fault as close as this to the end of what is read may be one of the missing rest."""

Progress = Callable[[int, int], object]


def is_geojson(path: str | Path) -> bool:
    """Return whether a path has the suffix of a GeoJSON file."""
    return str(path).lower().endswith(SUFFIXES)


def read_geojson(path: str | Path, progress: Progress = lambda done, total: None) -> Annotations:
    """Read the areas of a GeoJSON file; other geometries are named in the notes.

    Parameters
    ----------
    progress : callable
        Called with the number of bytes that are read, and of all; what it raises ends the reading.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or no GeoJSON.
    """
    path = Path(path)
    refuse_special_file(path, path.stat().st_mode)
    with path.open("rb") as file:
        document = _Document(file, path, progress)
        features = _Features()
        try:
            annotations = make_annotations(features.parse(document.items()))
        except ArgumentError as error:
            raise UnreadableFileError(f"{path}: {error}.") from error
    return features.complete(annotations, document.key)


def format_geojson(features: Iterable[Feature]) -> bytes:
    """Return features as the text of a GeoJSON file, which `read_geojson` and QuPath read.

    Either all of them have a plane, or none. Coordinates have three decimals.
    """
    lines = ",\n".join(json.dumps(_feature_object(each), ensure_ascii=False) for each in features)
    return f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n'.encode()


_DECIMALS = 3


def _feature_object(feature: Feature) -> dict[str, Any]:
    parts = [
        [np.round(np.asarray(ring, np.float64), _DECIMALS).tolist() for ring in polygon]
        for polygon in feature.polygons
    ]
    is_one = len(parts) == 1
    geometry: dict[str, Any] = {
        "type": "Polygon" if is_one else "MultiPolygon",
        "coordinates": parts[0] if is_one else parts,
    }
    if feature.z != EVERY_PLANE:
        geometry["plane"] = {"c": -1, "z": feature.z, "t": feature.t}
    classification: dict[str, Any] = {"name": feature.class_name}
    if feature.color is not None:
        classification["color"] = list(feature.color)
    properties = {"objectType": "annotation", "classification": classification}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


class _Document:
    """A JSON file whose features are decoded one by one.

    Raises
    ------
    UnreadableFileError
        Naming the file and what is wrong with it.
    """

    def __init__(self, file: BinaryIO, path: Path, progress: Progress) -> None:
        self._file, self._path, self._progress = file, path, progress
        self._size, self._n_read = path.stat().st_size, 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._decode_text = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0

    @property
    def key(self) -> str:
        """Digest of the bytes of the file, once it is read."""
        return self._digest.hexdigest()

    def items(self) -> Iterator[Any]:
        """Yield every feature, or the one geometry."""
        if self._peek() == "[":
            yield from self._list()
        elif self._peek() == "{":
            yield from self._object()
        else:
            raise self._fault("it is no JSON object or list")
        if self._peek():
            raise self._fault("something follows the end of the JSON")

    def _object(self) -> Iterator[Any]:
        members, has_list = dict[str, Any](), False
        self._at += 1
        while self._peek() != "}":
            key = self._value()
            self._expect(":")
            if key in ("features", "geometries") and self._peek() == "[":
                has_list = True
                yield from self._list()
            else:
                members[str(key)] = self._value()
            if self._peek() != "}":
                self._expect(",")
        self._at += 1
        if not has_list:
            if members.get("type") not in ("Feature", *_IGNORED, *_AREAS):
                raise self._fault(f"it has no features; its type is {members.get('type')!r}")
            yield members

    def _list(self) -> Iterator[Any]:
        self._at += 1
        while self._peek() != "]":
            yield self._value()
            if self._peek() != "]":
                self._expect(",")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.pos >= len(self._text) - _END or "Unterminated" in error.msg
                if is_cut and self._read():
                    continue
                if error.pos >= len(self._text):
                    raise self._cut() from None
                raise self._fault(error.msg, error.pos) from None
            except RecursionError:
                raise self._fault("its lists are nested too deeply") from None
            if end == len(self._text) and self._read():  # a number may go on
                continue
            self._at = end
            return value

    def _expect(self, character: str) -> None:
        if (following := self._peek()) != character:
            raise self._fault(f"{character!r} is missing") if following else self._cut()
        self._at += 1

    def _peek(self) -> str:
        """Return the next character that is no white space, "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def _read(self) -> bool:
        """Read on, twice as much where one feature does not end; return whether there was more."""
        data = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._digest.update(data)
        self._n_read += len(data)
        try:
            more = self._decode_text(data, not data)
        except UnicodeDecodeError:
            raise UnreadableFileError(f"{self._path}: it is no text in UTF-8.") from None
        self._text, self._at = self._text[self._at :] + more, 0
        if data:
            self._progress(self._n_read, self._size)
        return bool(data)

    def _fault(self, what: str, position: int | None = None) -> UnreadableFileError:
        at = self._at if position is None else position
        near = f", near {self._text[at : at + 20]!r}" if at < len(self._text) else ""
        return UnreadableFileError(f"{self._path}: it is no GeoJSON: {what}{near}.")

    def _cut(self) -> UnreadableFileError:
        return UnreadableFileError(
            f"{self._path}: it ends in the middle, after {self._n_read} bytes; copy or export it "
            "again."
        )


_AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
_IGNORED = ("Point", "MultiPoint", "LineString", "MultiLineString")


class _Features:
    """The features of a file, and what was ignored of them."""

    def __init__(self) -> None:
        self._ignored: Counter[str] = Counter()
        self._n = 0
        self._has_planes = False

    def parse(self, items: Iterator[Any]) -> Iterator[Feature]:
        """Yield the areas among features and geometries of JSON."""
        for item in items:
            yield from self._parse(item)

    def complete(self, annotations: Annotations, key: str) -> Annotations:
        """Return the annotations of all features, with their notes and planes."""
        notes = list[str]()
        if self._ignored:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in self._ignored.items())
            notes.append(f"only areas have pixels, so these are ignored: {counts}")
        return annotations.completed(notes, key, in_first_plane=self._has_planes)

    def _parse(self, item: Any) -> Iterator[Feature]:
        self._n += 1
        number = self._n
        if not isinstance(item, dict):
            self._ignored["no feature"] += 1
            return
        geometry = item.get("geometry") if item.get("type") == "Feature" else item
        properties = item.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        polygons = list(self._polygons(geometry))
        if polygons:
            name, color = _classification(properties)
            z, t = self._plane(geometry)
            yield Feature(polygons, name, color, z, t, number)
        for key in ("childObjects", "children"):
            children = properties.get(key)
            for child in children if isinstance(children, list) else ():
                yield from self._parse(child)

    def _polygons(self, geometry: Any) -> Iterator[Sequence[Any]]:
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if kind == "GeometryCollection":
            parts = geometry.get("geometries")
            for part in parts if isinstance(parts, list) else ():
                yield from self._polygons(part)
            return
        coordinates = geometry.get("coordinates") if kind in _AREAS else None
        if not isinstance(coordinates, list):
            self._ignored[str(kind) if kind else "feature without a geometry"] += 1
        elif kind == "Polygon":
            yield coordinates
        else:
            yield from (each for each in coordinates if isinstance(each, list))

    def _plane(self, geometry: Any) -> tuple[int, int]:
        plane = geometry.get("plane")
        if not isinstance(plane, dict):
            return EVERY_PLANE, EVERY_PLANE
        self._has_planes = True
        return _index(plane.get("z")), _index(plane.get("t"))


def _index(value: Any) -> int:
    """Return the index of a plane; a negative one is the first."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**31 else 0


def _classification(properties: dict[str, Any]) -> tuple[str, Color | None]:
    """Return the class of a feature; its colour is that of the class, else its own."""
    classification = properties.get("classification")
    named: Any = classification
    color = _color(properties.get("color"))
    if isinstance(classification, dict):
        names = classification.get("names")
        joined = ": ".join(map(str, names)) if isinstance(names, list) else None
        named = classification.get("name") or joined
        own = classification.get("color")
        color = _color(classification.get("colorRGB") if own is None else own) or color
    name = named or properties.get("name")
    return (str(name).strip() if name else "") or UNCLASSIFIED, color


def _color(value: Any) -> Color | None:
    """Return a colour from a list of three numbers, or from the integer 0xAARRGGBB."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value >> 16) & 255, (value >> 8) & 255, value & 255
    if isinstance(value, list) and len(value) in (3, 4):
        numbers = [int(n) for n in value[:3] if isinstance(n, int | float)]
        if len(numbers) == 3 and all(0 <= n <= 255 for n in numbers):
            return numbers[0], numbers[1], numbers[2]
    return None
