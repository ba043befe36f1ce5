"""Check that the sources still are what was planned for."""

from collections.abc import Callable, Container

from napari_patchset.export.failures import BROKEN, Failure
from napari_patchset.export.keeping.frozen import FrozenPlan
from napari_patchset.export.sources.describing import SourceDescriber
from napari_patchset.export.sources.stamps import changed, require_stamp


def find_changed(
    frozen: FrozenPlan, but: Container[int] = (), proceed: Callable[[], None] = lambda: None
) -> dict[int, Failure]:
    """Find the sources that are gone, or differ in size, time or content from what was planned.

    Parameters
    ----------
    but : container of int
        Sources that need no look, by index.
    proceed : callable
        Asked before each source is opened; what it raises ends the search.
    """
    describer = SourceDescriber(frozen.plan)
    found = {}
    for index, ref in enumerate(frozen.plan.sources):
        if index not in but:
            proceed()
            try:
                _require_unchanged(frozen, index, describer)
            except BROKEN as error:
                found[index] = Failure(source=str(ref), message=str(error))
    return found


def _require_unchanged(frozen: FrozenPlan, index: int, describer: SourceDescriber) -> None:
    for role, infos in frozen.images.items():
        ref = frozen.plan.sources[index].images[role]
        require_stamp(ref.path, frozen.stamps)
        if describer.key(ref) != infos[index].key:
            raise changed(ref.path)
