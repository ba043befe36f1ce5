"""Write small CZI files of self-proving pixels: `make_czi(path, [SceneSpec(...), ...])`.

Two writers share one description: our own bytes, which can write anything the format can say,
sound or not, and Zeiss' libCZI, for compression and as a witness.
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol
from xml.sax.saxutils import quoteattr

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pylibCZIrw.czi import create_czi

from support.pixels import expected, expected_rgb

KINDS: dict[str, tuple[int, str, bool]] = {
    "Gray8": (0, "uint8", False),
    "Gray16": (1, "uint16", False),
    "Gray32Float": (2, "float32", False),
    "Bgr24": (3, "uint8", True),
    "Bgr48": (4, "uint16", True),
    "Bgr96Float": (8, "float32", True),
    "Gray32": (12, "int32", False),
    "Gray64Float": (13, "float64", False),
}
"""By name: the format's number, the dtype of a component, whether it is colour."""

Span = int | range
"""Indices along an axis; n stands for range(n)."""


@dataclass(frozen=True)
class SceneSpec:
    """One scene: where it lies and which planes it has.

    Attributes
    ----------
    id : int or None
        None for a file without scenes.
    rect : tuple of int
        x, y, w, h on the stage.
    t, z, c : int or range
        The indices along each axis, in the file's own numbering; None to leave the axis out.
    more : dict of str to int or range
        The same for R, I, H, V, B.
    kind : str or dict of int to str
        The pixel type, or one for each channel.
    missing : sequence of dict
        Planes to leave out; {"Z": 1} is every one at Z 1.
    overlap : int
        By how many pixels neighbouring tiles overlap.
    stamped : bool
        Whether a pixel also says which tile (M) it is of, so that overlaps differ.
    pyramid : bool
        Whether each tile has a subblock of half its size too.
    """

    id: int | None = 0
    rect: tuple[int, int, int, int] = (0, 0, 64, 48)
    t: Span | None = 1
    z: Span | None = 1
    c: Span | None = 1
    more: Mapping[str, Span] = field(default_factory=dict)
    kind: str | Mapping[int, str] = "Gray16"
    missing: Sequence[Mapping[str, int]] = ()
    overlap: int = 0
    stamped: bool = False
    pyramid: bool = False

    def planes(self) -> Iterator[dict[str, int]]:
        """Yield every plane of the scene that is not missing."""
        spans = {"T": self.t, "Z": self.z, **self.more, "C": self.c}
        axes = {axis: _indices(span) for axis, span in spans.items() if span is not None}
        for numbers in product(*axes.values()):
            plane = dict(zip(axes, numbers, strict=True))
            if not any(hole.items() <= plane.items() for hole in self.missing):
                yield plane

    def kind_of(self, plane: Mapping[str, int]) -> str:
        """Return the pixel type of a plane."""
        return self.kind if isinstance(self.kind, str) else self.kind[plane.get("C", 0)]

    def pixels(
        self,
        plane: Mapping[str, int],
        window: tuple[int, int, int, int] | None = None,
        m: int | None = None,
    ) -> NDArray[Any]:
        """Return the pixels of a plane, YX or YX + RGB, in a window y, x, h, w of the scene."""
        _, dtype, colour = KINDS[self.kind_of(plane)]
        stamp = {"M": m + 1} if self.stamped and m is not None else {}
        draw = expected_rgb if colour else expected
        y0, x0, h, w = window or (0, 0, self.rect[3], self.rect[2])
        return draw(y0, x0, h, w, dtype, S=self.id or 0, **plane, **stamp)


@dataclass(frozen=True)
class Block:
    """One subblock; `dataclasses.replace` makes an unsound one.

    `pixel_type`, `compression` and `part` are the format's numbers; `data` the stored bytes, if
    they are not those of `pixels`.
    """

    plane: Mapping[str, int]
    rect: tuple[int, int, int, int]
    pixels: NDArray[Any]
    pixel_type: int
    m: int | None = None
    compression: int = 0
    part: int = 0
    data: bytes | None = None

    @property
    def stored(self) -> bytes:
        """The bytes on disk: colour in the order B, G, R."""
        if self.data is not None:
            return self.data
        return (self.pixels[..., ::-1] if self.pixels.ndim == 3 else self.pixels).tobytes()

    @property
    def is_pyramid(self) -> bool:
        """Whether it stores fewer pixels than it covers."""
        return self.pixels.shape[1::-1] != tuple(self.rect[2:])


_JPEGXR_RGB24, _JPEGXR_BGR24 = (
    bytes.fromhex(f"24c3dd6f034efe4bb1853d77768dc9{last}") for last in ("0d", "0c")
)


def jpeg(block: Block) -> Block:
    """Compress a subblock of 8 bit; what it decodes to is near its pixels."""
    return replace(block, data=bytes(imagecodecs.jpeg8_encode(block.pixels, 98)), compression=1)


def lzw(block: Block) -> Block:
    """Compress the bytes of a subblock."""
    return replace(block, data=bytes(imagecodecs.lzw_encode(block.stored)), compression=2)


def jpegxr(block: Block) -> Block:
    """Compress a subblock, without loss but for float; 8-bit colour of the kind that ZEN writes."""
    block = jpegxr_rgb(block)
    assert block.data is not None
    return replace(block, data=block.data.replace(_JPEGXR_RGB24, _JPEGXR_BGR24))


def jpegxr_rgb(block: Block) -> Block:
    """Compress a subblock in the same way; 8-bit colour of a kind that libCZI refuses."""
    data = bytes(imagecodecs.jpegxr_encode(np.ascontiguousarray(block.pixels)))
    return replace(block, data=data, compression=4)


def make_czi(
    path: Path,
    scenes: Sequence[SceneSpec] = (SceneSpec(),),
    tile: tuple[int, int] | None = None,
    xml: str | None = None,
    compression: str | None = None,
) -> Path:
    """Write a CZI and return its path.

    Parameters
    ----------
    path : Path
        The file.
    scenes : sequence of SceneSpec
        What is in it.
    tile : tuple of int or None
        Height and width of a tile; None for one tile a plane.
    xml : str or None
        The metadata, see `metadata_xml`; None for a file without.
    compression : str or None
        Written by libCZI with these options, such as "zstd1:" or "uncompressed:"; None for our
        own writer.
    """
    blocks = list(blocks_of(scenes, tile))
    if compression is None:
        write_blocks(path, blocks, xml)
    else:
        write_with_libczi(path, blocks, compression)
    return path


class MakeCzi(Protocol):
    """The fixture `czi`: `make_czi` in the test's own folder."""

    def __call__(
        self,
        *scenes: SceneSpec,
        name: str = "image.czi",
        tile: tuple[int, int] | None = None,
        xml: str | None = None,
        compression: str | None = None,
    ) -> Path:
        """Write a CZI of self-proving pixels."""


def blocks_of(scenes: Sequence[SceneSpec], tile: tuple[int, int] | None = None) -> Iterator[Block]:
    """Yield the subblocks of scenes, each plane's tiles with rising M."""
    for scene in scenes:
        number = {} if scene.id is None else {"S": scene.id}
        for plane in scene.planes():
            for m, window in enumerate(_windows(scene, tile)):
                y, x, h, w = window
                block = Block(
                    plane={**plane, **number},
                    rect=(scene.rect[0] + x, scene.rect[1] + y, w, h),
                    pixels=scene.pixels(plane, window, m),
                    pixel_type=KINDS[scene.kind_of(plane)][0],
                    m=m,
                )
                yield block
                if scene.pyramid:
                    yield replace(block, pixels=block.pixels[::2, ::2], m=None)


def write_with_libczi(path: Path, blocks: Collection[Block], compression: str) -> None:
    """Write through libCZI: axes T, Z, C only, always with a scene, no pyramid."""
    with create_czi(str(path), exist_ok=True, compression_options=compression) as file:
        for block in blocks:
            plane = dict(block.plane)
            scene = plane.pop("S", None)
            if scene is None or block.is_pyramid or not plane.keys() <= set("TZC"):
                raise ValueError(f"libCZI's writer can't write {block.plane}.")
            pixels = block.pixels[..., ::-1] if block.pixels.ndim == 3 else block.pixels
            file.write(np.ascontiguousarray(pixels), block.rect[:2], plane, scene=scene)


def write_blocks(
    path: Path, blocks: Collection[Block], xml: str | None = None, file_part: int = 0
) -> None:
    """Write the bytes of a CZI: header, subblocks, directory, metadata."""
    with path.open("wb") as file:
        _finish(file, _write_subblocks(file, blocks), xml, file_part)


def write_parts(
    path: Path,
    blocks: Collection[Block],
    xml: str | None = None,
    directories: Literal["master", "each", "scan"] = "master",
) -> list[Path]:
    """Write a CZI in several files, each with the blocks of its `part`; return their paths.

    The directory of the master lists all subblocks, or each file has one of its own, or the parts
    have none at all and their subblocks are in no directory.
    """
    paths, listed = [], list[bytes]()
    for part in sorted({block.part for block in blocks} | {0}, reverse=True):
        paths.append(path.with_stem(f"{path.stem} ({part})") if part else path)
        with paths[-1].open("wb") as file:
            entries = _write_subblocks(file, [block for block in blocks if block.part == part])
            listed += entries
            if part and directories != "each":
                file.seek(0)
                file.write(_file_header(part, 0, 0))
            else:
                everything = directories == "master" and part == 0
                _finish(file, listed if everything else entries, None if part else xml, part)
    return paths[::-1]


def _write_subblocks(file: BinaryIO, blocks: Collection[Block]) -> list[bytes]:
    """Write subblocks after room for the header, and return their directory entries."""
    file.write(_file_header(0, 0, 0))
    entries = []
    for block in blocks:
        entry = _entry(block, file.tell())
        entries.append(entry)
        stored = block.stored
        head = struct.pack("<iiq", 0, 0, len(stored)) + entry
        file.write(_segment("ZISRAWSUBBLOCK", head.ljust(256, b"\0") + stored))
    return entries


def _finish(file: BinaryIO, entries: Sequence[bytes], xml: str | None, file_part: int) -> None:
    directory_at = file.tell()
    head = struct.pack("<i", len(entries)).ljust(128, b"\0")
    file.write(_segment("ZISRAWDIRECTORY", head + b"".join(entries)))
    metadata_at = 0
    if xml is not None:
        metadata_at, text = file.tell(), xml.encode()
        head = struct.pack("<ii", len(text), 0).ljust(256, b"\0")
        file.write(_segment("ZISRAWMETADATA", head + text))
    file.seek(0)
    file.write(_file_header(file_part, directory_at, metadata_at))


def metadata_xml(
    pixel_size: Mapping[str, object] | None = None,
    channels: Mapping[str, str] | None = None,
    display: Mapping[str, str] | None = None,
    scenes: Mapping[int, str] | None = None,
    times: str = "",
) -> str:
    """Write metadata as ZEN lays it out.

    Parameters
    ----------
    pixel_size : dict
        Metres by X, Y, Z; anything may stand there.
    channels, display : dict
        By Id, such as "Channel:0": what stands inside of <Channel Id=... >, under the image's
        dimensions and under the display settings; a text that does not begin with "<" is its Name.
    scenes : dict
        Names by index, or a whole element.
    times : str
        What stands under T/Positions.
    """
    distances = "".join(
        f'<Distance Id="{axis}"><Value>{value}</Value></Distance>'
        for axis, value in (pixel_size or {}).items()
    )
    named = "".join(
        name if name.startswith("<") else f'<Scene Index="{i}" Name={quoteattr(name)}/>'
        for i, name in (scenes or {}).items()
    )
    return (
        "<ImageDocument><Metadata>"
        f"<Information><Image><Dimensions><Channels>{_channels(channels)}</Channels>"
        f"<S><Scenes>{named}</Scenes></S><T><Positions>{times}</Positions></T></Dimensions></Image></Information>"
        f"<Scaling><Items>{distances}</Items></Scaling>"
        f"<DisplaySetting><Channels>{_channels(display)}</Channels></DisplaySetting>"
        "</Metadata></ImageDocument>"
    )


def _channels(channels: Mapping[str, str] | None) -> str:
    def one(number: str, what: str) -> str:
        if what.startswith("<"):
            return f'<Channel Id="{number}">{what}</Channel>'
        return f'<Channel Id="{number}" Name={quoteattr(what)}/>'

    return "".join(one(number, what) for number, what in (channels or {}).items())


def _indices(span: Span) -> range:
    return range(span) if isinstance(span, int) else span


def _windows(scene: SceneSpec, tile: tuple[int, int] | None) -> Iterator[tuple[int, int, int, int]]:
    height, width = scene.rect[3], scene.rect[2]
    h, w = tile or (height, width)
    rows = range(0, max(height - scene.overlap, 1), h - scene.overlap)
    columns = range(0, max(width - scene.overlap, 1), w - scene.overlap)
    for y, x in product(rows, columns):
        yield y, x, min(h, height - y), min(w, width - x)


def _segment(kind: str, data: bytes) -> bytes:
    allocated = -(-len(data) // 32) * 32
    return struct.pack("<16sqq", kind.encode(), allocated, len(data)) + data.ljust(allocated, b"\0")


def _file_header(file_part: int, directory_at: int, metadata_at: int) -> bytes:
    guid = bytes(range(16))
    fields = (1, 0, 0, 0, guid * 2, file_part, directory_at, metadata_at, 0, 0)
    return _segment("ZISRAWFILE", struct.pack("<4i32siqqiq", *fields).ljust(512, b"\0"))


def _entry(block: Block, position: int) -> bytes:
    x, y, w, h = block.rect
    stored_h, stored_w = block.pixels.shape[:2]
    dimensions = [("X", x, w, stored_w), ("Y", y, h, stored_h)]
    dimensions += [(axis, number, 1, 1) for axis, number in block.plane.items()]
    if block.m is not None:
        dimensions.append(("M", block.m, 1, 1))
    head = struct.pack(
        *("<2siqiiB5si", b"DV", block.pixel_type, position, block.part, block.compression),
        *(int(block.is_pyramid), b"", len(dimensions)),
    )
    return head + b"".join(
        struct.pack("<4siifi", axis.encode(), start, size, 0.0, stored)
        for axis, start, size, stored in dimensions
    )


def plane(scene: SceneSpec, **numbers: int) -> NDArray[Any]:
    """Return the pixels of a plane, at 0 along T, Z and C by default."""
    return scene.pixels({"T": 0, "Z": 0, "C": 0, **numbers})
