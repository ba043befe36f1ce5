"""Which files are ours: an export removes and replaces only what an export wrote.

NAME.partial is ours if our lock file or a plan of ours is in it, a set if its manifest can be read.
In both, every file must have a name that an export gives; only then, and only such files, are
removed. Files that the system puts into any folder (litter) hold nothing of a person's: they do
not count, and go with their folder.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from napari_patchset.errors import ExportError, IncompleteSetError, UnreadableFileError
from napari_patchset.patchset.files import DRAFT_PATTERN, read_json
from napari_patchset.patchset.layout import ARRAY_PATTERN, DESCRIPTION, SPLIT_PATTERN, TABLE
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.writers import FORMATS

LOCK = "napari-patchset.lock"
"""The file that is locked (see `folder_lock`). It is the first file in the folder and the last,
so its name, which nothing else has, marks the folder as ours."""

PLAN = "plan.json"
"""The plan of an unfinished export; with it, a folder is ours even without the lock."""

_PLAN_KEYS = {"plan", "images", "n_candidates"}

_REMEDY = "choose another name, or move it away"

_EXPORT_FILE = re.compile(
    rf"{re.escape(LOCK)}|lock|stop|{re.escape(PLAN)}|(candidates|selection)[.]parquet"
    rf"|scores/[0-9]+[.]parquet|failed/[0-9]+[.]json|shards/{ARRAY_PATTERN}/[0-9]+[.]json"
)
"""A file of an unfinished export outside of its set. Earlier versions locked the file `lock`."""

_SET_FOLDERS = ("set/", "replaced/")
"""The set that is being written, and the one that it replaces."""

_SET_FILE = re.compile(
    rf"{re.escape(TABLE)}|{re.escape(DESCRIPTION)}|(({ARRAY_PATTERN}|{SPLIT_PATTERN})/)?zarr[.]json"
)
"""A file of a set, complete or not, that holds no patches."""

_DRAFT = re.compile(rf"(?P<folder>^|/){DRAFT_PATTERN}$")

_FOLDER = re.compile(
    rf"(.*/)?(set|replaced|scores|failed|shards|[.]parts|c|[0-9]+|{SPLIT_PATTERN}|{ARRAY_PATTERN})"
)
"""A folder of an unfinished export or of a set; only empty ones are removed."""

_LITTER = re.compile(
    r"(.*/)?([.]DS_Store|Thumbs[.]db|desktop[.]ini|[.]nfs[0-9a-f]+)", re.IGNORECASE
)
"""Files of macOS's Finder, of Windows' Explorer, and of NFS for deleted files that are open."""


def is_litter(name: str) -> bool:
    """Return whether a file, by its name or path, is one that the system puts into any folder."""
    return _LITTER.fullmatch(name) is not None


def require_own_partial(root: Path) -> None:
    """Raise ExportError if NAME.partial exists and no export of ours made it.

    An empty folder holds nothing to lose, so it counts as ours.
    """
    if not _is_own_partial(root):
        raise ExportError(f"{root} exists and is no unfinished export of ours; {_REMEDY}.")


def require_only_own_files(root: Path) -> None:
    """Raise ExportError if a NAME.partial of ours holds a file that no export writes."""
    _require_only(root, _is_export_file, "an unfinished export")


def require_set(out: Path) -> None:
    """Raise ExportError if `out` is no patch set: a file, a link, a folder without a manifest."""
    _read_own_manifest(out)


def require_replaceable(out: Path) -> None:
    """Raise ExportError if `out` is no patch set, or naming a file that does not belong to it."""
    manifest = _read_own_manifest(out)
    form, arrays = FORMATS[manifest.format], manifest.arrays
    metadata_files = form.metadata_files(Path(), list(arrays.values()), {})
    names = {TABLE, *(path.as_posix() for path in metadata_files)}
    _require_only(out, lambda name: name in names or form.contains(arrays, name), "a patch set")


def remove_own_files(root: Path, keep: Callable[[str], bool]) -> None:
    """Remove the files that an export writes, litter, and folders that are empty then.

    Parameters
    ----------
    root : Path
        The folder NAME.partial, which itself stays.
    keep : callable
        Whether a file stays, by its path below `root` with slashes.
    """
    if root.is_dir():
        _remove(root, "", keep)


def _is_own_partial(root: Path) -> bool:
    if root.is_symlink():
        return False
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    if LOCK in names or all(map(is_litter, names)):
        return True
    return read_json(root / PLAN).keys() >= _PLAN_KEYS


def _read_own_manifest(out: Path) -> Manifest:
    try:
        if out.is_symlink():
            raise IncompleteSetError("a link")
        manifest, _ = read_description(out)
        manifest.require_consistent(out)
    except (IncompleteSetError, UnreadableFileError, OSError) as error:
        raise ExportError(
            f"{out} exists; {_REMEDY}: it is not replaced, as it is no patch set of ours."
        ) from error
    return manifest


def _is_export_file(name: str) -> bool:
    """Return whether a path below NAME.partial is that of a file which an export writes."""
    name = _DRAFT.sub(r"\g<folder>\g<name>", name)
    folder = next((folder for folder in _SET_FOLDERS if name.startswith(folder)), None)
    if folder is None:
        return _EXPORT_FILE.fullmatch(name) is not None
    name = name.removeprefix(folder)
    patterns = (_SET_FILE, *(form.shard_pattern for form in FORMATS.values()))
    return any(pattern.fullmatch(name) for pattern in patterns)


def _require_only(root: Path, is_own_file: Callable[[str], bool], kind: str) -> None:
    for name, entry in _entries(root):
        if entry.is_symlink():
            is_own = False
        elif entry.is_dir():
            is_own = _FOLDER.fullmatch(name) is not None
        else:
            is_own = is_own_file(name) or is_litter(name)
        if not is_own:
            raise ExportError(
                f"{root} holds {name}, which is no part of {kind}: move it away, or choose "
                "another name."
            )


def _entries(folder: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything below a folder, with its path below it; links are not followed.

    Another export may be working there, or have just ended.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")


def _remove(folder: Path | str, prefix: str, keep: Callable[[str], bool]) -> None:
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    for entry in entries:
        name = prefix + entry.name
        if entry.is_symlink():
            continue
        if entry.is_dir():
            _remove(entry.path, f"{name}/", keep)
            if _FOLDER.fullmatch(name) and not os.listdir(entry.path):
                os.rmdir(entry.path)
        elif is_litter(name) and (not prefix or _FOLDER.fullmatch(prefix[:-1])):
            with suppress(OSError):  # the system may be using it, or have removed it itself
                os.unlink(entry.path)
        elif _is_export_file(name) and not keep(name):
            os.unlink(entry.path)
