"""The files of a plan as they were when it was made, so that other content is noticed later."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import (
    ArgumentError,
    MissingAxisError,
    UnreachableError,
    UnreadableFileError,
)
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.patchset.manifest import digest_file
from napari_patchset.source import SourceInfo, local_path, path_text
from napari_patchset.stacks.cache import FileStat
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.retrying import call_with_retries


def find_stat(path: str) -> FileStat | None:
    """Return size and time of a file, None for a folder or a URL."""
    file = local_path(path)
    return FileStat.from_file(file) if Path(file).is_file() else None


class PlannedFiles:
    """The files of a plan's images, with their sizes, times and keys when the plan was made.

    A file of the same size and time has not changed. Of another time alone, as a copy has, its key
    decides.

    Parameters
    ----------
    images : dict of str to sequence of SourceInfo
        By role, the description of every source's image.
    stats : dict of str to FileStat
        Size and time of each file, by path.
    began, remedy : str
        When the plan was made, and what the user can do, for messages.
    """

    def __init__(
        self,
        plan: ExportPlan,
        images: Mapping[str, Sequence[SourceInfo]],
        stats: Mapping[str, FileStat],
        began: str = "the export began",
        remedy: str = "export again with overwrite",
    ) -> None:
        self._plan, self._images, self._stats = plan, images, dict(stats)
        self._began, self._remedy = began, remedy

    def check(self, index: int, role: str, files: Collection[str] = ()) -> bool:
        """Return whether a file of an image has another time, but the same content.

        `files` are those that it is in besides the one it is named by. Raise UnreadableFileError if
        one is gone, or has other content.
        """
        ref = self._plan.sources[index].images[role]
        touched = dict[str, FileStat]()
        for path in sorted({ref.path, *files}):
            stat, planned = find_stat(path), self._stats.get(path)
            if stat == planned:
                continue
            if stat is None:
                raise UnreadableFileError(
                    f"{path} is missing, but was there when {self._began}; restore it, and "
                    f"{self._remedy}."
                )
            if planned is None or stat.size != planned.size:
                raise self.changed(path)
            touched[path] = stat
        if touched:
            if not self._has_planned_content(ref, self._images[role][index].key, touched):
                raise self.changed(next(iter(touched)))
            self._stats |= touched
        return bool(touched)

    def changed(self, path: str) -> UnreadableFileError:
        """Return the error for a file that is not the one that was planned for."""
        return UnreadableFileError(f"{path} has changed since {self._began}; {self._remedy}.")

    def _has_planned_content(self, ref: ImageRef, key: str, touched: Collection[str]) -> bool:
        if is_geojson(ref.path):
            return digest_file(Path(ref.path)) == key
        opened = partial(open_stack, ref.path, ref.scene, self._plan.depth_axis, **ref.overrides)
        try:
            with call_with_retries(str(ref), opened) as stack:
                keyed = set(map(path_text, getattr(stack, "files", ()))) or {ref.path}
                return keyed.issuperset(touched) and content_key(stack) == key
        except UnreachableError:
            raise
        except (UnreadableFileError, ArgumentError, MissingAxisError):
            return False
