"""Writers of microscopes' own kinds of TIFF, tag by tag, whose planes encode their own number."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Tag = tuple[int, int, bytes]
"""Type, count and value; bytes of more than four are stored apart."""

SHORT, LONG, RATIONAL, BYTE = 3, 4, 5, 1


class TiffBuilder:
    """A little-endian TIFF that grows block by block, since private tags point into the file."""

    def __init__(self, head: bytes = b"") -> None:
        self._data = bytearray(b"II*\0\0\0\0\0" + head)
        self._next = 4  # where the offset of the next directory goes

    def add(self, block: bytes) -> int:
        """Append a block, and return where it is."""
        self._data += b"\0" * (len(self._data) % 2)
        self._data += block
        return len(self._data) - len(block)

    def add_page(self, pixels: NDArray[Any], tags: Mapping[int, Tag], at: int | None = None) -> int:
        """Append a page of one strip of uint16, or of that at an offset; return its offset."""
        height, width = pixels.shape
        at = self.add(pixels.astype("<u2").tobytes()) if at is None else at
        entries: dict[int, Tag] = {
            256: (LONG, 1, struct.pack("<I", width)),
            257: (LONG, 1, struct.pack("<I", height)),
            258: (SHORT, 1, struct.pack("<H", 16)),
            259: (SHORT, 1, struct.pack("<H", 1)),
            262: (SHORT, 1, struct.pack("<H", 1)),
            273: (LONG, 1, struct.pack("<I", at)),
            277: (SHORT, 1, struct.pack("<H", 1)),
            278: (LONG, 1, struct.pack("<I", height)),
            279: (LONG, 1, struct.pack("<I", 2 * height * width)),
            **tags,
        }
        directory = struct.pack("<H", len(entries))
        for code, (kind, count, value) in sorted(entries.items()):
            stored = value if len(value) <= 4 else struct.pack("<I", self.add(value))
            directory += struct.pack("<HHI", code, kind, count) + stored.ljust(4, b"\0")
        start = self.add(directory + bytes(4))
        self._data[self._next : self._next + 4] = struct.pack("<I", start)
        self._next = start + len(directory)
        return at

    def write(self, path: Path) -> Path:
        path.write_bytes(self._data)
        return path


def _rational(value: float) -> bytes:
    return struct.pack("<2I", round(value * 10_000), 10_000)


def write_stk(
    path: Path, planes: NDArray[Any], size: float, unit: str, z: float = 0, step_ms: int = 0
) -> Path:
    """Write a MetaMorph STK: one directory, the planes one after the other."""
    file, n = TiffBuilder(), len(planes)
    at = file.add(planes.astype("<u2").tobytes())
    calibration, text = file.add(_rational(size)), unit.encode() + b"\0"
    units = file.add(struct.pack("<I", len(text)) + text)
    fields = {3: 1, 4: calibration, 5: calibration, 6: units}
    uic1 = b"".join(struct.pack("<2I", *pair) for pair in fields.items())
    uic2 = b"".join(
        _rational(z) + struct.pack("<4I", 2_459_000, step_ms * i, 2_459_000, 0) for i in range(n)
    )
    tags = {
        33628: (LONG, len(fields), uic1),
        33629: (RATIONAL, n, uic2),
        33630: (RATIONAL, n, _rational(500) * n),
    }
    file.add_page(planes[0], tags, at)
    return file.write(path)


def write_sis(path: Path, planes: Sequence[NDArray[Any]], x: float, y: float) -> Path:
    """Write an Olympus SIS file; `x` and `y` are in metres."""
    file = TiffBuilder()
    data = file.add(struct.pack("<10xhdd8xd2x34s32s", -6, x * 1e6, y * 1e6, 20.0, b"cam", b"grey"))
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 5, 6, 7, 8, 99, b"name", 1)
    block = head + struct.pack("<hhI", 1, 1, data)
    for plane in planes:
        file.add_page(plane, {33560: (BYTE, len(block), block)})
    return file.write(path)


def write_fluoview(
    path: Path, planes: NDArray[Any], dimensions: Sequence[tuple[str, int, float, str]]
) -> Path:
    """Write an Olympus FluoView file: name, size, resolution and unit of each axis, X first."""
    header = np.zeros((), np.dtype(tifffile.TIFF.MM_HEADER))
    for i, (name, n, resolution, unit) in enumerate(dimensions):
        header["Dimensions"][i] = (name.encode(), n, 0.0, resolution, unit.encode())
    mark = (34361, 1, len(header.tobytes()), header.tobytes(), False)
    stamp = (34362, 12, 8, (0.0,) * 8, False)
    tifffile.imwrite(path, planes, metadata=None, photometric="minisblack", extratags=[mark, stamp])
    return path


def write_lsm(path: Path, planes: NDArray[Any], axes: str, **fields: Any) -> Path:
    """Write a Zeiss LSM of axes "ZYX", "TYX" or "TZYX", each page with a thumbnail.

    Parameters
    ----------
    **fields
        Of CZ_LSMINFO: `VoxelSizeX=1e-7`, in metres and seconds.
    """
    info = np.zeros((), np.dtype(tifffile.TIFF.CZ_LSMINFO))
    sizes = dict(zip(axes, planes.shape, strict=True))
    dimensions = {"X": "X", "Y": "Y", "Z": "Z", "T": "Time"}
    values = {f"Dimension{dimensions[axis]}": n for axis, n in sizes.items()}
    scan = {"ZYX": 0, "TYX": 3, "TZYX": 6}[axes]
    values |= {"MagicNumber": 67127628, "DimensionChannels": 1, "ScanType": scan, **fields}
    file = TiffBuilder()
    colors = np.array([[0, 255, 0, 0]], "u1").tobytes()
    names = struct.pack("<I", 5) + b"EGFP\0"
    at = 24
    values["OffsetChannelColors"] = file.add(
        struct.pack("<6i", at + len(colors) + len(names), 1, 1, at, at + len(colors), 0)
        + colors
        + names
    )
    for name, value in values.items():
        info[name] = value
    info["StructureSize"] = len(info.tobytes())
    first: dict[int, Tag] = {34412: (BYTE, len(info.tobytes()), info.tobytes())}
    for plane in planes.reshape(-1, *planes.shape[-2:]):
        file.add_page(plane, {254: (LONG, 1, bytes(4)), **first})
        file.add_page(plane[::4, ::4], {254: (LONG, 1, struct.pack("<I", 1))})
        first = {}
    return file.write(path)


def write_ndtiff(
    folder: Path, planes: NDArray[Any], places: Sequence[Mapping[str, int | str]], **summary: Any
) -> Path:
    """Write an NDTiff dataset; `places` are the axes of each plane, as its index has them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary).encode()
    file = TiffBuilder(struct.pack("<4I", 483729, 2, 2355492, len(text)) + text)
    path, index = folder / "NDTiffStack.tif", b""
    own = json.dumps({"PixelSizeUm": summary.get("PixelSize_um", 0)}).encode()
    for plane, axes in zip(planes, places, strict=True):
        at = file.add_page(plane, {51123: (2, len(own) + 1, own + b"\0")})
        for part in (json.dumps(dict(axes)).encode(), path.name.encode()):
            index += struct.pack("<I", len(part)) + part
        height, width = plane.shape
        index += struct.pack("<8I", at, width, height, 1, 0, 0, 0, 0)
    (folder / "NDTiff.index").write_bytes(index)
    return file.write(path)


def write_scanimage(path: Path, planes: NDArray[Any], first: int = 1, **header: Any) -> Path:
    """Write a ScanImage BigTIFF with a header like `hStackManager_numSlices=4`.

    `first` is the number of the first page's frame.
    """
    lines = [f"SI.{name.replace('_', '.', 1)} = {value}" for name, value in header.items()]
    text = "\n".join(("SI.VERSION_MAJOR = 2022", *lines, "")).encode() + b"\0"
    head = struct.pack("<4I", 0x07030301, 4, len(text), 3) + text + b"{}\0"
    data = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + head)
    link = 8
    for i, plane in enumerate(planes):
        height, width = plane.shape
        at = len(data)
        data += plane.astype("<u2").tobytes()
        said = b"frameNumbers = %d\0" % (first + i)
        at_said = len(data)
        data += said.ljust(-(-len(said) // 8) * 8, b"\0")
        values = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: at, 277: 1}
        values |= {278: height, 279: 2 * height * width}
        tags = [(code, 16, 1, struct.pack("<Q", value)) for code, value in values.items()]
        tags.append((270, 2, len(said), struct.pack("<Q", at_said)))
        tags.append((305, 2, 8, b"SI.2022\0"))
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<Q", len(tags))
        data += b"".join(struct.pack("<HHQ", *tag[:3]) + tag[3] for tag in sorted(tags))
        link = len(data)
        data += bytes(8)
    path.write_bytes(data)
    return path
