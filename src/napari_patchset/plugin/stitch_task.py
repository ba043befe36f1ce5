"""What the dialog *Stitch predictions* does in background threads: check its fields, and stitch."""

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from threading import Event
from typing import Any, NamedTuple

from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.plugin.dialogs import USER_ERRORS
from napari_patchset.source import local_path
from napari_patchset.stitching.stitch import (
    PredictionPaths,
    StitchOptions,
    StitchProgress,
    check_stitching,
    iter_stitch,
)
from napari_patchset.stitching.stitch_folder import StitchFolder, StitchPlan
from napari_patchset.stitching.stitched_image import StitchedImage, images_of


class Choice(NamedTuple):
    """What the fields of the dialog say, or an unfinished stitching."""

    patch_set: str
    predictions: PredictionPaths
    split: str | None
    """The split that is predicted; None for all that the predictions name."""
    out: str
    options: StitchOptions

    @property
    def by_split(self) -> Any:
        """The predictions as `iter_stitch` takes them."""
        return self.predictions if self.split is None else {self.split: self.predictions}

    @property
    def folder(self) -> StitchFolder:
        """The folder of its stitching while that is unfinished."""
        return StitchFolder.for_name(self.out)

    def plan(self) -> StitchPlan:
        """Check that all of it fits together; see `check_stitching`."""
        return check_stitching(self.patch_set, self.by_split, self.out, self.options)


class Checked(NamedTuple):
    """What a choice would stitch, "" if it is not complete, and what has its name already."""

    text: str = ""
    is_taken: bool = False
    """Whether a stitching with other settings is unfinished under that name."""
    other: Choice | None = None
    """That stitching, None if it can't be continued."""


def check_choice(choice: Choice) -> Generator[tuple[str, ...], None, Checked]:
    """Check the fields; runs in a background thread.

    Yields
    ------
    tuple of str
        The splits of the set.
    """
    with PatchSet(choice.patch_set) as patch_set:
        yield patch_set.splits
        if not choice.predictions or not choice.out:
            return Checked()
        manifest = patch_set.manifest
    plan, folder = choice.plan(), choice.folder
    folder.check_free(overwrite=False)
    if not (is_begun := folder.has_plan(plan)) and folder.has_shards:
        name = folder.out.name
        if (other := _unfinished(folder)) is None:
            return Checked(f"An unfinished stitching of {name} can't be continued.", is_taken=True)
        question = f"A stitching of {name} with other settings is unfinished."
        return Checked(question, is_taken=True, other=other)
    images = list(images_of(manifest.sources, plan.channels, plan.dtype, plan.factor))
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    n = len(plan.channels)
    sizes = list(map(_sizes, images))
    largest = {axis: max(each.get(axis, 1) for each in sizes) for axis in images[0].axes}
    shape = " × ".join(f"{axis} {size:,}" for axis, size in largest.items() if axis in sizes[0])
    up_to = "" if all(each == sizes[0] for each in sizes) else "up to "
    text = f"{count}, {up_to}{shape} px, {n} channel{'s' * (n > 1)}, {plan.dtype}"
    resumes = "; resumes where it stopped" if is_begun else ""
    return Checked(f"{text}{resumes}.{_not_covered(manifest, choice.split)}")


def _unfinished(folder: StitchFolder) -> Choice | None:
    """Return the choice that continues what is unfinished, None if none does."""
    if (plan := folder.readable_plan()) is None:
        return None
    options = StitchOptions(
        blend=plan.blend,
        fill=plan.fill,
        channel_names=plan.channels,
        argmax=plan.argmax,
        full_resolution=plan.interpolation,
        codec=plan.codec,
    )
    paths = {split: local_path(file.path) for split, file in plan.predictions.items()}
    choice = Choice(local_path(plan.patch_set), paths, None, str(folder.out), options)
    try:
        return choice if folder.has_plan(choice.plan()) else None
    except USER_ERRORS:  # the set, or predictions, are gone
        return None


def _sizes(image: StitchedImage) -> dict[str, int]:
    """Return the size of an image along each of its axes."""
    sizes = dict(zip(image.frame_axes, image.frame_shape, strict=True))
    return sizes | dict(zip(image.spatial_axes, image.spatial_shape(0), strict=True))


def _not_covered(manifest: Manifest, split: str | None) -> str:
    """Return which patches of a set have no prediction, as a sentence; "" if all have one."""
    counts = Counter(manifest.counts)
    without = {
        "rejected": sum(manifest.rejected.values()),
        "put in another split": 0 if split is None else counts.total() - counts[split],
    }
    parts = [
        f"{n:,} patch{'es were' if n > 1 else ' was'} {which}" for which, n in without.items() if n
    ]
    return f" {' and '.join(parts)}: what they alone cover gets 0." if parts else ""


def run_stitching(
    choice: Choice, starts_over: bool, memory: int, cancelled: Event
) -> Generator[StitchProgress, None, StitchProgress | None]:
    """Stitch; runs in a background thread. Return the last event, None if it was stopped."""
    last = None
    if starts_over:
        choice.folder.delete()
    events = iter_stitch(
        choice.patch_set, choice.by_split, choice.out, memory=memory, **dict(choice.options)
    )
    with closing(events):
        for event in events:
            yield event
            last = event if event.stage == "done" else None
            if cancelled.is_set():
                break
    return last
