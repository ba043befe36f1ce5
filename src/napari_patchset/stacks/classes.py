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
from napari_patchset.stacks.protocol import BoundedStack, ClosableStack


class ClassStack(BoundedStack, ABC):
    """The pixels of each class: a channel of 0 and 1. It is a `ClassMasks`.

    Parameters
    ----------
    image : SourceInfo
        The source, whose geometry it has.
    classes : sequence of AnnotationClass
        The classes, each a channel.
    key : str
        The key of its content.
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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(each.name for each in self.classes)

    @property
    def is_flat(self) -> bool:
        """Whether they are the same in every plane."""
        return False

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""
        return "C" + self.image.axes.replace("C", "")

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before merging into S."""
        sizes = self.image.layout.sizes | {"C": len(self.classes)}
        return tuple(sizes[axis] for axis in self.original_axes)

    @property
    def metadata(self) -> ImageMetadata:
        """Names and colours of the classes, and the source's pixel size."""
        channels = tuple(
            Channel(
                each.name, None if each.color is None else "#{:02x}{:02x}{:02x}".format(*each.color)
            )
            for each in self.classes
        )
        return ImageMetadata(channels, self.image.pixel_size)

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
    """The classes of annotations.

    Parameters
    ----------
    annotations : Annotations
        The features, in full-resolution pixels of the source, also where it is resampled.
    image : SourceInfo
        The source.
    classes : sequence of AnnotationClass or None
        The classes, maybe some that these annotations lack; None for theirs.
    source : str
        Where they come from, for messages.
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
    """The classes of a labels image.

    Parameters
    ----------
    labels : ClosableStack
        The labels, of the source's geometry and one channel; closed with this stack.
    image : SourceInfo
        The source.
    values : dict of str to int
        The value of each class.
    classes : sequence of AnnotationClass or None
        The classes, maybe some that these labels lack; None for those of `values`.
    key : str
        The key of the content of the labels.

    Raises
    ------
    ArgumentError
        If the labels have several channels, or another geometry.
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
        return np.isin(self._pixels(window, sample, depth), wanted)

    def class_labels(  # noqa: D102, on ClassStack
        self, window: Rect, values: Mapping[str, int], sample: int = 0, depth: int = 0
    ) -> NDArray[Any]:
        pixels = self._pixels(window, sample, depth)
        labels = np.zeros(pixels.shape, np.uint16)
        for name, value in self._values.items():
            labels[pixels == value] = values.get(name, 0)
        return labels

    def close(self) -> None:
        """Close the labels."""
        self._labels.close()

    def _pixels(self, window: Rect, sample: int, depth: int) -> NDArray[Any]:
        z = [depth] if len(self.data_shape) == 5 else []
        start, size = [*z, window.y, window.x], [*(1 for _ in z), window.h, window.w]
        pixels = self._labels.extract_patch(sample, [0], start, size)
        return pixels.reshape(window.h, window.w)


def _shape_text(shape: Sequence[int]) -> str:
    """Return a shape SC(Z)YX as text."""
    n_samples, n_channels, *spatial = shape
    return f"{n_samples} x {n_channels} x {' x '.join(map(str, spatial))} (samples, channels, size)"


class ClassLabelStack(BoundedStack):
    """Classes as a labels image: one channel, uint8, in which each class has a value.

    Parameters
    ----------
    stack : ClassStack
        The classes; closed with this stack.
    values : dict of str to int
        The value of each class, 1 to 255.
    """

    data_dtype = np.dtype(np.uint8)

    def __init__(self, stack: ClassStack, values: Mapping[str, int]) -> None:
        self.stack, self.class_values = stack, dict(values)
        n_samples, _, *spatial = stack.data_shape
        self.data_shape = [n_samples, 1, *spatial]
        self.source, self.axes, self.scene = stack.source, stack.axes, stack.scene
        self.starts, self.block_shape = stack.starts, stack.block_shape

    @property
    def classes(self) -> tuple[AnnotationClass, ...]:
        """The classes."""
        return self.stack.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of them; see `AnnotationStack`."""
        return tuple(getattr(self.stack, "notes", ()))

    @property
    def original_axes(self) -> str:
        """Axes before merging into S."""
        return self.stack.original_axes

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Shape before merging into S."""
        return (1, *self.stack.original_data_shape[1:])

    @property
    def metadata(self) -> ImageMetadata:
        """The names and colours of the values."""
        colors = {
            self.class_values[each.name]: (*(n / 255 for n in each.color), 1.0)
            for each in self.stack.classes
            if each.color is not None and each.name in self.class_values
        }
        names = {value: {"class": name} for name, value in self.class_values.items()}
        size = self.stack.image.pixel_size
        return ImageMetadata((Channel("class"),), size, labels=LabelValues(colors, names))

    def fingerprint(self) -> str:
        """Return the key of the content."""
        return self.stack.fingerprint()

    def close(self) -> None:
        """Close the classes."""
        self.stack.close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        *depth, y, x = start
        window = Rect(x, y, out.shape[-1], out.shape[-2])
        for row in range(len(channels)):
            for z, plane in enumerate(out[row] if depth else [out[row]], *depth):
                plane[...] = self.stack.class_labels(window, self.class_values, sample_idx, z)
