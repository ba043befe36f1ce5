"""Lengths in pixels or in micrometres, as numbers and as text: 64, "64 px", "12.5 µm", "0.5 mm"."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function, str_schema

from napari_patchset.errors import ArgumentError, UnknownPixelSizeError


class Micrometres(str):
    """A length as text, "64um"."""

    __slots__ = ()

    @property
    def number(self) -> float:
        """The length in micrometres."""
        return float(self.removesuffix("um"))

    def to_pixels(self, pixel_size: float) -> int:
        """Return the length in pixels of a size in micrometres, rounded half up."""
        return floor(Fraction(repr(self.number)) / Fraction(repr(pixel_size)) + Fraction(1, 2))

    @classmethod
    def from_number(cls, number: float) -> Self:
        """Return a length in micrometres, with six significant digits."""
        return cls.parse(f"{Decimal(f'{number:.6g}'):f}um")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "64um", "64 µm", "1.5 um" or "0.5 mm"; raise ValueError for anything else."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([nuµμm])m\s*", text)
        if not match:
            raise ValueError(f"{text!r} is not a length; write it like 64um")
        # As decimals: 0.0003 mm are 0.3 um.
        return cls(f"{Decimal(match[1]).scaleb(_EXPONENTS.get(match[2], 0)).normalize():f}um")

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> CoreSchema:
        return no_info_after_validator_function(cls.parse, str_schema())


_EXPONENTS = {"n": -3, "m": 3}
"""Powers of ten from nm and mm to um."""

Length = int | Micrometres
"""A number of pixels, or micrometres."""

Unit = Literal["px", "um"]


def parse_length(text: str, unit: Unit = "px") -> Length:
    """Parse "64", in a unit that it lacks, "64 px", "12.5 µm" or "0.5 mm", or raise ValueError."""
    text = text.strip()
    if not text.endswith(("m", "px")):
        text += unit
    return Micrometres.parse(text) if text.endswith("m") else int(text.removesuffix("px"))


def _parse_lengths(lengths: Any) -> Any:
    """Parse 64, "64", "8,64,64" or "64um,64um"; leave everything else to pydantic."""
    if isinstance(lengths, str):
        try:
            return tuple(map(parse_length, lengths.split(",")))
        except ValueError:
            raise ValueError(
                f"{lengths!r} is not a number of pixels; write one, or one per axis like 64,64, or "
                "micrometres like 32um,32um"
            ) from None
    return (lengths,) if isinstance(lengths, int) else lengths


LengthPerAxis = Annotated[tuple[Length, ...], BeforeValidator(_parse_lengths)]
"""Pixels or micrometres along each axis: (8, 64, 64), or the text "8,64,64" or "64um,64um"; one is
for Y and X."""


def to_pixels(lengths: Sequence[Length]) -> tuple[int, ...]:
    """Return lengths that are in pixels already."""
    if not all(isinstance(length, int) for length in lengths):
        raise ArgumentError(f"{', '.join(map(str, lengths))} is not in pixels; plan with sources.")
    return tuple(int(length) for length in lengths)


def is_positive(length: Length) -> bool:
    """Return whether a length is more than nothing; micrometres may be less than a pixel."""
    return length >= 1 if isinstance(length, int) else length.number > 0


def round_to_pixels(length: Micrometres, pixel_size: float | None, name: str, least: int) -> int:
    """Return a length in pixels, at least so many; but no length, 0, is `least`.

    Raise UnknownPixelSizeError if the pixel size of a source, `name`, is not known.
    """
    if not length.number:
        return least
    if pixel_size is None:
        raise UnknownPixelSizeError(
            f"The pixel size of {name} is not known, so {length} can't be made pixels; state it."
        )
    return max(least, length.to_pixels(pixel_size))
