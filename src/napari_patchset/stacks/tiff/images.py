"""The images of a TIFF, taken down once until the file changes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from napari_patchset.stacks.kept import Kept
from napari_patchset.stacks.tiff.image import (
    TiffImage,
    TiffSeries,
    image_series,
    open_series,
    read_image,
)

_MOST_KEPT = 1_000_000
"""Tiles and strips of all files that are kept, 16 bytes each."""


class TiffImages:
    """The series of a file, and what is known of those that were asked for; threads may share it.

    Attributes
    ----------
    names : list of str
        Of all series.
    shown : list of int
        The series that are images, as opposed to thumbnails, masks and labels.

    Parameters
    ----------
    series : int or None
        The one that is read at once, None for all images.
    """

    def __init__(self, path: Path, series: int | None = None) -> None:
        self._path = path
        self._known: dict[int, TiffImage] = {}
        with open_series(path) as found:
            self.names = [each.name for each in found]
            self.shown = [each.index for each in image_series(found)]
            self._is_alone = found[0].is_alone
            self._read(found, self.shown if series is None else [series])

    def take(self, series: Sequence[int]) -> list[TiffImage]:
        """Give some of the series."""
        missing = [index for index in series if index not in self._known]
        if missing:
            with open_series(self._path) as found:
                self._read(found, missing)
        return [self._known[index] for index in series]

    def weigh(self) -> int | None:
        """Count tiles and strips; None if it can't be kept, as other files may change."""
        tables = [table for image in self._known.values() for table in image.levels]
        return sum(len(table.counts) for table in tables) if self._is_alone else None

    def _read(self, found: Sequence[TiffSeries], series: Sequence[int]) -> None:
        for index in series:
            if 0 <= index < len(found):
                self._known[index] = read_image(found[index], self._path)


_KEPT: Kept[TiffImages] = Kept(_MOST_KEPT, TiffImages.weigh)


def read_images(path: Path, series: int | None = None) -> TiffImages:
    """Read a TIFF's series, unless that was done and the file is the same.

    Raises
    ------
    UnreadableFileError
        If the file is no TIFF, is damaged, or lacks the file that describes it.
    """
    return _KEPT.get(path, partial(TiffImages, series=series))
