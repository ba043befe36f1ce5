"""The headers of a JPEG: how large it is, and which decoder takes it (ITU-T T.81, B.2)."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

_SOI, _SOF, _DHT, _SOS = b"\xff\xd8", range(0xC0, 0xD0), 0xC4, 0xDA
_NO_SOF = (0xC4, 0xC8, 0xCC)
_BASELINE = (0xC0, 0xC1, 0xC2)
_LATER_TABLES = re.compile(rb"\xff[\xc0-\xcf]")
_MAX_CODES = 256


class JpegFrame(NamedTuple):
    """The frame header: bits of a sample, size in pixels, number of components."""

    precision: int
    height: int
    width: int
    components: int


def is_jpeg(data: bytes) -> bool:
    """Return whether data begin as a JPEG does."""
    return data.startswith(_SOI)


def jpeg_frames(data: bytes) -> Iterator[JpegFrame]:
    """Yield the frame headers, of which there should be one, as far as the data go."""
    for marker, body, _ in _segments(data):
        if marker in _SOF and marker not in _NO_SOF and len(body) >= 6:
            yield JpegFrame(*struct.unpack_from(">BHHB", body))


def is_plain_jpeg(data: bytes, tables: bytes | None, samples: int) -> bool:
    """Return whether libjpeg decodes a JPEG, and imagecodecs does not fall back to ljpeg.

    No content of the pixels can crash libjpeg; ljpeg, for lossless JPEG, can be crashed. `tables`
    are a page's, common to all of its tiles; `samples` is how many each pixel should have.
    """
    if tables and not all(_is_sound(*segment[:2], samples) for segment in _segments(tables)):
        return False
    segments = list(_segments(data))
    if not all(_is_sound(marker, body, samples) for marker, body, _ in segments):
        return False
    n_sizes = sum(marker in _BASELINE for marker, _, _ in segments)
    has_pixels = bool(segments) and segments[-1][0] == _SOS
    return has_pixels and n_sizes == 1 and not _LATER_TABLES.search(data, segments[-1][2])


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each segment up to the pixels: its marker, its content, and where it ends."""
    start = len(_SOI)
    while data.startswith(_SOI) and start + 4 <= len(data) and data[start] == 0xFF:
        marker, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        end = start + 2 + length
        yield marker, data[start + 4 : end], end
        if marker == _SOS:
            return
        start = end


def _is_sound(marker: int, body: bytes, samples: int) -> bool:
    if marker == _DHT:
        return _are_sound_tables(body)
    if marker in _SOF:
        return marker in _BASELINE and body[:1] == b"\x08" and body[5:6] == bytes([samples])
    return True


def _are_sound_tables(body: bytes) -> bool:
    """Return whether every Huffman table of a segment is complete, with no impossible codes."""
    while body:
        counts = body[1:17]
        n = sum(counts)
        codes_used = sum(count << (16 - length) for length, count in enumerate(counts, 1))
        is_dc = body[0] < 16
        symbols = body[17 : 17 + n]
        if len(symbols) < n or n > _MAX_CODES or codes_used > 1 << 16 or body[0] & 0x0F > 3:
            return False
        if body[0] > 0x13 or (is_dc and max(symbols, default=0) > 15):
            return False
        body = body[17 + n :]
    return True
