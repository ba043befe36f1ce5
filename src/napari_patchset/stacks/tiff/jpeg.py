"""Look at a JPEG's header before a decoder does."""

import re
import struct
from collections.abc import Iterator

_SOI, _SOF, _DHT, _SOS = 0xD8, range(0xC0, 0xD0), 0xC4, 0xDA
_NO_SOF = (0xC4, 0xC8, 0xCC)
_BASELINE = (0xC0, 0xC1, 0xC2)
_LATER_TABLES = re.compile(rb"\xff[\xc0-\xcf]")
_MOST_CODES = 256


def check_jpeg_size(data: bytes, tile: tuple[int, int]) -> None:
    """Refuse a JPEG much larger than the tile that it is stored as, before memory is taken for it.

    Raises
    ------
    ValueError
        If its header declares more than twice the tile's height or width.
    """
    for marker, body, _ in _segments(data):
        if marker in _SOF and marker not in _NO_SOF and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            if height > 2 * tile[0] or width > 2 * tile[1]:
                raise ValueError(f"its JPEG is of {width} x {height} px")


def is_plain_jpeg(data: bytes, tables: bytes | None, samples: int) -> bool:
    """Tell an ordinary JPEG, which libjpeg decodes, from all that imagecodecs may try ljpeg on.

    libjpeg lives with whatever the pixels hold; ljpeg, for lossless JPEG, does not.

    Parameters
    ----------
    tables : bytes or None
        What the page brings along for all of its tiles.
    samples : int
        How many each pixel should have.
    """
    if tables and not all(_is_sound(*segment[:2], samples) for segment in _segments(tables)):
        return False
    found = list(_segments(data))
    if not all(_is_sound(marker, body, samples) for marker, body, _ in found):
        return False
    n_sizes = sum(marker in _BASELINE for marker, _, _ in found)
    has_pixels = bool(found) and found[-1][0] == _SOS
    return has_pixels and n_sizes == 1 and not _LATER_TABLES.search(data, found[-1][2])


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Give each segment up to the pixels: its marker, what it holds, and where it ends."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length], at + 2 + length
        if marker == _SOS:
            return
        at += 2 + length


def _is_sound(marker: int, body: bytes, samples: int) -> bool:
    if marker == _DHT:
        return _are_sound_codes(body)
    if marker in _SOF:
        return marker in _BASELINE and body[:1] == b"\x08" and body[5:6] == bytes([samples])
    return True


def _are_sound_codes(body: bytes) -> bool:
    """Tell whether every Huffman table of a segment is one: no more codes than there can be."""
    while body:
        counts = body[1:17]
        n = sum(counts)
        room = sum(count << (16 - length) for length, count in enumerate(counts, 1))
        is_dc = body[0] < 16
        symbols = body[17 : 17 + n]
        if len(symbols) < n or n > _MOST_CODES or room > 1 << 16 or body[0] & 0x0F > 3:
            return False
        if body[0] > 0x13 or (is_dc and max(symbols, default=0) > 15):
            return False
        body = body[17 + n :]
    return True
