"""Letters for the axes of a zarr array, from names and types where it has them."""

from collections.abc import Sequence
from typing import NamedTuple

from napari_patchset.errors import UnreadableFileError

_LETTERS = {
    **{"t": "T", "time": "T", "c": "C", "channel": "C", "channels": "C"},
    **{"z": "Z", "y": "Y", "x": "X"},
}
_LETTER_OF_KIND = {"time": "T", "channel": "C"}
_SPARE = "SABDEFGHIJKLMNOPQRUVW"
_BY_POSITION = "BVHIRSTCZYX"
"""What unnamed axes are, counted from the last: OME's own order, then a CZI's further axes."""


class Axis(NamedTuple):
    """An axis as the file describes it."""

    name: str
    kind: str | None = None
    """OME's type: "time", "channel", "space" or the writer's own."""
    unit: str | None = None


def axis_letters(axes: Sequence[Axis]) -> str | None:
    """Give each axis its own capital letter, None if Y and X are not among them.

    An axis of an unknown kind has its own initial if that is free, else a spare letter; either
    way it is merged into S.
    """
    if len(axes) > len(_BY_POSITION):
        return None
    letters: list[str] = []
    for axis in axes:
        letter = _LETTERS.get(axis.name.lower()) or _LETTER_OF_KIND.get(axis.kind or "", "")
        letters.append(letter if letter not in letters else "")
    for i, axis in enumerate(axes):
        wanted = f"{axis.name[:1].upper()}{_SPARE}"
        letters[i] = letters[i] or next(a for a in wanted if a in _SPARE and a not in letters)
    return "".join(letters) if {"Y", "X"} <= set(letters) else None


def axes_by_position(shape: tuple[int, ...], label: str) -> str:
    """Name the axes of an array that does not name them.

    Two are YX, three ZYX (so that Z can be the depth axis; without one it is merged into S), four
    CZYX, five TCZYX. A third axis of 3 or 4 beside larger ones is colour, as in napari: YXC.

    Raises
    ------
    UnreadableFileError
        If there are too few or too many for an image.
    """
    if not 2 <= len(shape) <= len(_BY_POSITION):
        raise UnreadableFileError(
            f"{label}: an array of {len(shape)} dimensions is no image; "
            f"2 to {len(_BY_POSITION)} can be read."
        )
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        return "YXC"
    return _BY_POSITION[-len(shape) :]
