"""Hold a set against the sources that it was cut from.

Cut patches from their source again, and compare them by their checksums.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.batches import Batches
from napari_patchset.exporting.open_images import OpenImages
from napari_patchset.exporting.plan import ExportPlan, ImageRef, Recipe, SourceRef, SourcesFailed
from napari_patchset.exporting.shard_writer import cast_exactly
from napari_patchset.exporting.sources import SourceDescriber, read_masks
from napari_patchset.exporting.tile_reader import TileReader
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patchset.layout import IMAGE, ArrayLayout
from napari_patchset.patchset.writers.zarr import checksums
from napari_patchset.source import SourceInfo
from napari_patchset.verification.check_pixels import PixelCheck
from napari_patchset.verification.subject import Candidates, Finding, OpenedSet

Rows = NDArray[np.int64]


class PatchRecutter:
    """Cut again what the arrays of one role hold, in the order of the source's tiles.

    Images are held against the checksums in the table; targets and labels, of which it has none,
    against what lies in the set.

    Parameters
    ----------
    arrays : list of ArrayLayout
        Of one role, one for each split.
    tick : callable
        Told how many patches have been read.
    memory : int
        Bytes for decoded tiles; more where a batch of patches needs it.
    threads : int
        How many decode.
    """

    def __init__(
        self,
        candidates: Candidates,
        pixels: PixelCheck,
        arrays: list[ArrayLayout],
        tick: Callable[[int], None],
        memory: int,
        threads: int,
    ) -> None:
        self._grid, self._array = candidates.grid, arrays[0]
        self._tick, self._memory, self._threads = tick, memory, threads
        self._expected = np.zeros(len(self._grid), np.uint32)
        self._known = np.zeros(len(self._grid), bool)
        for array in arrays:
            members = candidates.members(array)
            if members is not None:  # else the table has another number of them, which is said
                said = candidates.image_checksums(array)
                self._expected[members] = pixels.found[array.name] if said is None else said
                self._known[members] = said is not None or ~pixels.unreadable[array.name]

    def differing(self, images: OpenImages, plan: ExportPlan, index: int, info: SourceInfo) -> Rows:
        """Give the candidates of one source that are not what it holds.

        Raises
        ------
        SourcesFailed, ExportError
            If the source can't be read; if its pixels do not fit the type of the set.
        """
        chosen = np.flatnonzero(self._known & (self._grid.source_index == index))
        if not len(chosen):
            return chosen
        units = (
            np.arange(len(chosen)) // self._array.patches_per_shard
        )  # no batch is larger than a shard
        batches = Batches.of(self._grid, [info] * (index + 1), images.pad, chosen, units)
        found = self._cut(images, plan, index, batches)
        differ: Rows = chosen[found[chosen] != self._expected[chosen]]
        return differ

    def _cut(
        self, images: OpenImages, plan: ExportPlan, index: int, batches: Batches
    ) -> NDArray[np.uint32]:
        """Give the checksum of each candidate, read from its source."""
        array, found = self._array, np.zeros(len(self._grid), np.uint32)
        reader = TileReader(batches, images, array.role, self._memory, self._threads)
        with closing(reader.read()) as read:
            for batch in read:
                chosen, shape = batch.candidates, (len(batch.candidates), *array.patch_shape)
                patches = np.empty(shape, reader.dtype_of(batch))
                reader.fill(batch, patches)
                grid, source = self._grid[chosen], plan.sources[index]
                found[chosen] = checksums(cast_exactly(patches, array.pixel_type, grid, source))
                self._tick(len(chosen))
        return found


class SourceCheck:
    """Open every source again, and cut from it every patch that is in the set.

    Parameters
    ----------
    pixels : PixelCheck
        That has read the set.
    tick : callable
        Told how many patches have been read.
    memory : int
        Bytes for decoded tiles; more where a patch needs it.
    threads : int
        How many decode.
    """

    def __init__(
        self,
        subject: OpenedSet,
        candidates: Candidates,
        pixels: PixelCheck,
        tick: Callable[[int], None],
        memory: int,
        threads: int,
    ) -> None:
        self._subject, self._candidates = subject, candidates
        self._recutting = {
            role: PatchRecutter(candidates, pixels, list(arrays), tick, memory, threads)
            for role, arrays in groupby(
                sorted(subject.arrays, key=attrgetter("role")), attrgetter("role")
            )
        }

    def run(self) -> Iterator[Finding]:
        """Find what has changed, is away, or does not hold the pixels that the table names."""
        plan = self._plan()
        if plan is None or len(plan.sources) != len(self._subject.sources):
            yield Finding(
                "edited manifest",
                f"{self._subject.path}: the provenance does not say where each of the "
                f"{len(self._subject.sources)} sources lies, so they are not looked at.",
            )
            return
        describe, infos = SourceDescriber(plan), list[SourceInfo]()
        with OpenImages(plan) as images:
            for index, ref in enumerate(plan.sources):
                if self._candidates.is_left_out(index):
                    continue
                for role, image in ref.images.items():
                    info = yield from self._check_image(describe, index, image, role)
                    if info is not None:
                        infos += [info] if role == IMAGE else []
                        yield from self._compare(images, plan, index, role, info)
        if len(infos) == len(plan.sources):
            yield from self._check_plan(plan, infos)

    def _plan(self) -> ExportPlan | None:
        """Give the plan again; what the set is called now does not matter."""
        recipe, out = self._subject.recipe, f"set{self._subject.form.suffix}"
        fields = {name: getattr(recipe, name) for name in Recipe.model_fields}
        try:
            refs = [SourceRef.model_validate(ref) for ref in self._subject.provenance.sources]
            return ExportPlan(**fields, sources=tuple(refs), out=out)
        except ValidationError:
            return None

    def _check_image(
        self, describe: SourceDescriber, index: int, image: ImageRef, role: str
    ) -> Generator[Finding, None, SourceInfo | None]:
        """Describe an image, None if it is not what it was; what lies beside one has no key."""
        try:
            info = describe(image, role)
        except OSError as error:
            said = f"{image}: {error}; bring it back, or verify without the sources."
            yield Finding("absent source", said)
            return None
        except PatchsetError as error:
            yield Finding("changed source", f"{image}: {error}; export the set again.")
            return None
        if role == IMAGE and (changes := _changes(info, self._subject.sources[index])):
            yield Finding("changed source", f"{image}: {changes}; export the set again.")
            return None
        return info

    def _compare(
        self, images: OpenImages, plan: ExportPlan, index: int, role: str, info: SourceInfo
    ) -> Iterator[Finding]:
        """Cut the patches of one image again."""
        if role not in self._recutting:
            return
        image = plan.sources[index].images[role]
        try:
            wrong = self._recutting[role].differing(images, plan, index, info)
        except SourcesFailed as failed:
            yield Finding("changed source", f"{failed}; export the set again.")
            return
        except (PatchsetError, ValueError) as error:
            yield Finding("differs from source", f"{image}: {error}; export the set again.")
            return
        if len(wrong):
            yield Finding(
                "differs from source",
                f"{self._subject.path}: the {role} of {len(wrong)} patches is not what {image} "
                f"holds there, the first is in row {wrong[0]} of the table; export the set again.",
            )

    def _check_plan(self, plan: ExportPlan, infos: Sequence[SourceInfo]) -> Iterator[Finding]:
        """Find candidates that the recipe does not give; it does not say where a mask lies."""
        if isinstance(plan.strategy.region, MaskRegion):
            return
        grid = plan.strategy.plan(infos, read_masks(plan.strategy))
        held, dropped = self._candidates.grid, self._subject.manifest.dropped
        columns = ("source_index", "sample", "start")
        if grid.size != held.size or not all(
            np.array_equal(getattr(grid, name), getattr(held, name)) for name in columns
        ):
            yield Finding(
                "edited table",
                f"{self._subject.table_path}: its {len(held)} candidates are not the {len(grid)} "
                "that the recipe gives; export the set again.",
            )
        if dict(grid.excluded) != dropped:
            yield Finding(
                "wrong counts",
                f"{self._subject.path}: dropped by the manifest: {dropped}, by the recipe: "
                f"{dict(grid.excluded)}; export the set again.",
            )


def _changes(info: SourceInfo, before: SourceInfo) -> str:
    """Say what differs in two descriptions."""
    has, had = info.model_dump(), before.model_dump()
    return ", ".join(
        f"its {name} is {has[name]}, not {had[name]}" for name in has if has[name] != had[name]
    )
