"""The label images of a plan, windows of which a strategy reads to choose patches of classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.exporting.open_images import OpenImages
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.patching.class_pixels import LabelImage
from napari_patchset.patchset.layout import LABELS
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.protocol import ClosableStack


@contextmanager
def open_labels(
    plan: ExportPlan,
    sources: Sequence[SourceInfo],
    opener: Callable[..., ClosableStack] = open_stack,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Iterator[Sequence[LabelImage] | None]:
    """Open the labels of every source at their first use; None if the strategy reads none.

    Parameters
    ----------
    opener : callable
        Opens an image, as `open_stack` does.
    check_cancelled : callable
        Called before each window is read; an exception that it raises ends the reading.
    """
    if not plan.strategy.reads_labels or not all(ref.labels for ref in plan.sources):
        yield None
        return
    with OpenImages(plan, opener, check_cancelled=check_cancelled) as images:
        yield [_Labels(images, index, source) for index, source in enumerate(sources)]


class _Labels:
    """The labels of one source."""

    def __init__(self, images: OpenImages, index: int, source: SourceInfo) -> None:
        self._images, self._index, self._source = images, index, source

    @property
    def names(self) -> Mapping[str, int]:
        """The value of each class that has a name."""
        return {}

    @property
    def block_shape(self) -> tuple[int, int] | None:
        """Height and width of what is decoded at once, None if unknown."""
        return getattr(self._stack, "block_shape", None)

    def read(self, sample: int, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the labels in a box along (Z)YX of one sample."""
        self._images.check_cancelled()
        with self._images.source_errors(self._index):
            labels: NDArray[Any] = self._stack.extract_patch(sample, [0], start, size)[0]
        return labels

    @property
    def _stack(self) -> ClosableStack:
        stack = self._images[self._index, LABELS].stack
        n_samples, n_channels, *shape = stack.data_shape
        expected = self._source.n_samples, *self._source.spatial_shape
        if n_channels != 1 or (n_samples, *shape) != expected:
            raise ExportError(
                f"{stack.source}, the labels of {self._source.name}, have {n_channels} channels, "
                f"{n_samples} samples and the size {' x '.join(map(str, shape))}; labels need one "
                f"channel, {expected[0]} samples and {' x '.join(map(str, expected[1:]))}."
            )
        return stack
