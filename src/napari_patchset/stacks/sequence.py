"""SequenceStack: files of one image each as one image, along an axis that none of them has."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout, DepthAxis, check_depth_axis
from napari_patchset.errors import ArgumentError
from napari_patchset.stacks.fingerprint import content_key, text_key
from napari_patchset.stacks.metadata import Channel, image_metadata
from napari_patchset.stacks.protocol import ClosableStack, FileStack

_NUMBER = re.compile(r"\d+")

FEWEST_SIMILAR = 3
"""Files whose names differ in numbers alone from which on they may be one image."""

SequenceAxis = Literal["T", "Z", "C"]
SEQUENCE_AXES: tuple[SequenceAxis, ...] = get_args(SequenceAxis)


class SequenceStack(FileStack):
    """Cut patches out of several files, each of which is one index along an axis.

    The parts have equal axes, shape and pixel type, none of them `axis`, and no depth axis if that
    is `axis`. Along C, the channels have the names of the files.
    """

    def __init__(
        self, parts: Sequence[ClosableStack], axis: SequenceAxis, depth_axis: DepthAxis = "none"
    ) -> None:
        first, *others = parts
        for other in others:
            _check_same_image(first, other)
        if axis in first.original_axes:
            raise ArgumentError(
                f"{first.source} has an axis {axis} already ({_format_sizes(first)}), so that "
                "files can't follow each other along it; choose another axis."
            )
        self.source = f"{first.source} and {len(others)} more along {axis}"
        self.files = tuple(dict.fromkeys(f for part in parts for f in getattr(part, "files", ())))
        self.parts, self._axis = tuple(parts), axis
        shape = tuple(first.original_data_shape)
        self._layout = AxisLayout(f"{axis}{first.original_axes}", (len(parts), *shape), depth_axis)
        check_depth_axis(self._layout.sizes, depth_axis, self.source)
        part_depth: DepthAxis = "none" if axis == depth_axis else depth_axis
        self._part_layout = AxisLayout(first.original_axes, shape, part_depth)
        self.axes = self._layout.stack_axes
        self.data_shape = self._layout.stack_shape
        self.data_dtype = first.data_dtype
        self.block_shape = getattr(first, "block_shape", None)
        self.metadata = image_metadata(first)
        if axis == "C":
            stems = (Path(str(part.source)).name.partition(".")[0] for part in parts)
            self.metadata = replace(self.metadata, channels=tuple(map(Channel, stems)))

    @cached_property
    def file_keys(self) -> tuple[str, ...]:
        """The key of each part."""
        return tuple(content_key(part) for part in self.parts)

    def fingerprint(self) -> str:
        """Return the key of all files in their order."""
        return text_key([self._axis, *self.file_keys])

    @property
    def missing_planes(self) -> frozenset[tuple[int, int, int]]:
        """Every plane that a file lacks, as (sample, channel, depth)."""
        missing = set()
        for index, part in enumerate(self.parts):
            for sample, channel, depth in getattr(part, "missing_planes", ()):
                indices = {**self._part_layout.unravel(sample), self._axis: index}
                channel = index if self._axis == "C" else channel
                depth = index if self._axis == self._layout.depth_axis else depth
                missing.add((self._layout.ravel(indices), channel, depth))
        return frozenset(missing)

    def close(self) -> None:  # noqa: D102, documented on BoundedStack
        for part in self.parts:
            part.close()

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        indices = self._layout.unravel(sample_idx)
        sample = self._part_layout.ravel(indices)
        size = out.shape[1:]
        if self._axis == self._layout.depth_axis:
            for i, part in enumerate(self.parts[start[0] : start[0] + size[0]]):
                out[:, i] = part.extract_patch(sample, channels, start[1:], size[1:])
        elif self._axis == "C":
            for channel, plane in zip(channels, out, strict=True):
                plane[...] = self.parts[channel].extract_patch(sample, [0], start, size)[0]
        else:
            part = self.parts[indices[self._axis]]
            out[...] = part.extract_patch(sample, channels, start, size)


def similar_names(path: Path) -> list[str]:
    """Return the files beside one, itself among them, whose names differ in numbers alone."""
    pattern = _NUMBER.sub("0", path.name)
    return [name for name in os.listdir(path.parent) if _NUMBER.sub("0", name) == pattern]


def group_similar(paths: Iterable[Path]) -> list[list[Path]]:
    """Return groups of `FEWEST_SIMILAR` or more files, of one folder, with `similar_names`."""
    groups: dict[Path, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.with_name(_NUMBER.sub("0", path.name)), []).append(path)
    return [group for group in groups.values() if len(group) >= FEWEST_SIMILAR]


def varying_numbers(names: Sequence[str]) -> dict[str, int]:
    """Return how many values each number in names has that counts something of its own.

    By the letters before it, {"t": 12, "c": 2} of img_t0_c0.tif to img_t11_c1.tif, or by its place,
    "the first number", if it has none or shares them with another. Empty if one of the numbers
    tells all files apart, as others then count the same, or if the names differ in more than
    numbers.
    """
    if len({_NUMBER.sub("0", name) for name in names}) != 1:
        return {}
    columns = list(zip(*map(_NUMBER.findall, names), strict=True))
    before = [re.sub(r".*[^A-Za-z]", "", text) for text in _NUMBER.split(names[0])[:-1]]
    values = {
        before[i] if before[i] and before.count(before[i]) == 1 else _place(i): len(set(column))
        for i, column in enumerate(columns)
        if len(set(column)) > 1
    }
    return values if len(values) > 1 and max(values.values()) < len(set(names)) else {}


def _place(i: int) -> str:
    return f"the {_ORDINALS[i]} number" if i < len(_ORDINALS) else f"number {i + 1}"


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def files_of_one(name: str) -> str:
    """Return words for files that are equal in one of `varying_numbers`."""
    is_place = " " in name
    return f"the files that share {name}" if is_place else f"the files of one {name}"


def numbers_notice(files: Sequence[str], axis: SequenceAxis) -> str:
    """Return a warning if files that follow each other along an axis count two things."""
    names = [Path(file).name for file in files]
    if not (values := varying_numbers(names)):
        return ""
    counted = " and ".join(f"{name} ({n})" for name, n in values.items())
    one = min(values, key=lambda name: values[name])
    return (
        f"The file names count {counted}, but all {len(names)} files follow each other along "
        f"{axis}: {names[0]}, {names[1]}, ... To keep them apart, join only {files_of_one(one)}."
    )


def _check_same_image(first: ClosableStack, other: ClosableStack) -> None:
    if (_format_sizes(first), np.dtype(first.data_dtype)) != (
        _format_sizes(other),
        np.dtype(other.data_dtype),
    ):
        raise ArgumentError(
            f"{other.source} is {_format_sizes(other)} of {np.dtype(other.data_dtype)}, but "
            f"{first.source} is {_format_sizes(first)} of {np.dtype(first.data_dtype)}; files that "
            "follow each other must be equal."
        )


def _format_sizes(stack: ClosableStack) -> str:
    sizes = zip(stack.original_axes, stack.original_data_shape, strict=True)
    return " ".join(f"{axis}{n}" for axis, n in sizes)
