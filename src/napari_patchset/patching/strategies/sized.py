"""SizedStrategy: the base class of strategies whose patches have a size, pixels or micrometres."""

from collections.abc import Sequence
from math import ceil, floor, prod
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from napari_patchset._model import user_message
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.lengths import (
    Length,
    LengthPerAxis,
    is_positive,
    round_to_pixels,
    to_pixels,
)
from napari_patchset.patching.strategies.base import PatchStrategy, SelectedSource
from napari_patchset.source import PixelSize, SourceInfo

MAX_CANDIDATES = 2**26
"""Most candidates of one source; each takes 16 bytes, and as much again while they are sorted."""


class SizedStrategy(PatchStrategy):
    """Choose patches of a fixed size.

    Parameters
    ----------
    size : tuple of int, int or str
        Patch size along YX, or ZYX (TYX) with a depth axis; one number is the size along Y and X.
        "64um" is that many micrometres.
    """

    size: LengthPerAxis = Field(
        description="Patch size along Y,X, or Z,Y,X with a depth axis, in pixels or like 64um."
    )

    @property
    def pixels(self) -> tuple[int, ...]:
        """Patch size in pixels, once the pixel size of the sources is known."""
        return to_pixels(self.size)

    def in_pixels(self, pixel_size: PixelSize, name: str) -> Self:
        """Return the strategy with its lengths in pixels, rounded half up; a size is at least one.

        Raise UnknownPixelSizeError, which names a source, if a length is in micrometres, but the
        pixel size is not known.
        """
        fields = {field: getattr(self, field) for field in self._lengths}
        if all(isinstance(n, int) for lengths in fields.values() for n in lengths):
            return self
        sizes = (pixel_size.z, pixel_size.y, pixel_size.x)
        changed = {
            field: tuple(
                length
                if isinstance(length, int)
                else round_to_pixels(length, size, name, least=int(field == "size"))
                for length, size in zip(lengths, sizes[3 - len(lengths) :], strict=True)
            )
            for field, lengths in fields.items()
        }
        try:
            return type(self).model_validate({**dict(self), **changed})
        except ValidationError as error:
            raise ArgumentError(f"{user_message(error)} pixels.") from error

    @property
    def _overhang(self) -> tuple[int, int]:
        # The share of a patch that is inside is no larger than that along either axis.
        height, width = (floor((1 - self.min_inside) * n) for n in self.pixels[-2:])
        return height, width

    _lengths: ClassVar[tuple[str, ...]] = ("size",)

    def _in_pixels_of(self, source: SourceInfo) -> Self:
        return self.in_pixels(source.pixel_size, source.name)

    @field_validator("size")
    @classmethod
    def _square(cls, size: tuple[Length, ...]) -> tuple[Length, ...]:
        return size * 2 if len(size) == 1 else size

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if len(self.size) not in (2, 3) or not all(map(is_positive, self.size)):
            size = ", ".join(map(str, self.size))
            raise ValueError(
                f"patch size {size} must be 2 or 3 numbers of at least 1: along Y, X or Z, Y, X"
            )
        return self

    def _check_dimensions(self, source: SourceInfo) -> None:
        n = len(source.spatial_shape)
        if n != len(self.size):
            raise ArgumentError(
                f"Patch size {self.size} has {len(self.size)} dimensions, but {source.name} is "
                f"{source.layout.spatial_axes}; give {n} numbers."
            )

    def _fits(self, selected: SelectedSource, small: Literal["error", "skip"]) -> bool:
        """Return whether a patch fits; False too if no sample is selected.

        Raise ArgumentError if the patch size has another number of dimensions, or no patch fits and
        `small` is "error".
        """
        source = selected.source
        self._check_dimensions(source)
        if not len(selected.samples):
            return False
        if all(p <= n for p, n in zip(self.pixels, selected.shape, strict=True)):
            return True
        if small == "error":
            what = f"the selected part of {source.name}" if selected.is_cropped else source.name
            raise ArgumentError(
                f"Patch size {format_size(self.pixels)} is larger than {what}, which is "
                f"{format_size(selected.shape)} ({source.layout.spatial_axes}); choose a smaller "
                f"patch{self._small_hint}."
            )
        return False

    @property
    def _small_hint(self) -> str:
        """A further remedy for an image that is smaller than a patch."""
        return ""

    def _check_count(self, selected: SelectedSource, strides: Sequence[int]) -> None:
        """Refuse more than `MAX_CANDIDATES`, before memory is allocated for them.

        The error names the source, since a damaged file may declare any size.
        """
        per_sample = prod(ceil(n / s) for n, s in zip(selected.shape, strides, strict=True))
        if (count := per_sample * len(selected.samples)) > MAX_CANDIDATES:
            raise ArgumentError(
                f"{selected.source.name}, {format_size(selected.shape)} "
                f"({selected.source.layout.spatial_axes}), would give {count} patches, more than "
                f"{MAX_CANDIDATES}; choose larger patches or less overlap."
            )


def format_size(size: Sequence[int]) -> str:
    """Format a size as "64 x 64"."""
    return " x ".join(map(str, size))
