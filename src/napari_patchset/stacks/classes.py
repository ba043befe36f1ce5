"""The classes of a source's pixels as images of its geometry: a channel for each class.

They come from annotations, or from a labels image whose values have names. `ClassLabelStack` is the
same as one channel, in which each class has a value.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.annotations.features import AnnotationClass, Annotations
from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError
from napari_patchset.source import Rect, SourceInfo
from napari_patchset.stacks.metadata import Channel, ImageMetadata, LabelValues
from napari_patchset.stacks.protocol import BoundedStack, ClosableStack, read_plane


class ClassStack(BoundedStack, ABC):
    """The pixels of each class: a channel of 0 and 1, of the geometry of a source.

    It is a `ClassMasks`. `source` names its origin, `key` is that of its content.
    """

    data_dtype = np.dtype(np.uint8)

    def __init__(
        self, image: SourceInfo, classes: Sequence[AnnotationClass], source: str, key: str
    ) -> None:
        self.image, self.classes, self.source, self._key = image, tuple(classes), source, key
        self.scene, self.starts, self.block_shape = image.scene, image.starts, image.block_shape
        self.axes = image.layout.stack_axes
        n_samples, _, *spatial = image.layout.stack_shape
        self.data_shape = [n_samples, len(classes), *spatial]
        self.original_axes = "C" + image.axes.replace("C", "")
        sizes = image.layout.sizes | {"C": len(classes)}
        self.original_data_shape = tuple(sizes[axis] for axis in self.original_axes)
        self.class_names = tuple(each.name for each in classes)
        colors = (each.color and "#{:02x}{:02x}{:02x}".format(*each.color) for each in classes)
        self.metadata = ImageMetadata(
            tuple(map(Channel, self.class_names, colors)), image.pixel_size
        )

    @property
    def is_flat(self) -> bool:
        """Whether they are the same in every plane."""
        return False

    def fingerprint(self) -> str:
        """Return the key of the content."""
        return self._key

    @abstractmethod
    def class_bounds(self, classes: Collection[str]) -> Rect:
        """See `ClassMasks`."""

    @abstractmethod
    def class_mask(
        self, window: Rect, classes: Collection[str], sample: int = 0, depth: int = 0
    ) -> BoolArray:
        """See `ClassMasks`."""

    @abstractmethod
    def class_labels(
        self, window: Rect, values: Mapping[str, int], sample: int = 0, depth: int = 0
    ) -> NDArray[Any]:
        """Return the value of the class of each pixel YX of a window, 0 where there is none."""

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        *depth, y, x = start
        window, names = Rect(x, y, out.shape[-1], out.shape[-2]), self.class_names
        for row, channel in enumerate(channels):
            for z, plane in enumerate(out[row] if depth else [out[row]], *depth):
                plane[...] = self.class_mask(window, [names[channel]], sample_idx, z)


class AnnotationStack(ClassStack):
    """The classes of annotations, which are in full-resolution pixels also of a resampled source.

    `classes` may be more than these annotations have; None for theirs.
    """

    def __init__(
        self,
        annotations: Annotations,
        image: SourceInfo,
        classes: Sequence[AnnotationClass] | None = None,
        source: str = "annotations",
    ) -> None:
        classes = annotations.classes if classes is None else classes
        super().__init__(image, classes, source, annotations.key)
        self.annotations = annotations

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the annotations was left out or mended, or does not lie in the image."""
        sizes, (tall, wide) = self.image.layout.sizes, self.image.ratio or (1, 1)
        height, width = ceil(sizes["Y"] * tall), ceil(sizes["X"] * wide)
        outside = self.annotations.outside(width, height, sizes.get("Z", 1), sizes.get("T", 1))
        return (*self.annotations.notes, *outside)

    @property
    def is_flat(self) -> bool:
        """Whether they are the same in every plane."""
        return self.annotations.is_flat

    def class_bounds(self, classes: Collection[str]) -> Rect:  # noqa: D102, on ClassStack
        x, y, w, h = self.annotations.extent(classes)
        tall, wide = self.image.ratio or (1, 1)
        left, top, right, bottom = x // wide, y // tall, -(-(x + w) // wide), -(-(y + h) // tall)
        return Rect(int(left), int(top), int(right - left), int(bottom - top))

    def class_mask(  # noqa: D102, on ClassStack
        self, window: Rect, classes: Collection[str], sample: int = 0, depth: int = 0
    ) -> BoolArray:
        z, t = self.image.plane_indices(sample, depth)
        return self.annotations.mask(window, classes, z=z, t=t, ratio=self.image.ratio)

    def class_labels(  # noqa: D102, on ClassStack
        self, window: Rect, values: Mapping[str, int], sample: int = 0, depth: int = 0
    ) -> NDArray[Any]:
        z, t = self.image.plane_indices(sample, depth)
        return self.annotations.labels(window, values, z=z, t=t, ratio=self.image.ratio)


class NamedLabelStack(ClassStack):
    """The classes of a labels image, which is closed with this stack.

    `values` has the value of each class; `classes` may be more than these, None for them.

    Raises
    ------
    ArgumentError
        If the labels have several channels, or another geometry than the source.
    """

    def __init__(
        self,
        labels: ClosableStack,
        image: SourceInfo,
        values: Mapping[str, int],
        classes: Sequence[AnnotationClass] | None = None,
        key: str = "",
    ) -> None:
        expected = [image.n_samples, 1, *image.spatial_shape]
        if list(labels.data_shape) != expected:
            raise ArgumentError(
                f"{labels.source} is {_shape_text(labels.data_shape)}, but labels of "
                f"{image.name} are {_shape_text(expected)}, with one channel."
            )
        if classes is None:
            classes = [AnnotationClass(name=name) for name in values]
        super().__init__(image, classes, str(labels.source), key)
        self._labels, self._values = labels, values

    def class_bounds(self, classes: Collection[str]) -> Rect:  # noqa: D102, on ClassStack
        height, width = self.data_shape[-2:]
        return Rect(0, 0, width, height)

    def class_mask(  # noqa: D102, on ClassStack
        self, window: Rect, classes: Collection[str], sample: int = 0, depth: int = 0
    ) -> BoolArray:
        wanted = [self._values[name] for name in classes if name in self._values]
        return np.isin(read_plane(self._labels, sample, 0, depth, window), wanted)

    def class_labels(  # noqa: D102, on ClassStack
        self, window: Rect, values: Mapping[str, int], sample: int = 0, depth: int = 0
    ) -> NDArray[Any]:
        pixels = read_plane(self._labels, sample, 0, depth, window)
        labels = np.zeros(pixels.shape, np.uint16)
        for name, value in self._values.items():
            labels[pixels == value] = values.get(name, 0)
        return labels

    def close(self) -> None:  # noqa: D102, documented on BoundedStack
        self._labels.close()


def _shape_text(shape: Sequence[int]) -> str:
    n_samples, n_channels, *spatial = shape
    return f"{n_samples} x {n_channels} x {' x '.join(map(str, spatial))} (samples, channels, size)"


class ClassLabelStack(BoundedStack):
    """Classes as a labels image: one channel, uint8, in which each class has a value of 1 to 255.

    The classes are closed with this stack.
    """

    data_dtype = np.dtype(np.uint8)

    def __init__(self, stack: ClassStack, values: Mapping[str, int]) -> None:
        self.stack, self.classes, self.class_values = stack, stack.classes, dict(values)
        n_samples, _, *spatial = stack.data_shape
        self.data_shape = [n_samples, 1, *spatial]
        self.source, self.axes, self.scene = stack.source, stack.axes, stack.scene
        self.starts, self.block_shape = stack.starts, stack.block_shape
        self.original_axes = stack.original_axes
        self.original_data_shape = (1, *stack.original_data_shape[1:])
        colors = {
            values[each.name]: (*(n / 255 for n in each.color), 1.0)
            for each in stack.classes
            if each.color is not None and each.name in values
        }
        names = {value: {"class": name} for name, value in values.items()}
        labels = LabelValues(colors, names)
        self.metadata = ImageMetadata((Channel("class"),), stack.image.pixel_size, labels=labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of them; see `AnnotationStack`."""
        return tuple(getattr(self.stack, "notes", ()))

    def fingerprint(self) -> str:
        """Return the key of the content."""
        return self.stack.fingerprint()

    def close(self) -> None:  # noqa: D102, documented on BoundedStack
        self.stack.close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        *depth, y, x = start
        window = Rect(x, y, out.shape[-1], out.shape[-2])
        for row in range(len(channels)):
            for z, plane in enumerate(out[row] if depth else [out[row]], *depth):
                plane[...] = self.stack.class_labels(window, self.class_values, sample_idx, z)
