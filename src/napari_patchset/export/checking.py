"""Check that the sources still are what was planned for."""

from collections.abc import Callable, Container, Mapping

from napari_patchset.errors import UnreadableFileError
from napari_patchset.export.failures import BROKEN, Failure
from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.sources import SourceDescriber
from napari_patchset.export.survey import Stamp, find_stamp


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
            raise _changed(ref.path)


def require_stamp(path: str, stamps: Mapping[str, Stamp]) -> None:
    """Refuse a file whose size or time are not those that were found when the plan was made."""
    if find_stamp(path) != stamps.get(path):
        raise _changed(path)


def _changed(path: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{path} has changed since the export began; export again with overwrite."
    )
