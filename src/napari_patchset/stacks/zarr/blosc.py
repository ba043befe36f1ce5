"""Blosc that looks before it decodes: else it reads as far as its data say they go."""

import struct
from dataclasses import replace
from functools import cached_property
from typing import Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec, ShardingCodec

_HEADER = 16
_STORED = struct.Struct("<12xI")


class CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]  # it has no types
    """Blosc of zarr v2, which refuses data that are shorter than they declare."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk.

        Raises
        ------
        ValueError
            If it ends before the length in its header.
        """
        data = memoryview(buf).cast("B")
        stored = _STORED.unpack_from(data)[0] if len(data) >= _HEADER else _HEADER
        if not _HEADER <= stored <= len(data):
            raise ValueError(f"it holds {len(data)} of {stored} bytes")
        return super().decode(buf, out)


class CheckedBloscCodec(BloscCodec):
    """The same of zarr v3."""

    @cached_property
    def _blosc_codec(self) -> Any:
        return _checked_v2(super()._blosc_codec)


def with_checked_codecs(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Give the same array, which decodes its chunks with `CheckedBlosc` where it has Blosc."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        checked = replace(metadata, compressor=_checked_v2(metadata.compressor))
    else:
        checked = replace(metadata, codecs=tuple(map(_checked, metadata.codecs)))
    inner = array.async_array
    return zarr.Array(type(inner)(checked, inner.store_path, inner.config))


def _checked_v2(codec: Any) -> Any:
    if isinstance(codec, numcodecs.Blosc):
        return CheckedBlosc(**{k: v for k, v in codec.get_config().items() if k != "id"})
    return codec


def _checked(codec: Any) -> Any:
    if isinstance(codec, BloscCodec):
        return CheckedBloscCodec.from_dict(codec.to_dict())
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_checked, codec.codecs)))
    return codec
