"""A plan in words: counts, sizes and reasons; the patches of a plane."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from napari_patchset.jobs.folder import size_text
from napari_patchset.patching.filters.measurements import column_words, limit_words
from napari_patchset.patching.grid import Draws
from napari_patchset.patching.lengths import Length, Micrometres
from napari_patchset.patching.splits.groups import TEST, TRAINING, VALIDATION
from napari_patchset.patching.splits.split import ALL
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patching.strategies.base import UNCOVERED
from napari_patchset.patching.verdicts import Verdicts
from napari_patchset.plugin.captions import rejections
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.dialogs import in_window
from napari_patchset.plugin.form.size_row import count, format_length
from napari_patchset.plugin.plan_preview import PlanPreview
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.source import SourceInfo

MULTIPLE = 8
"""The sizes of a network's input are usually a multiple of this."""


def summarize(planned: PlanPreview) -> str:
    """Summarize the number of patches of each kind, their size on disk, and those left out."""
    n = [int(np.count_nonzero(planned.category == each)) for each in PatchCategory]
    kept = sum(n) - n[PatchCategory.REJECTED]
    images = f" in {len(planned.sources)} images" if len(planned.sources) > 1 else ""
    patches = "patch" if kept == 1 else "patches"
    lines = [f"<b>{kept:,}</b> {patches}{images}{_on_disk(planned)}"]
    if lost := lost_choices(planned):
        lines.append(f"<b>{lost}</b>")  # early, as the last lines may be out of sight
    if kept < len(planned.grid) or planned.state.recipe.split:
        lines.append(_legend(planned, n))
        lines += _divided_wells(planned)
        lines += _reasons(planned)
    if split := planned.state.recipe.split:
        verdicts = planned.verdicts
        exported = np.bincount(verdicts.split[verdicts.kept], minlength=len(verdicts.splits))
        counts = dict(zip(verdicts.splits, exported.tolist(), strict=True))
        folds = verdicts.fold_sizes
        lines += [in_window(remark)] if (remark := split.remark(counts, folds)) else []
        lines += map(_escaped, _lacking(verdicts, planned.grid.draws))
    lines += [_left_out(planned, why, count) for why, count in planned.grid.excluded.items()]
    lines += [_escaped(planned.notice)] if planned.notice else []
    if planned.is_provisional:  # in a line that is there anyway, so that nothing moves
        lines[0] += f", <i>measuring: {planned.scored.mean():.0%}</i>"
    return "<br>".join(lines)


def lost_choices(planned: PlanPreview) -> str:
    """Return how many choices by hand apply to no patch of a plan, "" for none."""
    if not (lost := planned.n_lost_choices):
        return ""
    return f"{lost:,} {'choice by hand fits' if lost == 1 else 'choices by hand fit'} no patch now"


def plane_summary(planned: PlanPreview, patches: PlanePatches) -> str:
    """Return how many of the candidates are on the shown plane, or go through it."""
    here, total, n = len(patches), len(planned.grid), planned.n_planes
    text = f"{here:,} on this plane"
    if (axes := patches.axes) is not None and here == len(axes[0]) * len(axes[1]) > 1:
        text += f" ({len(axes[1])} × {len(axes[0])})"
    if rejected := int(np.count_nonzero(patches.category == PatchCategory.REJECTED)):
        text += f", {rejected:,} of them rejected"
    if here == total:
        return text
    planes = "plane" if len(planned.grid.size) == 2 else "volume"
    return f"{text}; {total:,} in all" if n == 1 else f"{text}; {total:,} in all {n:,} {planes}s"


def border_hint(planned: PlanPreview) -> str:
    """Return by how much the last row, column and volume overlap those before them, "" if as set.

    They are shifted back to end with the image.
    """
    source, strategy = planned.shown_source, planned.state.recipe.strategy
    if not isinstance(strategy, Tiled) or strategy.edge != "shift":
        return ""
    axes = source.layout.spatial_axes
    parts = zip(axes, source.spatial_shape, planned.grid.size, planned.steps, strict=True)
    overlaps = {axis: p - (n - p) % step for axis, n, p, step in parts if n > p and (n - p) % step}
    deep = [f"{axis} {count(axis, n)}" for axis, n in overlaps.items() if axis not in "YX"]
    flat = ", ".join(f"{axis} {n}" for axis, n in overlaps.items() if axis in "YX")
    texts = [*deep, *([f"{flat} px"] if flat else [])]
    return f"Overlap at the border: {', '.join(texts)}" if texts else ""


def size_hint(size: tuple[int, ...], info: SourceInfo, typed: Sequence[Length] = ()) -> str:
    """Return the size of a patch in micrometres, with a warning if it does not suit networks.

    Parameters
    ----------
    size : tuple of int
        The size in pixels.
    typed : sequence of Length
        The size as it was typed; the text says which length was rounded to whole pixels.
    """
    pixel = {"Z": info.pixel_size.z, "Y": info.pixel_size.y, "X": info.pixel_size.x}
    pixels = [pixel.get(axis) for axis in info.layout.spatial_axes]
    known = [f"{n * p:.1f}" for n, p in zip(size, pixels, strict=True) if p]
    lines = [f"{_by(known)} µm"] if all(pixels[-2:]) else []
    if info.ratio is not None:
        lines[0] += f", {_by(map(str, size))} px"
    lines += dict.fromkeys(
        f"{format_length(length)} = {n} px ({n * p:.4g} µm)"
        for length, n, p in zip(typed, size, pixels, strict=False)
        if isinstance(length, Micrometres) and p and f"{n * p:.4g}" != f"{length.number:.4g}"
    )
    if odd := [n for n in size[-2:] if n % MULTIPLE]:
        lines.append(f"{odd[0]} is not a multiple of {MULTIPLE}, as most networks need")
    return "<br>".join(lines)


def _left_out(planned: PlanPreview, reason: str, count: int) -> str:
    n = len(planned.sources)
    where = f"the {n} images" if n > 1 else "the image"
    if reason == UNCOVERED:
        least = planned.state.recipe.strategy.min_covered
        reason = f"pixels in less than {least:.0%} of each"
    more = " more" if len(planned.grid) else ""
    places = "place" if count == 1 else "places"
    return f"{count:,}{more} {places} in {where} excluded: {reason}"


def _on_disk(planned: PlanPreview) -> str:
    """Return the size of all arrays: pictures, targets and labels."""
    if not (arrays := planned.arrays):
        return ", coordinates only"
    most = "" if planned.state.recipe.codec == "none" else "at most "
    return f", {most}{size_text(sum(each.n * each.patch_bytes for each in arrays))}"


_CATEGORIES = {
    TRAINING: PatchCategory.TRAIN,
    VALIDATION: PatchCategory.VAL,
    TEST: PatchCategory.TEST,
}


def _legend(planned: PlanPreview, counts: list[int]) -> str:
    named = {split: _CATEGORIES[split] for split in planned.verdicts.splits if (split,) != ALL}
    if planned.verdicts.fold is not None:
        train = {TRAINING: named.pop(TRAINING)}
        named = train | {f"val of fold {planned.state.shown_fold}": PatchCategory.VAL} | named
    named = (named or {"kept": PatchCategory.TRAIN}) | {"rejected": PatchCategory.REJECTED}
    by_class = bool(planned.state.class_colors)  # which the list of classes explains
    entries = [
        f"{'' if by_class and category != PatchCategory.REJECTED else _square(category)}"
        f"{counts[category]:,}&nbsp;{name}"
        for name, category in named.items()
    ]
    share = counts[PatchCategory.REJECTED] / max(1, len(planned.grid))
    return f"{'&nbsp; '.join(entries)}&nbsp;({_escaped(_percent(share))})"


def _divided_wells(planned: PlanPreview) -> list[str]:
    """Return a hint, if any, that a split that nobody chose has divided wells of a plate."""
    split, verdicts, refs = planned.state.recipe.split, planned.verdicts, planned.state.sources
    if split is None or split.by not in ("auto", "scene"):
        return []
    wells = [(ref.path, well) if (well := DESCRIPTIONS.known_well(ref)) else None for ref in refs]
    numbers = {well: i for i, well in enumerate(dict.fromkeys(filter(None, wells)))}
    if len(numbers) in (0, len(refs)):  # no wells, or a field each
        return []
    number_of = np.array([numbers[well] if well else -1 for well in wells])
    part = verdicts.split if verdicts.fold is None else verdicts.fold
    kept = verdicts.kept & (number_of[planned.grid.source_index] >= 0)
    n_parts = int(part.max(initial=0)) + 1
    pairs = np.unique(number_of[planned.grid.source_index[kept]] * n_parts + part[kept])
    divided = np.bincount(pairs // n_parts, minlength=len(numbers)) > 1
    if not (n := int(np.count_nonzero(divided))):
        return []
    parts = "splits" if verdicts.fold is None else "folds"
    return [
        f"Fields of one well are in several {parts} ({n} of {len(numbers)} wells): split by wells"
    ]


def _percent(share: float) -> str:
    """Return a share in per cent: 0% and 100% are none and all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _square(category: PatchCategory) -> str:
    return f'<span style="color:{CATEGORY_COLORS[category]}">■</span>&nbsp;'


def _reasons(planned: PlanPreview) -> list[str]:
    rejected = rejections(planned)
    rejected_by = [f"Rejected: {rejected}"] if rejected else []
    return [_escaped(line) for line in (*rejected_by, _limits(planned.verdicts)) if line]


def _lacking(verdicts: Verdicts, draws: Draws | None) -> Iterator[str]:
    """Yield which classes, that balanced patches are drawn for, have no patch in a split."""
    if draws is None:
        return
    for code, split in enumerate(verdicts.splits):
        drawn = set(draws.code[verdicts.kept & (verdicts.split == code)].tolist())
        lacks = [name for i, name in enumerate(draws.weights) if i not in drawn]
        if lacks and drawn:
            yield f"No patch in {split} is drawn for {', '.join(lacks)}"


def _limits(verdicts: Verdicts) -> str:
    """Return the values of limits like p10: "p10 (lowest 10 %) of contrast: DAPI 23"."""
    values: dict[str, list[str]] = {}
    for column, each in verdicts.limits.items():
        metric, _, channel = column_words(column).partition(" of ")
        for limit, value in each.items():
            if np.isfinite(value):
                value_of = f"{channel} {value:.4g}".strip()
                named = f"{limit} ({limit_words(limit)}) of {metric}"
                values.setdefault(named, []).append(value_of)
    return ", ".join(f"{limit}: {', '.join(each)}" for limit, each in values.items())


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _by(values: Iterable[object]) -> str:
    return " × ".join(map(str, values))
