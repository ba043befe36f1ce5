"""The form's state as one frozen value; needs no window."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import (
    ANNOTATIONS,
    PAIR_ROLES,
    ImageRef,
    PairRole,
    SourceRef,
)
from napari_patchset.exporting.plans.plan import ExportPlan, Recipe
from napari_patchset.exporting.reading.sources import (
    check_overrides,
    find_lookalikes,
    find_repeats,
    repeats_notice,
    select_channels,
    tell_apart,
)
from napari_patchset.exporting.writing.freezing import check_images, roles_of
from napari_patchset.patching.splits.search import ANNOTATION
from napari_patchset.patching.splits.sheet_columns import WELL
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.layers.layer_stack import layer_at
from napari_patchset.plugin.overrides import image_path, source_ref
from napari_patchset.source import SourceInfo
from napari_patchset.stacks.fingerprint import (
    Advance,
    is_detailed,
)


@dataclass(frozen=True, slots=True)
class FormState:
    """Everything that is set in the form.

    Attributes
    ----------
    sources : tuple of SourceRef
        The images that patches are cut from.
    shown_index : int
        Which of them is on the screen.
    recipe : Recipe
        How patches are chosen and written.
    out : str
        The patch set to write, "" if none is chosen yet.
    samples : str
        The samples sheet that the sources have their values from, "" if there is none.
    shown_fold : int
        The fold whose patches validate in the preview; nothing else depends on it.
    class_colors : tuple of (str, str)
        The colour of each class that patches are drawn in; empty to draw them by their use.
    """

    sources: tuple[SourceRef, ...]
    shown_index: int
    recipe: Recipe
    out: str = ""
    samples: str = ""
    shown_fold: int = field(default=0, compare=False)
    class_colors: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def source(self) -> SourceRef:
        """The image on the screen."""
        return self.sources[self.shown_index]

    def infos(self) -> list[SourceInfo]:
        """Describe every source as its patches see it, named as in the window."""
        recipe = self.recipe
        reads_well = recipe.split is not None and WELL in recipe.split.columns

        told = self.told_apart()[0] if len(self.sources) > 1 else None

        def described(ref: SourceRef, name: str) -> SourceInfo:
            info = DESCRIPTIONS.describe(ref, recipe.depth_axis, recipe.pixel_size)
            well = DESCRIPTIONS.well(ref) if reads_well else None
            update = {"columns": dict(ref.columns), "well": well, "name": name}
            return select_channels(info, recipe).model_copy(update=update)

        infos = list(map(described, self.sources, self.names))
        if told is None:
            return infos
        keys = ({"key": each.key} for each in told)
        return [info.model_copy(update=key) for info, key in zip(infos, keys, strict=True)]

    def told_apart(
        self, advance: Advance = lambda nbytes: None
    ) -> tuple[list[SourceInfo], list[Sequence[str]]]:
        """Describe every source, and the keys of its files, as `tell_apart` returns them.

        Files that look alike are read whole, each once; `advance` is called with the bytes.
        """
        infos = list(map(DESCRIPTIONS.describe, self.sources))
        parts = [DESCRIPTIONS.parts(ref) for ref in self.sources]
        lookalikes = find_lookalikes(self.sources, parts)
        digests = {i: DESCRIPTIONS.digests(self.sources[i], advance) for i in lookalikes}
        return tell_apart(infos, parts, digests)

    def with_region_of(self, key: str) -> "FormState":
        """Bind the region, which is drawn on the image on the screen, to its key."""
        recipe, region = self.recipe, self.recipe.strategy.region
        if region is None or region.source == key:
            return self
        region = region.model_copy(update={"source": key})
        strategy = recipe.strategy.model_copy(update={"region": region})
        return replace(self, recipe=recipe.model_copy(update={"strategy": strategy}))

    def without_repeats(self, advance: Advance = lambda nbytes: None) -> tuple["FormState", str]:
        """Leave out sources whose pixels are all in another one, as the export does.

        Returns
        -------
        FormState
            The state, unchanged if there are none.
        str
            A notice of what is left out, "" for nothing.

        Raises
        ------
        PatchsetError
            If two sources have some of their pixels in common, but neither has all of the other's;
            if a samples sheet states two splits for the same pixels.
        """
        if len(self.sources) == 1:
            return self, ""
        infos, parts = self.told_apart(advance)
        check_overrides(self.recipe.overrides, self.names, infos)
        repeats = find_repeats(self.sources, infos, parts)
        if is_detailed(key := infos[self.shown_index].key):
            self = self.with_region_of(key)
        if not repeats:
            return self, ""
        if self.recipe.split is not None:
            self.recipe.split.check_repeats(self.infos(), repeats)
        notice = repeats_notice(self.names, repeats)
        left = [i for i in range(len(self.sources)) if i not in repeats]
        shown = self.shown_index
        while shown in repeats:
            shown = repeats[shown]
        sources = tuple(self.sources[i] for i in left)
        return replace(self, sources=sources, shown_index=left.index(shown)), notice

    def describe_pairs(self, infos: Sequence[SourceInfo]) -> Mapping[str, Sequence[SourceInfo]]:
        """Describe the paired images by role, and check that all agree, as the export does.

        Raises
        ------
        PatchsetError
            If sources differ from the first one, or paired images from theirs, or can't be read.
        """
        plan = self.preview_plan()
        names = dict(zip(map(str, self.sources), self.names, strict=True))

        def name(text: str) -> str:
            return names.get(text) or _name(Path(text))

        pairs = {
            role: [DESCRIPTIONS.describe_pair(plan, source, role) for source in self.sources]
            for role in roles_of(plan, name)
            if role != IMAGE
        }
        images = {IMAGE: infos, **pairs}
        check_images(plan, images, name)
        return pairs

    @property
    def names(self) -> list[str]:
        """The name of each source, for messages: "cells.czi, Monolayer"."""
        return [
            f"{_name(image_path(ref))}{'' if ref.scene is None else f', {DESCRIPTIONS.label(ref)}'}"
            for ref in self.sources
        ]

    @property
    def candidates_key(self) -> Hashable:
        """Key of the settings that determine the candidates and their metrics."""
        recipe = self.recipe
        strategy = recipe.strategy.model_dump_json()
        measured = frozenset(c for each in recipe.filters for c in each.channels or ())
        channels = recipe.channels and (recipe.channels, measured)
        outlines = recipe.split is not None and recipe.split.by == ANNOTATION
        sources = tuple(map(SourceRef.without_columns, self.sources))
        return sources, strategy, recipe.depth_axis, recipe.pixel_size, channels, outlines

    @property
    def verdicts_key(self) -> Hashable:
        """Key of the settings that determine which candidates are exported, and their split."""
        recipe = self.recipe
        columns = tuple(ref.columns for ref in self.sources)
        return (
            *(recipe.filters, recipe.keep_fraction, recipe.overrides, recipe.dedupe),
            *(recipe.split, columns),
        )

    def plan(self) -> ExportPlan:
        """Return the plan of the export.

        Raises
        ------
        ArgumentError
            If no destination is chosen.
        """
        if not self.out:
            suffix = FORMATS[self.recipe.format].suffix
            raise ArgumentError(f"Choose where to save the patch set, a name like cells{suffix}.")
        return self._plan_to(self.out)

    def preview_plan(self) -> ExportPlan:
        """Return a plan for opening the sources; it is not exported."""
        return self._plan_to(f"preview{FORMATS[self.recipe.format].suffix}")

    def _plan_to(self, out: str) -> ExportPlan:
        recipe = {name: getattr(self.recipe, name) for name in Recipe.model_fields}
        # An error of the class would name the class, which the user does not know.
        return ExportPlan.model_validate({"sources": self.sources, "out": out, **recipe})


def with_pairs(
    sources: Sequence[SourceRef],
    pairs_of: Callable[[Path], Mapping[PairRole, Path]],
    loaded: Sequence[SourceRef] = (),
) -> tuple[SourceRef, ...]:
    """Add to each source its paired images; axes that the user set hold for them too.

    Parameters
    ----------
    pairs_of : callable
        Return the target, labels and mask of an image, by role.
    loaded : sequence of SourceRef
        The sources of a loaded plan. Where one of them is cut again, it has its annotations and
        columns, and its own images in each role for which no other file was chosen since.
    """
    of_plan = {(image_path(ref), ref.scene): ref for ref in loaded}
    chosen_by_plan = plan_pairs(loaded)

    def paired(ref: SourceRef) -> SourceRef:
        path = image_path(ref)
        chosen, own = pairs_of(path), of_plan.get((path, ref.scene))
        update: dict[str, Any] = {} if own is None else {"columns": own.columns}
        for role in PAIR_ROLES:
            if own is not None and (
                role == ANNOTATIONS or chosen.get(role) == chosen_by_plan[path].get(role)
            ):
                update[role] = _with_axes(getattr(own, role), ref, own)
            elif role in chosen and role != ANNOTATIONS:
                image = source_ref(chosen[role])
                update[role] = ImageRef(path=image.path, **{"axes": ref.axes} | image.overrides)
        return ref.model_copy(update=update)

    return tuple(map(paired, sources))


def _with_axes(pair: ImageRef | None, ref: SourceRef, own: SourceRef) -> ImageRef | None:
    """Return an image of a plan, with the axes that were typed for its source since."""
    if pair is None or ref.axes == own.axes:
        return pair
    return pair.model_copy(update={"axes": pair.axes or ref.axes})


def _name(path: Path) -> str:
    layer = layer_at(path)
    return path.name if layer is None else layer.name


def refresh_region(state: FormState) -> FormState:
    """Forget the files, and bind the region, if any, to what the shown one is among them now."""
    DESCRIPTIONS.forget()
    if state.recipe.strategy.region is None:
        return state
    infos, _ = state.told_apart()
    return state.with_region_of(infos[state.shown_index].key)


def read_plan(path: Path) -> ExportPlan:
    """Read a plan file.

    Raises
    ------
    ArgumentError, ValidationError
        If it holds no plan.
    """
    try:
        return ExportPlan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        if isinstance(error, ValidationError):
            raise
        raise ArgumentError(f"{path}: not a plan: {error}") from None


def plan_pairs(sources: Sequence[SourceRef]) -> dict[Path, dict[PairRole, Path]]:
    """Return the images paired with each image of a plan, by role; of its last scene."""
    return {
        image_path(source): {role: image_path(ref) for role, ref in source.pairs.items()}
        for source in sources
    }
