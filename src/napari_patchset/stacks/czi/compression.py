"""The compressions of subblocks that can be read, and their decoders.

`COMPRESSIONS` is the one table. Raw and zstd data are decoded in this process; JPEG, JPEG XR and
LZW data by imagecodecs in a helper process (see `stacks.isolated`), as damaged data can crash a
decoder. The size that data declare is checked before memory is allocated for it. A further
compression is an entry of the table, and the functions that it names.
"""

import struct
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset.stacks.cache import take_memory
from napari_patchset.stacks.isolated import POOL, ReaderError
from napari_patchset.stacks.jpeg import is_jpeg, jpeg_frames


class DataError(Exception):
    """A fault of a subblock, as the rest of the sentence "The subblock ..."."""


class TileFormat(NamedTuple):
    """The decoded form of a subblock: size in pixels, dtype and number of components of a pixel."""

    height: int
    width: int
    dtype: np.dtype[np.generic]
    components: int

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.height * self.width * self.components * self.dtype.itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the decoded pixels: YX for grey, YXC for colour."""
        return (self.height, self.width, self.components)[: 2 + (self.components > 1)]

    def pixels(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        """Return bytes, of which colour is in the order B, G, R, as pixels YX or YX + RGB."""
        pixels = data.view(self.dtype.newbyteorder("<")).astype(self.dtype, copy=False)
        pixels = pixels.reshape(self.shape)
        return pixels if self.components == 1 else pixels[..., ::-1]


_Decode = Callable[[bytes, TileFormat], NDArray[Any]]
"""Decoder of stored data to pixels YX or YX + RGB. Raises DataError."""

_Check = Callable[[bytes, TileFormat], None]
"""Check of the header at the beginning of the data. Raises DataError."""


class Compression(NamedTuple):
    """A compression."""

    name: str
    """As a message names it."""
    decode: _Decode | None
    """Its decoder; None if the stored data are the pixels."""
    head_bytes: int = 0
    """Number of bytes of the stored data that `check` gets; 0 for none."""
    check: _Check = lambda data, tile: None
    """Checks the header in these before all data are read, then in all before they are decoded."""


_ZSTD_MAGIC = 0xFD2FB528.to_bytes(4, "little")
_HILO = b"\x03\x01"
"""Begins a zstd1 header of 3 bytes; the last one tells whether high and low bytes are split."""
_ZSTD1_HEADERS = {b"\x01": b"\x01", b"\x03": _HILO}
"""First bytes of a zstd1 header, by the first one, which is its length."""


def _check_zstd0(head: bytes, tile: TileFormat) -> None:
    if not head.startswith(_ZSTD_MAGIC):
        raise DataError("is not zstd data")
    if (size := _zstd_content_size(head)) not in (None, tile.nbytes):
        raise DataError(f"decodes to {size} bytes, not {tile.nbytes}")


def _check_zstd1(head: bytes, tile: TileFormat) -> None:
    expected = _ZSTD1_HEADERS.get(head[:1])
    if expected is None or not head.startswith(expected):
        raise DataError(f"has an unknown zstd header {head[:3]!r}")
    _check_zstd0(head[head[0] : 32], tile)


def _decode_zstd0(data: bytes, tile: TileFormat) -> NDArray[Any]:
    return tile.pixels(_decompress_zstd(memoryview(data), tile.nbytes))


def _decode_zstd1(data: bytes, tile: TileFormat) -> NDArray[Any]:
    stored = _decompress_zstd(memoryview(data)[data[0] :], tile.nbytes)
    if not (data.startswith(_HILO) and data[2] & 1):
        return tile.pixels(stored)
    # All low bytes of the 16-bit pixels come first, then all high bytes.
    low, high = stored.reshape(2, -1)
    joined = take_memory(tile.nbytes)
    pixels = joined.view("<u2")
    np.multiply(high, np.uint16(256), out=pixels)
    np.add(pixels, low, out=pixels)
    return tile.pixels(joined)


def _decompress_zstd(frame: memoryview, nbytes: int) -> NDArray[np.uint8]:
    out = take_memory(nbytes)
    try:
        # The stubs before imagecodecs 2026.10 accept bytes only; any buffer works.
        n = len(imagecodecs.zstd_decode(cast("bytes", frame), out=out.data))
    except imagecodecs.ZstdError as error:
        raise DataError(f"has zstd data that can't be decoded: {error}") from error
    if n != nbytes:
        raise DataError(f"decodes to {n} bytes, not {nbytes}")
    return out


def _zstd_content_size(frame: bytes) -> int | None:
    """Read the decoded size in a zstd frame's header (RFC 8878, 3.1.1.1), None if it has none."""
    if len(frame) < 6:
        return None
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def _decode_isolated(codec: str, data: bytes, tile: TileFormat, **options: Any) -> NDArray[Any]:
    try:
        return POOL.decompress(codec, data, tile.nbytes, **options)
    except ReaderError as error:
        raise DataError(f"can't be decoded: {error}") from error


def _decode_lzw(data: bytes, tile: TileFormat) -> NDArray[Any]:
    stored = _decode_isolated("lzw", data, tile, out=tile.nbytes)
    if len(stored) != tile.nbytes:
        raise DataError(f"decodes to {len(stored)} bytes, not {tile.nbytes}")
    return tile.pixels(stored)


def _check_jpeg(head: bytes, tile: TileFormat) -> None:
    """Check the frame header of a JPEG; it may lie beyond the head."""
    if not is_jpeg(head):
        raise DataError("is not JPEG data")
    for precision, height, width, components in islice(jpeg_frames(head), 1):
        if precision != 8 * tile.dtype.itemsize or components != tile.components:
            raise DataError(f"is a JPEG of {components} x {precision} bit")
        _check_size("JPEG", height, width, tile)


def _decode_image(codec: str, data: bytes, tile: TileFormat) -> NDArray[Any]:
    return _fitted(_decode_isolated(codec, data, tile), tile)


_IMAGE_TAG = 0xBCC0
"""Of the directory entry of a JPEG XR that is the offset of its image (ITU-T T.832, annex A)."""


def _check_jpegxr(head: bytes, tile: TileFormat) -> None:
    """Check the image header of a JPEG XR (T.832, 8.3); it may lie beyond the head."""
    if not head.startswith(b"II\xbc"):
        raise DataError("is not JPEG XR data")
    start = int.from_bytes(head[4:8], "little")
    nbytes = 12 * int.from_bytes(head[start : start + 2], "little")
    entries = head[start + 2 : start + 2 + nbytes]
    whole = entries[: len(entries) // 12 * 12]
    offsets = {tag: offset for tag, _, _, offset in struct.iter_unpack("<HHII", whole)}
    start = offsets.get(_IMAGE_TAG, len(head))
    image = head[start : start + 20]
    if len(image) == 20 and image.startswith(b"WMPHOTO"):
        width, height = struct.unpack_from(">HH" if image[10] & 0x80 else ">II", image, 12)
        _check_size("JPEG XR", height + 1, width + 1, tile)


def _check_size(name: str, height: int, width: int, tile: TileFormat) -> None:
    """Refuse an image much larger than its tile, before memory is allocated for it."""
    if not (0 < height <= 2 * tile.height and 0 < width <= 2 * tile.width):
        raise DataError(
            f"is a {name} of {width} x {height} px in a tile of {tile.width} x {tile.height}"
        )


def _fitted(image: NDArray[Any], tile: TileFormat) -> NDArray[Any]:
    """Return an image of the tile's size, cut or followed by zeros, as libCZI does.

    Some writers round the size of a tile at an edge up, and that of its image down.
    """
    if image.dtype != tile.dtype or image.shape[2:] != tile.shape[2:]:
        kinds = (f"{each.dtype.name} {each.shape[2:] or ''}".strip() for each in (image, tile))
        raise DataError("decodes to {}, not {}".format(*kinds))
    if image.shape == tile.shape:
        return image
    fitted = np.zeros(tile.shape, tile.dtype)
    both = tuple(slice(min(sizes)) for sizes in zip(image.shape, tile.shape, strict=True))
    fitted[both] = image[both]
    return fitted


UNCOMPRESSED, JPEG, LZW, JPEG_XR, ZSTD0, ZSTD1 = 0, 1, 2, 4, 5, 6
COMPRESSIONS = {
    UNCOMPRESSED: Compression("uncompressed", None),
    JPEG: Compression("JPEG", partial(_decode_image, "jpeg8"), 1024, _check_jpeg),
    LZW: Compression("LZW", _decode_lzw),
    JPEG_XR: Compression("JPEG XR", partial(_decode_image, "jpegxr"), 256, _check_jpegxr),
    ZSTD0: Compression("zstd0", _decode_zstd0, 32, _check_zstd0),
    ZSTD1: Compression("zstd1", _decode_zstd1, 32, _check_zstd1),
}
"""The compressions that can be read, by their number in the file."""
