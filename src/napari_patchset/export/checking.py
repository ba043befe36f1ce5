"""Check that the sources still are what was planned for."""

from collections.abc import Container

from napari_patchset.errors import UnreadableFileError
from napari_patchset.export.failures import BROKEN, Failure
from napari_patchset.export.frozen import FrozenPlan
from napari_patchset.export.sources import SourceDescriber
from napari_patchset.export.survey import find_stamp


def find_changed(frozen: FrozenPlan, but: Container[int] = ()) -> dict[int, Failure]:
    """Find the sources that are gone, or differ in size, time or content from what was planned.

    Parameters
    ----------
    but : container of int
        Sources that need no look, by index.
    """
    describer = SourceDescriber(frozen.plan)
    found = {}
    for index, ref in enumerate(frozen.plan.sources):
        if index not in but:
            try:
                _require_unchanged(frozen, index, describer)
            except BROKEN as error:
                found[index] = Failure(source=str(ref), message=str(error))
    return found


def _require_unchanged(frozen: FrozenPlan, index: int, describer: SourceDescriber) -> None:
    for role, infos in frozen.images.items():
        ref = frozen.plan.sources[index].images[role]
        same = find_stamp(ref.path) == frozen.stamps.get(ref.path)
        if not same or describer.key(ref) != infos[index].key:
            raise UnreadableFileError(
                f"{ref.path} has changed since the export began; export again with overwrite."
            )
