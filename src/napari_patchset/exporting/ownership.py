"""Tell what an export wrote from what is someone else's: only the former is ever removed.

Refuse a destination that is someone else's, before anything is written or removed.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from napari_patchset.errors import (
    ArgumentError,
    ExportError,
    IncompleteSetError,
    UnreadableFileError,
)
from napari_patchset.exporting.frozen_plan import FrozenPlan
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patchset.consistency import require_consistent
from napari_patchset.patchset.disk import LOCK
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    DESCRIPTION,
    SPLIT_PATTERN,
    TABLE,
    partial_path,
    read_json,
)
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import is_remote

PLAN = "plan.json"
"""The plan of an unfinished export; with it, a folder is ours even without the lock."""

_REMEDY = "choose another name, or move it away"

_EXPORT_FILE = re.compile(
    rf"{re.escape(LOCK)}|lock|stop|{re.escape(PLAN)}|(candidates|selection)[.]parquet"
    rf"|scores/[0-9]+[.]parquet|failed/[0-9]+[.]json|shards/{ARRAY_PATTERN}/[0-9]+[.]json"
)
"""A file of an unfinished export, outside of its set. Earlier versions locked the file `lock`."""

_SET_FOLDERS = ("set/", "replaced/")
"""The set that is being written, and the one that it replaces."""

_SET_FILE = re.compile(
    rf"{re.escape(TABLE)}|{re.escape(DESCRIPTION)}|(({ARRAY_PATTERN}|{SPLIT_PATTERN})/)?zarr[.]json"
)
"""A file of a set, complete or not, that holds no patches."""

_DRAFT = re.compile(r"(^|/)[.]([^/]+)[.][0-9a-f]{32}[.]draft$")
"""How `whole_file` names a file that it has not completed."""

_FOLDER = re.compile(
    rf"(.*/)?(set|replaced|scores|failed|shards|[.]parts|c|[0-9]+|{SPLIT_PATTERN}|{ARRAY_PATTERN})"
)
"""A folder of an unfinished export or of a set; only empty ones are removed."""


def require_own_partial(root: Path) -> None:
    """Refuse a NAME.partial that no export of ours made; an empty folder holds nothing to lose.

    Raises
    ------
    ExportError
        If it is a file, a link, or a folder with neither our lock nor a plan of ours in it.
    """
    if not _is_own_partial(root):
        raise ExportError(f"{root} exists and is no unfinished export of ours; {_REMEDY}.")


def require_only_own_files(root: Path) -> None:
    """Refuse a NAME.partial of ours that holds something which no export writes.

    Raises
    ------
    ExportError
        Naming it.
    """
    _require_only(root, _is_export_file, "an unfinished export")


def require_replaceable(out: Path) -> None:
    """Refuse to replace what is no patch set, or one that holds something besides.

    Raises
    ------
    ExportError
        Naming what is not ours.
    """
    manifest = _manifest(out)
    form = FORMATS[manifest.format]
    arrays = {name: manifest.layout(name) for name in manifest.arrays}
    described = form.descriptions(Path(), list(arrays.values()), {})
    names = {TABLE, *(path.as_posix() for path in described)}
    _require_only(out, lambda name: name in names or form.contains(arrays, name), "a patch set")


def require_set(out: Path) -> None:
    """Refuse what is no patch set of ours.

    Raises
    ------
    ExportError
        If it is a file, a link, or a folder without a manifest that can be read.
    """
    _manifest(out)


def remove_own_files(root: Path, spared: Callable[[str], bool]) -> None:
    """Remove the files that an export writes, and folders that are empty then; nothing else.

    Parameters
    ----------
    root : Path
        The folder NAME.partial, which itself stays.
    spared : callable
        Whether a file stays, by its path below `root` with slashes.
    """
    if root.is_dir():
        _remove(root, "", spared)


def _is_own_partial(root: Path) -> bool:
    if root.is_symlink():
        return False
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    if not names or LOCK in names:
        return True
    return FrozenPlan.model_fields.keys() <= read_json(root / PLAN).keys()


def _manifest(out: Path) -> Manifest:
    try:
        if out.is_symlink():
            raise IncompleteSetError("a link")
        manifest, _ = read_description(out)
        require_consistent(manifest, out)
    except (IncompleteSetError, UnreadableFileError, OSError) as error:
        raise ExportError(
            f"{out} exists; {_REMEDY}: it is not replaced, as it is no patch set of ours."
        ) from error
    return manifest


def _is_export_file(name: str) -> bool:
    """Whether a path below NAME.partial is that of a file which an export writes."""
    name = _DRAFT.sub(r"\1\2", name)
    folder = next((folder for folder in _SET_FOLDERS if name.startswith(folder)), None)
    if folder is None:
        return _EXPORT_FILE.fullmatch(name) is not None
    name = name.removeprefix(folder)
    patterns = (_SET_FILE, *(form.unit_pattern for form in FORMATS.values()))
    return any(pattern.fullmatch(name) for pattern in patterns)


def _require_only(root: Path, is_file: Callable[[str], bool], kind: str) -> None:
    for name, entry in _entries(root):
        if entry.is_symlink() or not (_FOLDER.fullmatch(name) if entry.is_dir() else is_file(name)):
            raise ExportError(
                f"{root} holds {name}, which is no part of {kind}: move it away, or choose "
                "another name."
            )


def _entries(folder: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all that lies below a folder, with its path below it; no link is followed.

    Another export may be at work there, or have just ended.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")


def _remove(folder: Path | str, prefix: str, spared: Callable[[str], bool]) -> None:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        name = prefix + entry.name
        if entry.is_symlink():
            continue
        if entry.is_dir():
            _remove(entry.path, f"{name}/", spared)
            if _FOLDER.fullmatch(name) and not os.listdir(entry.path):
                os.rmdir(entry.path)
        elif _is_export_file(name) and not spared(name):
            os.unlink(entry.path)


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
