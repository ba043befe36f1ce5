"""The OME-Zarr 0.5 that stitched images are written to: arrays, levels and metadata.

One image is a multiscale group; several are series "0", "1", ... in the layout of bioformats2raw.
yaozarrs' models make the metadata, zarr the groups and empty arrays. A job writes a shard whole, in
one step (see `patchset.sharding`): zarr would copy its pixels several times.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from yaozarrs import v05
from zarr.codecs import BloscCodec

from napari_patchset.patchset.files import write_file
from napari_patchset.patchset.sharding import CODECS, Codec, CodecName, encode_index
from napari_patchset.stacks.metadata import SAMPLE_COLORS, Channel, channel_colors
from napari_patchset.stitching.blending import Box
from napari_patchset.stitching.stitched_image import FrameBox, SourceRecord, StitchedImage

LABELS = "classes"
"""Name of the label image whose pixels are the channel with the highest prediction."""

_STRIP = 64
"""Rows of a coarser level that are made at once."""

_CLASS_TYPES = (np.uint8, np.uint16, np.uint32)

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Pyramid:
    """The arrays of an image, or of its label image: one for each level.

    Attributes
    ----------
    path : Path
        The group of the arrays.
    image : StitchedImage
        What they show.
    axes : str
        Axes of the arrays: those of the image; labels have no channels.
    dtype : str
        Type of the pixels.
    fill : float
        Value of the pixels that no patch covers.
    codec : {"none", "zstd", "lz4"}
        Compression.
    """

    path: Path
    image: StitchedImage
    axes: str
    dtype: str
    fill: float
    codec: CodecName

    def labels(self) -> "Pyramid":
        """Return the label image of the same size, whose pixels are the number of a channel."""
        last = len(self.image.channels) - 1
        dtype = next(t for t in _CLASS_TYPES if last <= np.iinfo(t).max).__name__
        axes, path = self.axes.replace("C", ""), self.path / "labels" / LABELS
        return Pyramid(path, self.image, axes, dtype, 0, self.codec)

    @property
    def nbytes(self) -> int:
        """Bytes of all levels, uncompressed."""
        shapes = (self.image.shape(level) for level in range(self.image.n_levels))
        pixels = sum(prod(self._in_own_axes(shape)) for shape in shapes)
        return pixels * np.dtype(self.dtype).itemsize

    def create_arrays(self) -> None:
        """Create the arrays, empty."""
        codec, compressor = CODECS[self.codec], None
        if codec is not None:
            compressor = BloscCodec(**codec.configuration(np.dtype(self.dtype)))
        for level in range(self.image.n_levels):
            zarr.create_array(
                self.path / str(level),
                shape=self._in_own_axes(self.image.shape(level)),
                chunks=self._in_own_axes(self.image.chunk_shape(level)),
                shards=self._in_own_axes(self.image.shard_shape(level)),
                dtype=self.dtype,
                compressors=compressor,
                fill_value=self.fill,
                dimension_names=list(self.axes.lower()),
                zarr_format=3,
            )

    def write_shard(self, level: int, shard: FrameBox, pixels: NDArray[Any]) -> None:
        """Write the pixels of a shard of a level: C, (Z), Y, X; of labels, C is 1.

        Its file is complete or absent, and survives a power cut. A shard, or a chunk, of nothing
        but the fill value is left out, as zarr does.
        """
        filling = np.full((), self.fill, self.dtype)
        if _is_filled(pixels, filling):
            return
        image, codec = self.image, CODECS[self.codec]
        index = map(str, self._in_own_axes(image.shard_index(level, shard)))
        data = image.in_axes(pixels)
        if "C" not in self.axes:
            data = data.take(0, image.axes.index("C"))
        chunk, extent = image.chunk_shape(level), image.shard_shape(level)
        chunks = _chunks_of(data, self._in_own_axes(chunk), self._in_own_axes(extent), filling)
        write_file(self.path.joinpath(str(level), "c", *index), _encode(chunks, codec))

    def _read_box(self, level: int, box: FrameBox) -> NDArray[Any]:
        """Read the pixels of a box of a level: C, (Z), Y, X."""
        axes = [axis for axis in self.axes if axis not in self.image.frame_axes]
        array = zarr.open_array(self.path / str(level), mode="r")
        data = np.asarray(array[self._in_own_axes(self.image.region(box))])
        if "C" not in axes:
            axes, data = ["C", *axes], data[np.newaxis]
        return data.transpose([axes.index(axis) for axis in f"C{self.image.spatial_axes}"])

    def read_halved(self, level: int, shard: FrameBox) -> NDArray[Any]:
        """Make the pixels of a shard of a level, C, (Z), Y, X, of those of the level before.

        These are four times as many: only rows that make one row of chunks are read at once.
        """
        box, step = shard.box, self.image.chunk_shape(level)[-2]
        n_channels = len(self.image.channels) if "C" in self.axes else 1
        halved = np.empty((n_channels, *box.shape), self.dtype)
        for top in range(box.start[-2], box.stop[-2], step):
            strip = box.rows(top, min(top + step, box.stop[-2]))
            finer = finer_box(self.image, level, FrameBox(shard.frame, strip))
            rows = slice(top - box.start[-2], strip.stop[-2] - box.start[-2])
            halved[..., rows, :] = halve(self._read_box(level - 1, finer))
        return halved

    def _in_own_axes(self, values: Sequence[_Value]) -> tuple[_Value, ...]:
        """Return those values along the axes of the image that are along axes of the arrays."""
        pairs = zip(self.image.axes, values, strict=True)
        return tuple(value for axis, value in pairs if axis in self.axes)


def pyramids(
    root: Path, images: Sequence[StitchedImage], fill: float, codec: CodecName
) -> list[Pyramid]:
    """Return the pyramids of the images of the OME-Zarr at `root`."""
    folders = [root] if len(images) == 1 else [root / str(i) for i in range(len(images))]
    return [
        Pyramid(folder, image, image.axes, image.dtype, fill, codec)
        for folder, image in zip(folders, images, strict=True)
    ]


def create(
    root: Path, images: Sequence[Pyramid], records: Sequence[SourceRecord], *, labels: bool
) -> None:
    """Create the groups and the empty arrays of all images, and of their label images.

    `records` are those of the sources.
    """
    if len(images) > 1:
        layout = v05.Bf2Raw.model_validate({"bioformats2raw.layout": 3})
        _create_group(root, _dump(layout))
        series = v05.Series(series=[image.path.name for image in images])
        _create_group(root / "OME", _dump(series))
    for pyramid in images:
        record = records[pyramid.image.source_index]
        _create_group(pyramid.path, _dump(v05.Image(multiscales=[_multiscale(pyramid, record)])))
        pyramid.create_arrays()
        if labels:
            classes = pyramid.labels()
            _create_group(classes.path.parent, _dump(v05.LabelsGroup(labels=[LABELS])))
            metadata = _dump(v05.Image(multiscales=[_multiscale(classes, record)]))
            # yaozarrs' model of a label drops what it does not know, such as its name.
            names = pyramid.image.channels
            properties = [{"label-value": i, "class": name} for i, name in enumerate(names)]
            metadata["image-label"] = {"properties": properties, "source": {"image": "../../"}}
            _create_group(classes.path, metadata)
            classes.create_arrays()


def add_display(pyramid: Pyramid, low: Sequence[float], high: Sequence[float]) -> None:
    """Add the channels' names and value ranges to the metadata of an image.

    Their colours are those that a source without colours is shown in: a patch set knows no others.
    """
    windows = [
        v05.OmeroWindow(start=a, min=a, end=b if b > a else a + 1, max=b if b > a else a + 1)
        for a, b in zip(low, high, strict=True)
    ]
    names = pyramid.image.channels
    colors = channel_colors([Channel(name, SAMPLE_COLORS.get(name)) for name in names])
    channels = [
        v05.OmeroChannel(window=window, label=name, color=color[1:].upper(), active=True)
        for name, color, window in zip(names, colors, windows, strict=True)
    ]
    attributes = zarr.open_group(pyramid.path, mode="r+").attrs
    metadata: Any = attributes["ome"]
    attributes["ome"] = {**metadata, "omero": _dump(v05.Omero(channels=channels))}


def _chunks_of(
    data: NDArray[Any], chunk: Sequence[int], shard: Sequence[int], filling: NDArray[Any]
) -> Iterator[NDArray[Any] | None]:
    """Yield the chunks of a shard in C order; None for one that has the fill value throughout."""
    steps = (range(0, end, step) for end, step in zip(shard, chunk, strict=True))
    for corner in product(*steps):
        part = data[tuple(slice(a, a + n) for a, n in zip(corner, chunk, strict=True))]
        if part.size == 0 or _is_filled(part, filling):
            yield None
        elif part.shape == tuple(chunk):
            yield part
        else:  # at the border of the image
            padded = np.full(chunk, filling)
            padded[tuple(map(slice, part.shape))] = part
            yield padded


def _encode(
    chunks: Iterable[NDArray[Any] | None], codec: Codec | None
) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the parts of a shard's file: its chunks, and its index."""
    lengths = []
    for chunk in chunks:
        if chunk is None:
            lengths.append(0)
            continue
        little = np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<"))
        part = little.reshape(-1).view(np.uint8).data if codec is None else codec.encode(little)
        lengths.append(len(part))
        yield part
    yield encode_index(lengths, len(lengths))


def _is_filled(pixels: NDArray[Any], filling: NDArray[Any]) -> bool:
    """Whether all pixels are the fill value, bit for bit: -0.0 is not 0, and NaN is NaN."""
    bits = np.dtype(f"u{pixels.itemsize}")
    first, wanted = pixels[(0,) * pixels.ndim].view(bits), filling.view(bits)
    return bool(first == wanted and (pixels.view(bits) == wanted).all())


def halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels at half the size along the last two axes, (n + 1) // 2.

    Floats are the mean of each 2 x 2 pixels, or of those that there are. Integers, which may be
    labels, are every second pixel.
    """
    if pixels.dtype.kind != "f":
        return pixels[..., ::2, ::2]
    *others, height, width = pixels.shape
    halved = np.empty((*others, -(-height // 2), -(-width // 2)), pixels.dtype)
    half = np.result_type(pixels, np.float32).type(0.5)  # halves are exact, and do not overflow
    for top in range(0, height, 2 * _STRIP):  # which stays in the processor's cache
        strip = pixels[..., top : top + 2 * _STRIP, :]
        rows, pairs = strip[..., ::2, :] * half, strip.shape[-2] // 2
        rows[..., :pairs, :] += strip[..., 1::2, :] * half
        rows[..., pairs:, :] *= 2  # the last row of an odd number
        columns, pairs = halved[..., top // 2 : top // 2 + _STRIP, :], width // 2
        np.multiply(rows[..., ::2], half, out=columns, casting="same_kind")
        columns[..., :pairs] += rows[..., 1::2] * half
        columns[..., pairs:] *= 2
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


def _multiscale(pyramid: Pyramid, record: SourceRecord) -> v05.Multiscale:
    """Describe the axes and levels of an image, in micrometres and seconds where they are known."""
    image, axes = pyramid.image, pyramid.axes
    size, rect = image.pixel_size, image.rect
    scales = {"T": record.time_step, "Z": size.z, "Y": size.y, "X": size.x}
    described: list[Any] = []
    for axis in axes:
        unit, name = bool(scales.get(axis)), axis.lower()
        if axis == "T":
            described.append(v05.TimeAxis(name=name, unit="second" if unit else None))
        elif axis == "C":
            described.append(v05.ChannelAxis(name=name))
        else:
            described.append(v05.SpaceAxis(name=name, unit="micrometer" if unit else None))
    origin = {axis: at for axis, at in record.translation.items() if scales[axis]}
    if rect is not None:
        origin |= {"Y": rect.y * (size.y or 1.0), "X": rect.x * (size.x or 1.0)}
    factor = dict(zip(image.spatial_axes, image.factor, strict=True))
    datasets = []
    for level in range(image.n_levels):
        scale, translation = [], []
        for axis in axes:
            pixel = scales.get(axis) or 1.0
            step = (2.0**level if axis in "YX" else 1.0) / factor.get(axis, 1)
            scale.append(pixel * step)
            # The centre of the first pixel, which is larger or smaller than the source's.
            translation.append(origin.get(axis, 0.0) + pixel * (step - 1) / 2)
        transformations: list[Any] = [v05.ScaleTransformation(scale=scale)]
        if any(translation):
            transformations.append(v05.TranslationTransformation(translation=translation))
        datasets.append(v05.Dataset(path=str(level), coordinateTransformations=transformations))
    name = f"{record.name} {image.suffix}".strip()
    return v05.Multiscale(name=name or None, axes=described, datasets=datasets)
