"""What the sources of one set must have in common, and the images beside them with them."""

from collections.abc import Callable, Sequence
from typing import Any

from napari_patchset.errors import ExportError
from napari_patchset.export.refs import ImageRef, SourceRef
from napari_patchset.source import SourceInfo

PIXEL_SIZE_TOLERANCE = 0.01


def check_agreement(
    refs: Sequence[ImageRef], infos: Sequence[SourceInfo], dtype: str | None = None
) -> None:
    """Refuse sources that differ from the first one in what a set has only one of.

    Parameters
    ----------
    dtype : str or None
        What all of them are cast to.

    Raises
    ------
    ExportError
        Naming each that differs.
    """
    compared: dict[str, Callable[[SourceInfo], Any]] = {
        "channels": lambda info: len(info.channels),
        "pixel type": lambda info: dtype or info.dtype,
        "depth axis": lambda info: info.depth_axis,
    }
    for what, value in compared.items():
        others = [
            f"{ref} has {value(info)}"
            for ref, info in zip(refs, infos, strict=True)
            if value(info) != value(infos[0])
        ]
        if others:
            raise ExportError(
                f"The sources differ in {what}: {refs[0]} has {value(infos[0])}, but "
                f"{'; '.join(others)}. Export them as sets of their own."
            )
    _check_pixel_sizes(refs, infos)


def check_geometry(
    role: str,
    refs: Sequence[SourceRef],
    infos: Sequence[SourceInfo],
    images: Sequence[SourceInfo],
) -> None:
    """Refuse targets, labels or masks whose samples or planes are not those of their images.

    Raises
    ------
    ExportError
        Naming each that differs.
    """
    differ = [
        f"{ref.images[role]}, the {role} of {ref}, is {_describe(info)}, not {_describe(image)}"
        for ref, info, image in zip(refs, infos, images, strict=True)
        if not _match(info, image)
    ]
    if differ:
        raise ExportError(f"What is cut at the same places differs in shape: {'; '.join(differ)}.")


def _match(info: SourceInfo, image: SourceInfo) -> bool:
    """Whether samples and planes agree; files may name an axis differently, but not swap two."""
    own, other = _samples(info), _samples(image)
    swapped = own.keys() == other.keys() and list(own) != list(other)
    same = list(own.values()) == list(other.values()) and info.spatial_shape == image.spatial_shape
    return same and not swapped


def _samples(info: SourceInfo) -> dict[str, int]:
    """Give the size along each axis of S; an axis of size 1 says nothing."""
    sizes = zip(info.layout.sample_axes, info.layout.sample_shape, strict=True)
    return {axis: n for axis, n in sizes if n > 1}


def _describe(info: SourceInfo) -> str:
    sizes = [*_samples(info).items()]
    sizes += zip(info.layout.spatial_axes, info.spatial_shape, strict=True)
    return ", ".join(f"{axis} {n}" for axis, n in sizes)


def _check_pixel_sizes(refs: Sequence[ImageRef], infos: Sequence[SourceInfo]) -> None:
    """Refuse sizes that differ from the first one that is known."""
    for axis in ("z", "y", "x"):
        sizes = [getattr(info.pixel_size, axis) for info in infos]
        known = [(size, ref) for size, ref in zip(sizes, refs, strict=True) if size]
        first, named = known[0] if known else (0.0, None)
        others = [
            f"{ref} has {size:g}"
            for size, ref in known
            if abs(size - first) > PIXEL_SIZE_TOLERANCE * first
        ]
        if others:
            raise ExportError(
                f"The sources differ in pixel size along {axis}: {named} has {first:g} um, but "
                f"{'; '.join(others)} (1 % is allowed). Export them as sets of their own."
            )
