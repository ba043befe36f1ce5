"""Small sound files in every way of storing pixels: what the mutants are made of."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.czi_maker import (
    Block,
    SceneSpec,
    blocks_of,
    jpeg,
    jpegxr,
    jpegxr_rgb,
    lzw,
    make_czi,
    metadata_xml,
    write_blocks,
)
from support.pixels import encode

LARGEST_REAL = 2 * 2**20
"""Bytes of a real file above which it is left out: each mutant is a copy."""

_SIZE = (48, 64)

Make = Callable[[Path], Any]


def write_originals(folder: Path, only: str = "") -> list[Path]:
    """Write the originals whose name contains a text into a folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in (*_czis(), *_tiffs(), *_zarrs()):
        if only not in name:
            continue
        path = folder / name
        if not path.exists():
            make(path)
        paths.append(path)
    return paths


def real_files(data: Path) -> list[Path]:
    """Find the real files that are small enough to be mutated."""
    files = [p for kind in ("czi", "czi_synth", "tiff") for p in (data / kind).iterdir()]
    stores = [p for kind in ("zarr", "derived") for p in (data / kind).iterdir()]
    known = [p for p in (*files, *stores) if p.suffix in (".czi", ".tif", ".tiff", ".zarr")]
    return sorted(path for path in known if _bytes(path) <= LARGEST_REAL)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def pixels(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    """Return pixels that encode their position, the last two axes Y and X."""
    *outer, height, width = shape
    rows, columns = np.arange(height)[:, None], np.arange(width)
    planes = [encode(rows, columns, dtype, T=int(i)) for i in range(int(np.prod(outer)))]
    return np.stack(planes).reshape(shape)


_MOSAIC = (
    SceneSpec(id=0, rect=(-30, 10, 64, 48), t=2, z=2, c=2),
    SceneSpec(id=3, rect=(100, 0, 48, 64), c=2, missing=({"C": 1},)),
)


def _czis() -> Iterator[tuple[str, Make]]:
    xml = metadata_xml({"X": 1e-7, "Y": 1e-7}, {"Channel:0": "DAPI", "Channel:1": "EGFP"})
    options = {"zstd0": "zstd0:ExplicitLevel=1", "zstd1": "zstd1:ExplicitLevel=1"}
    options |= {
        "hilo": "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack",
        "libczi": "uncompressed:",
    }
    yield "raw.czi", lambda path: make_czi(path, _MOSAIC, (24, 32), xml)
    for name, text in options.items():
        yield f"{name}.czi", lambda path, text=text: make_czi(path, _MOSAIC, (24, 32), None, text)
    for kind in (
        *("Gray8", "Gray32", "Gray32Float", "Gray64Float"),
        *("Bgr24", "Bgr48", "Bgr96Float"),
    ):
        scenes = (SceneSpec(kind=kind, overlap=8),)
        yield f"raw-{kind}.czi", lambda path, s=scenes: make_czi(path, s, (24, 32), xml)
    for name, pack in {"raw": None, "zstd": _zstd, "jpegxr": jpegxr}.items():
        yield f"pyramid-{name}.czi", lambda path, pack=pack: _packed(path, pack, pyramid=True)
    for kind in ("Gray8", "Gray16", "Gray32Float", "Bgr24", "Bgr48"):
        yield f"jpegxr-{kind}.czi", lambda path, kind=kind: _packed(path, jpegxr, kind=kind)
    yield "jpegxr-rgb.czi", lambda path: _packed(path, jpegxr_rgb, kind="Bgr24")
    for kind in ("Gray8", "Bgr24"):
        yield f"jpeg-{kind}.czi", lambda path, kind=kind: _packed(path, jpeg, kind=kind)
    for kind in ("Gray16", "Bgr24", "Gray64Float"):
        yield f"lzw-{kind}.czi", lambda path, kind=kind: _packed(path, lzw, kind=kind)


def _packed(path: Path, pack: Callable[[Block], Block] | None, **scene: Any) -> None:
    blocks = blocks_of((SceneSpec(c=2, overlap=8, **scene),), (24, 32))
    write_blocks(path, [pack(block) if pack else block for block in blocks], metadata_xml())


def _zstd(block: Block) -> Block:
    return replace(block, data=imagecodecs.zstd_encode(block.stored, level=1), compression=5)


def _tiffs() -> Iterator[tuple[str, Make]]:
    grey, rgb = pixels(2, 2, *_SIZE), np.moveaxis(pixels(3, *_SIZE, dtype=np.uint8), 0, -1).copy()
    ome: dict[str, Any] = {"metadata": {"axes": "TCYX"}}
    ways: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
        "raw.ome.tif": (grey, ome),
        "raw-strips.tif": (grey[0], {"rowsperstrip": 7}),
        "raw-tiles.tif": (grey[0], {"tile": (16, 32)}),
        "big.tif": (grey[0], {"bigtiff": True, "tile": (16, 32), "compression": "zstd"}),
        "imagej.tif": (grey, {"imagej": True, "metadata": {"axes": "TCYX"}}),
        "bits.tif": (grey[0] % 2 == 0, {"photometric": "minisblack"}),
        "float.tif": (grey[0].astype(np.float32), {"compression": "zlib", "predictor": True}),
        "planar.tif": (pixels(3, *_SIZE), {"photometric": "rgb", "planarconfig": "separate"}),
    }
    for codec in ("lzw", "zlib", "zstd", "packbits", "lzma"):
        options = {"compression": codec, "tile": (16, 32), "byteorder": ">", **ome}
        ways[f"{codec}.ome.tif"] = (grey, options)
        ways[f"{codec}-strips.tif"] = (grey[0], {"compression": codec, "rowsperstrip": 16})
    for codec in ("jpeg", "jpeg2000", "webp", "jpegxl", "jpegxr", "png", "lerc"):
        data = grey[0] if codec in ("lerc", "jpegxr") else rgb
        options = {} if codec in ("lerc", "jpegxr") else {"photometric": "rgb"}
        ways[f"{codec}.tif"] = (data, {"compression": codec, "tile": (16, 32), **options})
    lossless = {"lossless": True, "bitspersample": 12}
    options = {"compression": "jpeg", "compressionargs": lossless, "tile": (16, 32)}
    ways["jpeg-lossless.tif"] = (grey[0, 0] % 4096, options)
    for name, (data, options) in ways.items():
        yield name, lambda path, d=data, o=options: tifffile.imwrite(path, d, **o)
    yield "pyramid.ome.tif", _write_pyramid
    yield "series.ome.tif", _write_series


def _write_pyramid(path: Path) -> None:
    data, options = pixels(2, 2, 64, 96), {"tile": (16, 16), "compression": "zlib"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(data, subifds=2, metadata={"axes": "ZCYX"}, **options)
        for step in (2, 4):
            writer.write(data[..., ::step, ::step], subfiletype=1, **options)


def _write_series(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels(2, 2, *_SIZE), metadata={"axes": "TCYX", "Name": "left"})
        writer.write(pixels(3, 32, 40), metadata={"axes": "ZYX", "Name": "right"})


def _zarrs() -> Iterator[tuple[str, Make]]:
    v2, sharded = {"zarr_format": 2, "chunks": (1, 16, 32)}, {"shards": (2, 32, 64)}
    ways: dict[str, dict[str, Any]] = {
        "v2": v2,
        "v2-raw": {**v2, "compressors": None},
        "v3": {"compressors": ZstdCodec()},
        "v3-raw": {"compressors": None},
        "v3-gzip": {"compressors": GzipCodec()},
        "v3-blosc": {"compressors": BloscCodec(cname="lz4")},
        "v3-crc": {"compressors": Crc32cCodec()},
        "v3-big": {"serializer": BytesCodec(endian="big"), "compressors": None},
        "v3-transposed": {"filters": TransposeCodec(order=(2, 0, 1))},
        "sharded": {**sharded, "compressors": None},
        "sharded-zstd": {**sharded, "compressors": ZstdCodec()},
        "sharded-blosc": {**sharded, "compressors": BloscCodec()},
    }
    for name, codec in {"lz4": "LZ4", "gzip": "GZip", "bz2": "BZ2", "lzma": "LZMA"}.items():
        ways[f"v2-{name}"] = {**v2, "compressors": _numcodec(codec)}
    for name, options in ways.items():
        yield f"{name}.zarr", lambda path, o=options: write_array(path, pixels(3, *_SIZE), **o)
    for version in ("0.4", "0.5"):
        yield f"ome-{version}.zarr", lambda path, v=version: write_ome(path, v)
        yield f"plate-{version}.zarr", lambda path, v=version: _write_plate(path, v)


def _numcodec(name: str) -> Any:
    import numcodecs

    return getattr(numcodecs, name)()


def write_array(path: Path, data: NDArray[Any], **options: Any) -> None:
    """Write one array, three chunks or more."""
    chosen = {"chunks": (1, 16, 32), **options}
    array = zarr.create_array(path, shape=data.shape, dtype=data.dtype, **chosen)
    array[...] = data


def write_ome(path: Path, version: str, shape: tuple[int, ...] = (2, *_SIZE)) -> None:
    """Write an OME-Zarr image CYX of two levels, and a label image."""
    _write_multiscale(path, version, pixels(*shape))
    label = pixels(*shape)[0:1] % 3
    _write_group(path / "labels", version, {"labels": ["cells"]})
    _write_multiscale(path / "labels" / "cells", version, label, {"image-label": {}})


def _write_multiscale(
    path: Path, version: str, data: NDArray[Any], more: dict[str, Any] | None = None
) -> None:
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [1, s, s]}]}
        for i, s in enumerate((1.0, 2.0))
    ]
    described = {"version": version, "axes": axes, "datasets": datasets}
    _write_group(path, version, {"multiscales": [described], **(more or {})})
    chunks = {"zarr_format": 2 if version == "0.4" else 3, "chunks": (1, 16, 32)}
    for i, step in enumerate((1, 2)):
        write_array(path / str(i), data[:, ::step, ::step], **chunks)


def _write_group(path: Path, version: str, attributes: dict[str, Any]) -> None:
    is_v2 = version == "0.4"
    group = zarr.open_group(path, mode="a", zarr_format=2 if is_v2 else 3)
    group.attrs.update(attributes if is_v2 else {"ome": {"version": version, **attributes}})


def _write_plate(path: Path, version: str) -> None:
    wells = [{"path": f"A/{i + 1}", "rowIndex": 0, "columnIndex": i} for i in range(2)]
    named = {"rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}], "wells": wells}
    _write_group(path, version, {"plate": {"version": version, **named}})
    for well in wells:
        folder = path / str(well["path"])
        _write_group(folder, version, {"well": {"images": [{"path": "0"}]}})
        _write_multiscale(folder / "0", version, pixels(2, 32, 40))
