"""What the files of sources say and a set does not keep: names, time steps, places, full sizes."""

import logging
from collections.abc import Iterator, Mapping
from math import floor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from napari_patchset.errors import ArgumentError, PatchsetError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.stacks.metadata import SceneSummary, image_metadata
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stitching.full_resolution import FullSize

logger = logging.getLogger(__name__)


class SourceRecord(NamedTuple):
    """What the file of a source says, and the set does not keep.

    Attributes
    ----------
    name : str
        Name of the scene, and of the file if the sources are in several.
    time_step : float or None
        Seconds between two time points; None if unknown.
    translation : dict of str to float
        Position of the first pixel along those of Z, Y and X that have one, in micrometres.
    """

    name: str
    time_step: float | None = None
    translation: Mapping[str, float] = MappingProxyType({})


def read_records(patch_set: PatchSet) -> list[SourceRecord]:
    """Read the record of each source; of a file that can't be read any more, only its name."""
    refs = _source_refs(patch_set)
    is_only_file = len({ref.path for ref in refs}) == 1
    scenes: dict[str, list[SceneSummary]] = {}
    records = []
    for ref in refs:
        file = "" if is_only_file else Path(ref.path).name
        scene = "" if ref.scene is None else str(ref.scene)
        record = SourceRecord(f"{file} {scene}".strip())
        try:
            if ref.scene is not None:
                listed = scenes.get(ref.path) or scenes.setdefault(ref.path, list_scenes(ref.path))
                scene = next((each.label for each in listed if each.id == ref.scene), scene)
            with open_stack(ref.path, ref.scene, **ref.overrides) as stack:
                step, position = image_metadata(stack).time_step, getattr(stack, "translation", {})
            record = SourceRecord(f"{file} {scene}".strip(), step, position)
        except (PatchsetError, OSError) as error:
            logger.info("time step and position of %s are unknown: %s", ref, error)
        records.append(record)
    return records


def read_full_sizes(patch_set: PatchSet) -> Iterator[FullSize | None]:
    """Yield the size of each source that was resampled, as its file has it, else None.

    Raise ArgumentError if it is not the size that the set was made of.
    """
    for info, ref in zip(patch_set.manifest.sources, _source_refs(patch_set), strict=True):
        ratio = info.ratio
        if ratio is None:
            yield None
            continue
        with open_stack(ref.path, ref.scene, info.depth_axis, **ref.overrides) as stack:
            height, width = stack.data_shape[-2:]
            rect = getattr(stack, "rect", None)
        made = tuple(floor(n / r) for n, r in zip((height, width), ratio, strict=True))
        if made != info.spatial_shape[-2:]:
            raise ArgumentError(
                f"{ref.path} has {height} x {width} pixels, which are not those that the set was "
                "made of; put that file back, or stitch without the full resolution."
            )
        yield FullSize(shape=(height, width), rect=rect)


def _source_refs(patch_set: PatchSet) -> list[SourceRef]:
    return [SourceRef.model_validate(fields) for fields in patch_set.provenance.sources]
