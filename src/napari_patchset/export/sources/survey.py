"""Look at every source of a plan once: what can be opened, and what is known without its pixels."""

from collections.abc import Callable
from dataclasses import dataclass

from napari_patchset.export.failures import BROKEN, Failure
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import MASK, SourceRef
from napari_patchset.export.sources.agreement import check_agreement, check_geometry
from napari_patchset.export.sources.describing import SourceDescriber
from napari_patchset.export.sources.pairs import roles_of, with_scenes
from napari_patchset.export.sources.stamps import Stamp, find_stamp
from napari_patchset.patchset.layout import IMAGE, LABELS
from napari_patchset.source import SourceInfo

Images = dict[str, tuple[SourceInfo, ...]]


@dataclass(frozen=True)
class Survey:
    """What was found; see `FrozenPlan` for its attributes."""

    asked: tuple[SourceRef, ...]
    plan: ExportPlan
    images: Images
    stamps: dict[str, Stamp]
    failures: tuple[Failure, ...]


def survey(plan: ExportPlan, proceed: Callable[[], None] = lambda: None) -> Survey:
    """Open and describe every source; those that are broken are left out, unless all are.

    Parameters
    ----------
    proceed : callable
        Asked before each source is opened; what it raises ends the survey.

    Raises
    ------
    PatchsetError, OSError
        If sources do not agree with each other or with the images beside them; if none can be
        read.
    """
    plan = plan.resolved()
    found, failures = _describe(plan, proceed)
    readable = plan.model_copy(update={"sources": tuple(ref for ref, _ in found)})
    images: Images = {role: tuple(each[role] for _, each in found) for role in found[0][1]}
    _check(readable, images)
    paths = {image.path for ref in readable.sources for image in ref.images.values()}
    stamps = {path: stamp for path in sorted(paths) if (stamp := find_stamp(path))}
    return Survey(plan.sources, readable, images, stamps, tuple(failures))


Described = tuple[SourceRef, dict[str, SourceInfo]]


def _describe(
    plan: ExportPlan, proceed: Callable[[], None]
) -> tuple[list[Described], list[Failure]]:
    roles, describe_one = roles_of(plan), SourceDescriber(plan)
    found: list[Described] = []
    failures = []
    for asked in plan.sources:
        proceed()
        try:
            ref = with_scenes(asked)
            found.append((ref, {role: describe_one(ref.images[role], role) for role in roles}))
        except BROKEN as error:
            if asked is plan.sources[-1] and not found:
                raise
            failures.append(Failure(source=str(asked), message=str(error)))
    return found, failures


def _check(plan: ExportPlan, images: Images) -> None:
    for role, infos in images.items():
        if role != MASK:
            refs = [ref.images[role] for ref in plan.sources]
            check_agreement(refs, infos, None if role == LABELS else plan.dtype)
        check_geometry(role, plan.sources, infos, images[IMAGE])
