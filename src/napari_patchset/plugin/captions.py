"""One patch in words, and why patches are rejected."""

from collections.abc import Mapping

import numpy as np

from napari_patchset.patching.duplicates import DUPLICATE
from napari_patchset.patching.filters.measurements import column_words, reason_words
from napari_patchset.plugin.plan_preview import PlanPreview


def patch_lines(planned: PlanPreview, row: int) -> list[str]:
    """Return the number, verdict, source, place, size and metrics of a candidate, a line each.

    Place and size are in pixels of the patches, which are those of the image unless it is
    resampled.
    """
    spec = planned.grid[row]
    info = planned.sources[spec.source_index]
    size = f"{' × '.join(map(str, spec.size))} px"
    if info.ratio is not None:
        yx = (info.pixel_size.y or 0.0, info.pixel_size.x or 0.0)
        lengths = " × ".join(f"{n * p:g}" for n, p in zip(spec.size[-2:], yx, strict=True))
        size += f" of {yx[1]:g} µm ({lengths} µm)"
    return [
        f"Patch {row:,}: {_fate(planned, row)}",
        *_source_names(planned, spec.source_index),
        ", ".join(f"{axis.lower()} {n:,}" for axis, n in _place(planned, row).items()),
        size,
        *metric_lines({name: values[row] for name, values in planned.metrics.items()}),
    ]


def reason_text(reason: str) -> str:
    """Return the words for a reason, as the table has it, why a candidate is rejected."""
    return "near-duplicate" if reason == DUPLICATE else reason_words(reason)


def rejections(planned: PlanPreview) -> str:
    """Return how many candidates are rejected by what: "12 by contrast, 3 by hand"."""
    verdicts, n_filters = planned.verdicts, len(planned.state.recipe.filters)
    return ", ".join(
        f"{n:,} {_cause(reason, is_filter=i < n_filters)}"
        for i, (reason, n) in enumerate(zip(verdicts.reasons, verdicts.n_rejected, strict=True))
        if n
    )


def _cause(reason: str, is_filter: bool) -> str:
    if is_filter:
        return f"by {reason_words(reason)}"
    return "near-duplicates" if reason == DUPLICATE else reason


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return metrics in words, a line each, and the shares of classes that it has in one."""
    known = {name: value for name, value in metrics.items() if np.isfinite(value)}
    shares = {name: known.pop(name) for name in list(known) if name.startswith(_SHARE)}
    lines = [f"{column_words(name)} {value:.4g}" for name, value in known.items()]
    if shares:
        most = sorted(filter(shares.get, shares), key=lambda name: -shares[name])
        named = [f"{name.removeprefix(_SHARE)} {shares[name]:.1%}" for name in most]
        lines.append(", ".join(named) or "of no class")
    return lines


_SHARE = "share_"
"""What columns of the shares of classes begin with."""


def _source_names(planned: PlanPreview, index: int) -> list[str]:
    """Return the file and scene of a candidate where there are several."""
    return [planned.state.names[index]] if len(planned.sources) > 1 else []


def place_text(planned: PlanPreview, row: int) -> str:
    """Return where a candidate lies, in short."""
    return " ".join(f"{axis.lower()}{n}" for axis, n in _place(planned, row).items())


def _place(planned: PlanPreview, row: int) -> dict[str, int]:
    """Return the numbers of a candidate's plane in the file, and its start."""
    spec = planned.grid[row]
    info = planned.sources[spec.source_index]
    axes = info.layout.spatial_axes
    first = {axis: info.starts.get(axis, 0) for axis in axes if axis not in "YX"}
    indices, sizes = info.file_indices(spec.sample), info.layout.sizes
    return {axis: n for axis, n in indices.items() if sizes.get(axis, 2) > 1} | {
        axis: start + first.get(axis, 0) for axis, start in zip(axes, spec.start, strict=True)
    }


def _fate(planned: PlanPreview, row: int) -> str:
    verdicts = planned.verdicts
    if verdicts.reason[row] >= 0:
        return f"rejected: {reason_text(verdicts.reasons[verdicts.reason[row]])}"
    split = verdicts.splits[verdicts.split[row]]
    if verdicts.fold is not None and verdicts.fold[row] >= 0:
        return f"{split}, fold {verdicts.fold[row]}"
    return split if planned.state.recipe.split else "kept"
