"""The files that are measured: mosaics of compressed tiles, and a slide of very many subblocks."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from imagecodecs import jpegxr_encode, zstd_encode
from numpy.typing import NDArray
from pylibCZIrw.czi import create_czi

COMPRESSIONS = {"zstd": "zstd1:ExplicitLevel=1", "uncompressed": "uncompressed:"}
"""By the name in a row: the options for libCZI's writer."""

JPEG_XR = "jpegxr"
"""What microscopes write, and libCZI's writer does not: without loss."""

GRAY16 = 1
CODES = {"zstd": 5, JPEG_XR: 4}
"""How the format names what we write by hand."""

DISTINCT_TILES, DISTINCT_MOSAIC_TILES = 256, 8
"""So many different contents do the tiles of a slide, or of a mosaic, have."""


@dataclass(frozen=True)
class Mosaic:
    """A mosaic: uint16, like cells with photon noise.

    Attributes
    ----------
    size, tile, overlap : int
        Pixels of a side of a scene, of a tile, and shared by neighbouring tiles.
    scenes, channels, depth : int
        How many of each.
    compression : {"zstd", "uncompressed", "jpegxr"}
        How the tiles are stored.
    """

    size: int
    tile: int
    overlap: int = 0
    scenes: int = 2
    channels: int = 2
    depth: int = 2
    compression: str = "zstd"

    @property
    def name(self) -> str:
        """The file's name, which encodes every parameter."""
        counts = f"{self.scenes}x{self.depth}x{self.channels}x{self.size}"
        return f"{self.compression}-{counts}-t{self.tile}-o{self.overlap}.czi"

    @property
    def starts(self) -> range:
        """Where the tiles of a row or column begin."""
        return range(0, max(self.size - self.overlap, 1), self.tile - self.overlap)

    @property
    def tiles(self) -> int:
        """How many tiles the file holds."""
        return self.scenes * self.depth * self.channels * len(self.starts) ** 2

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all scenes, decoded, each place once."""
        return self.scenes * self.depth * self.channels * self.size**2 * 2

    def write(self, folder: Path) -> Path:
        """Write the file, unless it is there."""
        path = folder / self.name
        if not path.exists():
            draft = path.with_suffix(".draft.czi")
            if self.compression == JPEG_XR:
                _write_segments(draft, self._stored_tiles(), JPEG_XR)
            else:
                self._write(draft)
            draft.replace(path)
        return path

    def _write(self, path: Path) -> None:
        canvas = cells(self.tile)
        options = COMPRESSIONS[self.compression]
        with create_czi(str(path), exist_ok=True, compression_options=options) as file:
            for scene, z, c, y, x, h, w in self._placed():
                shift = (y * 7 + x * 13 + scene + 3 * z + 5 * c) % self.tile
                pixels = np.ascontiguousarray(np.roll(canvas, shift, axis=1)[:h, :w])
                corner = self._left(scene) + x, y
                file.write(pixels, corner, {"Z": z, "C": c, "T": 0}, scene=scene)

    def _left(self, scene: int) -> int:
        return scene * (self.size + 1000)

    def _placed(self) -> Iterator[tuple[int, ...]]:
        """Yield scene, Z, C, Y, X, height and width of each tile."""
        counts = map(range, (self.scenes, self.depth, self.channels))
        for *which, y, x in product(*counts, self.starts, self.starts):
            yield *which, y, x, min(self.tile, self.size - y), min(self.tile, self.size - x)

    def _stored_tiles(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each tile as its dimension entries and its stored bytes, few of which differ."""
        canvas = cells(self.tile)
        stored: dict[tuple[int, ...], bytes] = {}
        for number, (scene, z, c, y, x, h, w) in enumerate(self._placed()):
            like = number % DISTINCT_MOSAIC_TILES, h, w
            if like not in stored:
                pixels = np.roll(canvas, 100 * like[0], axis=1)[:h, :w]
                stored[like] = bytes(jpegxr_encode(np.ascontiguousarray(pixels), level=1.0))
            places = {"X": (self._left(scene) + x, w), "Y": (y, h)}
            ones = {"Z": z, "C": c, "T": 0, "S": scene, "M": number}
            yield _entries(places | {axis: (at, 1) for axis, at in ones.items()}), stored[like]


def cells(size: int) -> NDArray[np.uint16]:
    """Draw a square of smooth bright spots on a background, with photon noise."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(size) / 31) ** 2
    light = 100 + 900 * np.outer(waves, waves)
    noisy = light + np.sqrt(light) * rng.standard_normal((size, size), np.float32)
    drawn: NDArray[np.uint16] = np.clip(noisy, 0, 4095).astype(np.uint16)
    return drawn


class _Tile(NamedTuple):
    """One subblock of a slide: its column and row within a level of its pyramid."""

    level: int
    row: int
    column: int


@dataclass(frozen=True)
class Slide:
    """A pyramidal slide of very many small zstd subblocks, each of one grey value.

    Attributes
    ----------
    subblocks : int
        At most so many, those of the pyramid included.
    tile : int
        Pixels of a tile's side.
    pyramid : bool
        Whether it has one: each level half the one before, down to a single tile.
    """

    subblocks: int
    tile: int = 366
    pyramid: bool = True

    @property
    def name(self) -> str:
        """The file's name, which encodes every parameter."""
        return f"slide-{self.subblocks}-t{self.tile}{'-pyramid' * self.pyramid}.czi"

    @property
    def side(self) -> int:
        """Tiles along a side of the full resolution."""
        side = 1
        while self._count(side + 1) <= self.subblocks:
            side += 1
        return side

    @property
    def size(self) -> int:
        """Pixels along a side of the full resolution."""
        return self.side * self.tile

    @property
    def total(self) -> int:
        """How many subblocks the file holds."""
        return self._count(self.side)

    def value(self, row: int, column: int, level: int = 0) -> int:
        """Return the grey value of a tile."""
        return (row * 31 + column * 7 + level) % DISTINCT_TILES * 200 + 100

    def write(self, folder: Path) -> Path:
        """Write the bytes of the file, unless it is there."""
        path = folder / self.name
        if not path.exists():
            draft = path.with_suffix(".draft.czi")
            _write_segments(draft, self._subblocks(), "zstd")
            draft.replace(path)
        return path

    def _levels(self, side: int) -> list[int]:
        sides = [side]
        while self.pyramid and sides[-1] > 1:
            sides.append(-(-sides[-1] // 2))
        return sides

    def _count(self, side: int) -> int:
        return sum(n * n for n in self._levels(side))

    def _subblocks(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield each subblock as its dimension entries and its stored bytes."""
        stored = {
            value: bytes(zstd_encode(np.full(self.tile**2, value, np.uint16).tobytes(), 1))
            for value in {self.value(i, 0) for i in range(DISTINCT_TILES)}
        }
        for level, side in enumerate(self._levels(self.side)):
            for row, column in product(range(side), range(side)):
                dimensions = self._dimensions(_Tile(level, row, column), side)
                yield dimensions, stored[self.value(row, column, level)]

    def _dimensions(self, tile: _Tile, side: int) -> bytes:
        extent = self.tile << tile.level
        fields: list[tuple[Any, ...]] = [
            (b"X", tile.column * extent, extent, 0.0, self.tile),
            (b"Y", tile.row * extent, extent, 0.0, self.tile),
            (b"C", 0, 1, 0.0, 1),
            (b"S", 0, 1, 0.0, 1),
        ]
        if not tile.level:
            fields.append((b"M", tile.row * side + tile.column, 1, 0.0, 1))
        return b"".join(struct.pack("<4siifi", *field) for field in fields)


def _entries(places: dict[str, tuple[int, int]]) -> bytes:
    """Encode where along each axis a tile begins, and how far it goes."""
    fields = ((axis.encode(), at, n, 0.0, n) for axis, (at, n) in places.items())
    return b"".join(struct.pack("<4siifi", *field) for field in fields)


def _write_segments(path: Path, subblocks: Iterator[tuple[bytes, bytes]], compression: str) -> None:
    entries, code = [], CODES[compression]
    with path.open("wb", buffering=2**22) as file:
        file.write(_file_header(0))
        for dimensions, stored in subblocks:
            count, is_pyramid = len(dimensions) // 20, len(dimensions) < 100
            head = (b"DV", GRAY16, file.tell(), 0, code, 2 * is_pyramid, b"", count)
            entry = struct.pack("<2siqiiB5si", *head) + dimensions
            entries.append(entry)
            fixed = (struct.pack("<iiq", 0, 0, len(stored)) + entry).ljust(256, b"\0")
            file.write(_segment(b"ZISRAWSUBBLOCK", fixed + stored))
        directory_at = file.tell()
        count_of = struct.pack("<i", len(entries)).ljust(128, b"\0")
        file.write(_segment(b"ZISRAWDIRECTORY", count_of + b"".join(entries)))
        file.seek(0)
        file.write(_file_header(directory_at))


def _segment(kind: bytes, data: bytes) -> bytes:
    allocated = -(-len(data) // 32) * 32
    return struct.pack("<16sqq", kind, allocated, len(data)) + data.ljust(allocated, b"\0")


def _file_header(directory_at: int) -> bytes:
    fields = (1, 0, 0, 0, bytes(32), 0, directory_at, 0, 0, 0)
    return _segment(b"ZISRAWFILE", struct.pack("<4i32siqqiq", *fields).ljust(512, b"\0"))


def stored_bytes(path: Path) -> int:
    """Return the number of stored bytes of all full-resolution tiles."""
    from napari_patchset.stacks.czi.directory import read_directory

    blocks = read_directory(path).subblocks
    full = np.all(blocks.rect[:, 2:] == blocks.stored, axis=1)
    total = 0
    with path.open("rb") as file:
        for position in blocks.position[full].tolist():
            file.seek(position + 32 + 8)
            total += int.from_bytes(file.read(8), "little")
    return total


OUTLINE_CLASSES = ("Tumor", "Stroma", "Immune")


def write_outlines(folder: Path, n: int) -> tuple[Path, Path]:
    """Write an image without pixels and outlines of nuclei in it, in islands of about 1600.

    Each has 20 corners, and is of one of three classes.
    """
    image, outlines = folder / f"outlined {n}.zarr", folder / f"outlined {n}.geojson"
    if outlines.exists():
        return image, outlines
    islands = max(2, ceil((n / 1600) ** 0.5))  # in a row; 800 pixels wide, and 200 apart
    side = 1000 * islands
    zarr.create_array(
        image,
        shape=(side, side),
        chunks=(1024, 1024),
        dtype="uint8",
        dimension_names=["y", "x"],
        overwrite=True,
    )
    rng, angle = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 21)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    draft = outlines.with_suffix(".draft")
    with draft.open("w") as file:
        file.write('{"type": "FeatureCollection", "features": [\n')
        for i in range(n):
            island = np.array(divmod(i % islands**2, islands))
            centre, radius = 1000 * island + rng.uniform(10, 800, 2), rng.uniform(4, 8)
            ring = (centre + radius * circle).round(2).tolist()
            properties = {
                "objectType": "annotation",
                "classification": {"name": OUTLINE_CLASSES[i % 3], "color": [200, 0, i % 3]},
            }
            geometry = {"type": "Polygon", "coordinates": [ring]}
            feature = {"type": "Feature", "geometry": geometry, "properties": properties}
            file.write((",\n" if i else "") + json.dumps(feature))
        file.write("\n]}\n")
    draft.rename(outlines)
    return image, outlines
