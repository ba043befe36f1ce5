"""Decode one tile or strip of a page, in this process or, where that is not safe, in a helper."""

from base64 import b64encode
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.contained.pool import POOL
from napari_patchset.stacks.tiff.check import REMEDY
from napari_patchset.stacks.tiff.jpeg import check_jpeg_size, is_plain_jpeg
from napari_patchset.stacks.tiff.pages import PageKind

Decode = Callable[..., tuple[Any, ...]]


def load_decoder(kind: PageKind) -> Decode:
    """Make a page's decoder, which keeps no file open, from its directory alone."""
    with TiffFile(kind.path) as file:
        file.filehandle.seek(kind.offset)
        page = TiffPage(file, kind.index)
        header = {"jpegheader": page.jpegheader} if kind.is_jpeg else {}
        return partial(page.decode, **header)


def decode_segment(
    decoder: Decode, data: bytes, index: int, kind: PageKind, where: str, options: dict[str, Any]
) -> NDArray[Any]:
    """Decode a segment, ZYXS; what damaged data may kill does it in a process of its own.

    Raises
    ------
    UnreadableFileError
        If it can't be decoded to pixels of the page's type, saying where.
    """
    try:
        if kind.is_jpeg:
            check_jpeg_size(data, kind.tile[1:])
        pixels: NDArray[Any]
        if kind.is_fragile or (kind.is_jpeg and not _is_plain(decoder, data, kind, options)):
            pixels = _decode_contained(data, index, kind, options)
        else:
            pixels = decoder(data, index, **options)[0]
    # The codecs raise what they like, and each has a class of its own.
    except Exception as error:
        raise UnreadableFileError(f"{where}: can't be decoded: {error}. {REMEDY}") from error
    if pixels.shape[-1] != kind.shape[4]:
        raise UnreadableFileError(
            f"{where}: decodes to {pixels.shape[-1]} samples a pixel, but the page declares "
            f"{kind.shape[4]}. {REMEDY}"
        )
    if pixels.dtype.char != kind.dtype.char:
        raise UnreadableFileError(
            f"{where}: decodes to {pixels.dtype}, but the page declares {kind.dtype.name}. {REMEDY}"
        )
    return pixels


def _is_plain(decoder: Decode, data: bytes, kind: PageKind, options: dict[str, Any]) -> bool:
    header = getattr(decoder, "keywords", {}).get("jpegheader") or b""
    return is_plain_jpeg(header + data, options.get("jpegtables"), kind.shape[4])


def _decode_contained(
    data: bytes, index: int, kind: PageKind, options: dict[str, Any]
) -> NDArray[Any]:
    tables = options.get("jpegtables")
    page = {"path": str(kind.path), "offset": kind.offset, "index": kind.index, "segment": index}
    encoded = b64encode(tables).decode() if tables else None
    n_bytes = prod(kind.tile) * kind.shape[4] * kind.dtype.itemsize
    return POOL.decode(data, n_bytes, tables=encoded, **page)
