"""Refuse a destination that is someone else's, before anything is written or removed."""

import os
from collections.abc import Iterator
from pathlib import Path

from napari_patchset.errors import ArgumentError
from napari_patchset.export.keeping.ownership import (
    require_only_own_files,
    require_own_partial,
    require_replaceable,
    require_set,
)
from napari_patchset.export.plan import ExportPlan
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patchset.layout import partial_path
from napari_patchset.stacks.naming import is_remote


def check_destination(plan: ExportPlan, overwrite: bool) -> None:
    """Refuse a plan whose set, or the folder that it is written in, would take someone's files.

    Raises
    ------
    ArgumentError
        If one of them is, holds or lies in a source.
    ExportError
        If something is there that is not ours, or lies in what is to be removed.
    """
    check_apart(plan)
    out = Path(plan.out)
    root = partial_path(out)
    require_own_partial(root)
    if root.exists():
        require_only_own_files(root)
    if os.path.lexists(out):
        if overwrite:
            require_replaceable(out)
        else:
            require_set(out)


def check_apart(plan: ExportPlan) -> None:
    """Refuse a destination that is, holds or lies in one of the plan's images; links are resolved.

    Raises
    ------
    ArgumentError
        Naming both.
    """
    out = Path(os.path.abspath(plan.out))
    places = [(place, real) for place in (out, partial_path(out)) for real in _locations(place)]
    for source in dict.fromkeys(_local_images(plan.resolved())):
        real_source = _resolved(source)
        for place, real in places:
            if relation := _relation(real, real_source):
                raise ArgumentError(f"{place} {relation} the source {source}; choose another name.")


def _relation(place: str, source: str) -> str | None:
    if place == source:
        return "is"
    if source.startswith(os.path.join(place, "")):
        return "holds"
    return "lies in" if place.startswith(os.path.join(source, "")) else None


def _local_images(plan: ExportPlan) -> Iterator[str]:
    """Yield the paths of sources, of their paired images, and of the mask that is the region."""
    paths = [image.path for source in plan.sources for image in (source, *source.beside.values())]
    region = plan.strategy.region
    if isinstance(region, MaskRegion) and region.path is not None:
        paths.append(region.path)
    return (path for path in paths if not is_remote(path))


def _locations(place: Path) -> set[str]:
    """Return where a name lies, and where it leads if it is a link."""
    return {os.path.join(_resolved(place.parent), os.path.normcase(place.name)), _resolved(place)}


def _resolved(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))
