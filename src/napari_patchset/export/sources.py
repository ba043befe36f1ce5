"""The sources of a plan: opened, described, and held to agree with each other."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_patchset.errors import ExportError
from napari_patchset.export.plan import ExportPlan, SourceRef
from napari_patchset.patching.grid import PatchGrid, PatchSpec
from napari_patchset.patching.padding import PadMode, source_indices
from napari_patchset.source import ChannelId, SourceInfo, channel_indices
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.opening import open_stack

PIXEL_SIZE_TOLERANCE = 0.01


def open_source(plan: ExportPlan, ref: SourceRef) -> ClosableStack:
    """Open one source of a plan."""
    return open_stack(ref.path, ref.scene, plan.depth_axis)


def describe_sources(plan: ExportPlan) -> list[SourceInfo]:
    """Describe every source as the plan sees it: with the chosen channels only.

    Raises
    ------
    ExportError
        If the sources do not agree in what a patch set has one of.
    """
    infos: list[SourceInfo] = []
    keys: dict[str, str] = {}
    for ref in plan.sources:
        with open_source(plan, ref) as stack:
            info = describe(stack, keys.get(ref.path))
            if not hasattr(stack, "fingerprint"):  # one key for all scenes of the file
                keys[ref.path] = info.key
            infos.append(select_channels(info, plan.channels))
    _check_agreement(plan.sources, infos)
    return infos


def select_channels(info: SourceInfo, channels: Sequence[ChannelId] | None) -> SourceInfo:
    """Describe a source as if it had only some of its channels."""
    if channels is None:
        return info
    chosen = channel_indices(info.channels, channels)
    shape = list(info.shape)
    if "C" in info.axes:
        shape[info.axes.index("C")] = len(chosen)
    missing = {(s, chosen.index(c), z) for s, c, z in info.missing if c in chosen}
    update = {
        "channels": tuple(info.channels[c] for c in chosen),
        "shape": tuple(shape),
        "missing": frozenset(missing),
    }
    return SourceInfo(**{name: getattr(info, name) for name in SourceInfo.model_fields} | update)


def read_row(
    stack: ClosableStack,
    channels: Sequence[int],
    row: PatchGrid,
    pad: PadMode,
    out: NDArray[Any],
) -> None:
    """Read patches that lie side by side (see `PatchGrid.rows`) into `out`, N, C, (Z), Y, X.

    Their common band is read at once, unless they reach past the image.
    """
    first, last = row[0], row[-1]
    bounds = stack.data_shape[2:]
    if any(s + n > b for s, n, b in zip(last.start, last.size, bounds, strict=True)):
        for patch, spec in zip(out, row, strict=True):
            patch[...] = read_patch(stack, channels, spec, pad)
        return
    width = last.start[-1] - first.start[-1] + first.size[-1]
    size = (*first.size[:-1], width)
    band = stack.extract_patch(first.sample, channels, first.start, size)
    for patch, x in zip(out, (row.start[:, -1] - first.start[-1]).tolist(), strict=True):
        patch[...] = band[..., x : x + first.size[-1]]


def read_patch(
    stack: ClosableStack, channels: Sequence[int], spec: PatchSpec, pad: PadMode
) -> NDArray[Any]:
    """Read a patch C(Z)YX, filling what lies beyond the image as `pad` says."""
    bounds = stack.data_shape[2:]
    inside = all(s + n <= b for s, n, b in zip(spec.start, spec.size, bounds, strict=True))
    if inside or pad == "constant":
        return stack.extract_patch(spec.sample, channels, spec.start, spec.size)
    indices = [
        source_indices(s, n, b, pad) for s, n, b in zip(spec.start, spec.size, bounds, strict=True)
    ]
    low = [int(i.min()) for i in indices]
    extent = [int(i.max()) - a + 1 for i, a in zip(indices, low, strict=True)]
    pixels = stack.extract_patch(spec.sample, channels, low, extent)
    for axis, (index, first) in enumerate(zip(indices, low, strict=True), 1):
        pixels = np.take(pixels, index - first, axis=axis)
    return pixels


def _check_agreement(refs: Sequence[SourceRef], infos: Sequence[SourceInfo]) -> None:
    """Refuse sources that differ from the first one in what a set has only one of."""
    compared: dict[str, Callable[[SourceInfo], Any]] = {
        "channels": lambda info: len(info.channels),
        "pixel type": lambda info: info.dtype,
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


def _check_pixel_sizes(refs: Sequence[SourceRef], infos: Sequence[SourceInfo]) -> None:
    for axis in ("z", "y", "x"):
        sizes = [getattr(info.pixel_size, axis) for info in infos]
        known = [(size, ref) for size, ref in zip(sizes, refs, strict=True) if size]
        for size, ref in known:
            first = known[0][0]
            if abs(size - first) > PIXEL_SIZE_TOLERANCE * first:
                raise ExportError(
                    f"The sources differ in pixel size along {axis}: {known[0][1]} has {first:g} "
                    f"um, but {ref} has {size:g} um (1 % is allowed). Export them as sets of "
                    "their own."
                )
