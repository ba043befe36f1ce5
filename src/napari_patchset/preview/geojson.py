"""The patches of a set as GeoJSON, which QuPath and napari-geojson lay over the source.

A file for each source, since QuPath opens one image at a time. A patch is a tile object: its
classification is its split, or why it was rejected, its measurements are what the table has of it.
QuPath reads measurements as an object, and as a list as before version 0.4; napari-geojson reads
only the list. Coordinates are full-resolution pixels, from the image's upper left corner.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from napari_patchset.errors import DestinationExistsError
from napari_patchset.patchset.files import write_file
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory, category_of
from napari_patchset.source import SourceInfo, local_path

SUFFIX = ".geojson"

_HEAD, _TAIL = b'{"type": "FeatureCollection", "features": [\n', b"\n]}\n"

_AT_ONCE = 2**12
"""Most features that are formatted at once; each takes a kilobyte meanwhile."""

_DECIMALS = 3
"""Of a coordinate, if the image was resampled."""


def write_geojson(
    patch_set: PatchSet,
    folder: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Path]:
    """Write the places of all candidates of a patch set, the rejected ones too, as GeoJSON.

    Parameters
    ----------
    folder : str or Path
        Where the files go, NAME.geojson or NAME@SCENE.geojson by file and scene of the source; it
        is created.
    overwrite : bool
        Whether files of these names may be replaced.
    progress : callable
        Called with the number of candidates that are written, and of all.

    Returns
    -------
    list of Path
        The files that were written, one for each source with a candidate.

    Raises
    ------
    DestinationExistsError
        If there is such a file, and it must not be replaced; then none is written.
    """
    sources = patch_set.provenance.sources
    paths = geojson_paths(folder, [(str(each["path"]), each.get("scene")) for each in sources])
    if not overwrite:
        check_absent(paths)
    manifest, written = patch_set.manifest, list[Path]()
    total = sum(manifest.counts.values()) + sum(manifest.rejected.values())
    parts = _features(patch_set, lambda done: progress(done, total))
    for index, of_source in groupby(parts, itemgetter(0)):
        write_file(paths[index], _collection(features for _, features in of_source))
        written.append(paths[index])
    return written


def check_absent(paths: Sequence[Path]) -> None:
    """Raise DestinationExistsError if there is one of the files."""
    for path in paths:
        if os.path.lexists(path):
            raise DestinationExistsError(f"{path} exists; choose another folder or delete it.")


def geojson_paths(folder: str | Path, sources: Sequence[tuple[str, object]]) -> list[Path]:
    """Return the file of each source, given by its path and scene; equal names are numbered."""
    names, times = list[str](), Counter[str]()
    for source, scene in sources:
        name = Path(local_path(source)).name
        name = name if scene is None else f"{name}@{scene}".replace("/", "_")
        times[name.lower()] += 1  # the names of some file systems have no case
        n = times[name.lower()]
        names.append(f"{name}{f' ({n})' if n > 1 else ''}{SUFFIX}")
    return [Path(folder, name) for name in names]


def _collection(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield _HEAD + next(parts)
    for part in parts:
        yield b",\n" + part
    yield _TAIL


def _features(
    patch_set: PatchSet, progress: Callable[[int], object]
) -> Iterator[tuple[int, bytes]]:
    """Yield some features of each source in turn."""
    done, sources = 0, patch_set.manifest.sources
    for part in patch_set.table_parts():
        indices = np.asarray(part["source_index"].to_numpy())
        borders = {0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(part)}
        for first, end in pairwise(sorted(borders.union(range(0, len(part), _AT_ONCE)))):
            index = int(indices[first])
            yield index, _format(part.slice(first, end - first), sources[index])
        done += len(part)
        progress(done)


def _format(part: pa.Table, source: SourceInfo) -> bytes:
    """Return rows of the table, all of one source, as features."""
    columns = zip(
        _texts_of_classes(part),
        _rectangles(part),
        *(_plane_numbers(part, axis, source) for axis in "zt"),
        _measurements(part),
        strict=True,
    )
    return ",\n".join(
        f'{{"type": "Feature", "geometry": {{"type": "Polygon", "coordinates": [{ring}], "plane": '
        f'{{"c": -1, "z": {z}, "t": {t}}}}}, "properties": {{"objectType": "tile", '
        f'"classification": {classification}, "measurements": [{measured}]}}}}'
        for classification, ring, z, t, measured in columns
    ).encode()


def _texts_of_classes(part: pa.Table) -> Iterator[str]:
    """Yield the classification of each patch: its split, or the reason why it was rejected."""
    known = dict[tuple[bool, str], str]()
    rows = (part[name].to_pylist() for name in ("kept", "split", "reason"))
    for kept, split, reason in zip(*rows, strict=True):
        name = split if kept else reason
        if (kept, name) not in known:
            category = PatchCategory.REJECTED
            if kept:
                category = category_of(name)
            color = list(bytes.fromhex(CATEGORY_COLORS[category].removeprefix("#")))
            known[kept, name] = json.dumps({"name": name, "color": color})
        yield known[kept, name]


def _rectangles(part: pa.Table) -> Iterator[str]:
    """Yield the outline of each patch, in full-resolution pixels."""
    edges = []
    for axis in "xy":
        start, size = (_level0(part, f"{axis}_{what}") for what in ("start", "size"))
        edges += [_numbers(start), _numbers(start + size)]
    for left, right, top, bottom in zip(*edges, strict=True):
        corners = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
        yield "[" + ", ".join(f"[{x}, {y}]" for x, y in corners) + "]"


def _level0(part: pa.Table, name: str) -> NDArray[np.float64]:
    at_level0 = f"{name}_level0"  # which a set has if any of its sources was resampled
    column = part[at_level0 if at_level0 in part.column_names else name]
    return np.asarray(column.to_numpy(), np.float64)


def _numbers(values: NDArray[np.float64]) -> list[int | float]:
    rounded = np.round(values, _DECIMALS).tolist()
    return [int(value) if value.is_integer() else value for value in rounded]


def _plane_numbers(part: pa.Table, axis: str, source: SourceInfo) -> Sequence[int]:
    """Return the plane of each patch along Z or T, counted from 0; of a volume, its first one."""
    if source.depth_axis == axis.upper():
        return list(map(int, part[f"{axis}_start"].to_pylist()))
    first = source.starts.get(axis.upper(), 0)
    return [0 if number is None else number - first for number in part[axis].to_pylist()]


def _measurements(part: pa.Table) -> Iterator[str]:
    """Yield the numbers that the table has of each patch; those that are unknown are left out."""
    names = part.column_names
    measured = names[names.index("reason") + 1 : names.index("checksum")]
    measured = [name for name in measured if pa.types.is_floating(part[name].type)]  # no hash
    columns: Mapping[str, list[Any]] = {
        name: part[name].to_pylist()
        for name in ("id", "valid", "weight", *measured)
        if name in names
    }
    labels = [json.dumps(name, ensure_ascii=False) for name in columns]
    for values in zip(*columns.values(), strict=True):
        yield ", ".join(
            f'{{"name": {label}, "value": {value!r}}}'
            for label, value in zip(labels, values, strict=True)
            if value is not None and isfinite(value)
        )
