"""The OME-Zarr 0.5 that stitched images are written to: arrays, levels and metadata.

One image is a multiscale group; several are series "0", "1", ... in the layout of bioformats2raw.
yaozarrs' models make the metadata, zarr the groups and arrays. One job
writes a shard of an array.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from yaozarrs import v05
from zarr.codecs import BloscCodec

from napari_patchset.stitching.blending import Box
from napari_patchset.stitching.stitched_image import FrameBox, StitchedImage

LABELS = "classes"
"""Name of the label image whose pixels are the channel with the highest prediction."""

_COLORS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_STRIP = 64
"""Rows of a coarser level that are made at once."""

_CLASS_TYPES = (np.uint8, np.uint16, np.uint32)


def image_path(root: Path, images: Sequence[StitchedImage], number: int) -> Path:
    """Return the group of an image in the OME-Zarr at `root`."""
    return root if len(images) == 1 else root / str(number)


def labels_path(image: Path) -> Path:
    """Return the group of the label image that belongs to the image of a group."""
    return image / "labels" / LABELS


def class_type(n: int) -> np.dtype[Any]:
    """Return the smallest type that holds the classes 0 ... n - 1."""
    return np.dtype(next(t for t in _CLASS_TYPES if n - 1 <= np.iinfo(t).max))


def create(root: Path, images: Sequence[StitchedImage], *, labels: bool, fill: float) -> None:
    """Create the groups and the empty arrays of all images, and of their label images."""
    if len(images) > 1:
        layout = v05.Bf2Raw.model_validate({"bioformats2raw.layout": 3})
        _create_group(root, _dump(layout))
        series = v05.Series(series=[str(i) for i in range(len(images))])
        _create_group(root / "OME", _dump(series))
    for number, image in enumerate(images):
        path = image_path(root, images, number)
        _create_group(path, _dump(v05.Image(multiscales=[_multiscale(image, image.axes)])))
        for level in range(image.n_levels):
            _create_array(path / str(level), image, level, image.dtype, image.axes, fill)
        if labels:
            _create_group(path / "labels", _dump(v05.LabelsGroup(labels=[LABELS])))
            axes = image.axes.replace("C", "")
            metadata = _dump(v05.Image(multiscales=[_multiscale(image, axes)]))
            # yaozarrs' model of a label drops what it does not know, such as its name.
            classes = [{"label-value": i, "class": name} for i, name in enumerate(image.channels)]
            metadata["image-label"] = {"properties": classes, "source": {"image": "../../"}}
            _create_group(labels_path(path), metadata)
            dtype = class_type(len(image.channels)).name
            for level in range(image.n_levels):
                _create_array(labels_path(path) / str(level), image, level, dtype, axes, 0)


def add_display(
    path: Path, image: StitchedImage, low: Sequence[float], high: Sequence[float]
) -> None:
    """Add the channels' names and value ranges to the metadata of an image."""
    windows = [
        v05.OmeroWindow(start=a, min=a, end=b if b > a else a + 1, max=b if b > a else a + 1)
        for a, b in zip(low, high, strict=True)
    ]
    colors = _COLORS if len(windows) > 1 else ("FFFFFF",)
    channels = [
        v05.OmeroChannel(window=window, label=name, color=colors[i % len(colors)], active=True)
        for i, (name, window) in enumerate(zip(image.channels, windows, strict=True))
    ]
    metadata = v05.Image(
        multiscales=[_multiscale(image, image.axes)], omero=v05.Omero(channels=channels)
    )
    zarr.open_group(path, mode="r+").attrs["ome"] = _dump(metadata)


def write_shard(
    path: Path, image: StitchedImage, level: int, shard: FrameBox, pixels: NDArray[Any]
) -> None:
    """Write the pixels C, (Z), Y, X of a shard into the image, or label image, of a group."""
    array = zarr.open_array(path / str(level), mode="r+")
    axes = "".join(axis for axis in image.axes if axis not in image.frame_axes)
    data = pixels.transpose([f"C{image.spatial_axes}".index(axis) for axis in axes])
    is_labels = array.ndim < len(image.axes)  # which have no channel
    if is_labels:
        array[image.region(shard, without_channels=True)] = data.take(0, axes.index("C"))
    else:
        array[image.region(shard)] = data
    _sync_shard(path / str(level), array, image.region(shard, without_channels=is_labels))


def _sync_shard(path: Path, array: "zarr.Array[Any]", region: tuple[int | slice, ...]) -> None:
    """Make the shard of a region survive a power cut; one of nothing but fill has no file."""
    starts = [i if isinstance(i, int) else i.start or 0 for i in region]
    shards = array.shards or array.chunks
    number = [str(start // size) for start, size in zip(starts, shards, strict=True)]
    with suppress(FileNotFoundError), path.joinpath("c", *number).open("r+b") as file:
        os.fsync(file.fileno())


def read_shard(path: Path, image: StitchedImage, level: int, shard: FrameBox) -> NDArray[Any]:
    """Read what `write_shard` writes: C, (Z), Y, X."""
    array = zarr.open_array(path / str(level), mode="r")
    axes = "".join(axis for axis in image.axes if axis not in image.frame_axes)
    if array.ndim < len(image.axes):
        data = np.asarray(array[image.region(shard, without_channels=True)])
        data = np.expand_dims(data, axes.index("C"))
    else:
        data = np.asarray(array[image.region(shard)])
    return data.transpose([axes.index(axis) for axis in f"C{image.spatial_axes}"])


def halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels at half the size along the last two axes, (n + 1) // 2.

    Floats are the mean of each 2 x 2 pixels, or of those that there are. Integers, which may be
    labels, are every second pixel.
    """
    if pixels.dtype.kind != "f":
        return pixels[..., ::2, ::2]
    *others, height, width = pixels.shape
    halved = np.empty((*others, -(-height // 2), -(-width // 2)), pixels.dtype)
    for top in range(0, height, 2 * _STRIP):  # in double precision, a strip at a time
        strip = pixels[..., top : top + 2 * _STRIP, :].astype(np.float64)
        rows = strip[..., ::2, :].copy()
        rows[..., : strip.shape[-2] // 2, :] += strip[..., 1::2, :]
        rows[..., : strip.shape[-2] // 2, :] /= 2
        columns = rows[..., ::2].copy()
        columns[..., : width // 2] += rows[..., 1::2]
        columns[..., : width // 2] /= 2
        halved[..., top // 2 : top // 2 + _STRIP, :] = columns
    return halved


def finer_box(image: StitchedImage, level: int, shard: FrameBox) -> FrameBox:
    """Return the box of the next finer level that a shard shows."""
    shape = image.spatial_shape(level - 1)
    start = (*shard.box.start[:-2], *(2 * a for a in shard.box.start[-2:]))
    ends = (*shard.box.stop[:-2], *(2 * b for b in shard.box.stop[-2:]))
    return FrameBox(shard.frame, Box(start, tuple(map(min, ends, shape))))


def _create_group(path: Path, metadata: dict[str, Any]) -> None:
    zarr.create_group(path, zarr_format=3, attributes={"ome": metadata})


def _dump(metadata: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _create_array(
    path: Path, image: StitchedImage, level: int, dtype: str, axes: str, fill: float
) -> None:
    def along(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n for axis, n in zip(image.axes, sizes, strict=True) if axis in axes)

    zarr.create_array(
        path,
        shape=along(image.shape(level)),
        chunks=along(image.chunk_shape(level)),
        shards=along(image.shard_shape(level)),
        dtype=dtype,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        fill_value=fill,
        dimension_names=list(axes.lower()),
        zarr_format=3,
    )


def _multiscale(image: StitchedImage, axes: str) -> v05.Multiscale:
    """Describe the axes and levels of an image, in micrometres where they are known."""
    kinds = {"T": v05.TimeAxis, "C": v05.ChannelAxis}
    sizes = image.source.pixel_size.model_dump()
    known = {axis: size for axis in axes if (size := sizes.get(axis.lower())) is not None}
    described = [
        kinds[axis](name=axis.lower())
        if axis in kinds
        else v05.SpaceAxis(name=axis.lower(), unit="micrometer" if axis in known else None)
        for axis in axes
    ]
    factor = dict(zip(image.spatial_axes, image.factor, strict=True))
    rect = image.source.rect
    corner = {} if rect is None else {"Y": rect.y, "X": rect.x}
    datasets = []
    for level in range(image.n_levels):
        scale, translation = [], []
        for axis in axes:
            pixel = known.get(axis, 1.0)
            step = (2.0**level if axis in "YX" else 1.0) / factor.get(axis, 1)
            scale.append(pixel * step)
            # The centre of the first pixel, which is larger or smaller than the source's.
            translation.append(pixel * (corner.get(axis, 0) + (step - 1) / 2))
        transformations: list[Any] = [v05.ScaleTransformation(scale=scale)]
        if any(translation):
            transformations.append(v05.TranslationTransformation(translation=translation))
        datasets.append(v05.Dataset(path=str(level), coordinateTransformations=transformations))
    return v05.Multiscale(name=image.name or None, axes=described, datasets=datasets)
