"""The destination of a set: files that an export may remove or replace, and free disk space.

The set, and the folder NAME.partial in which it is written, must not touch a source, and must not
replace anything that no export wrote. NAME.partial is ours if our lock file or a plan of ours is in
it, a set if its manifest can be read. In both, every file must have a name that an export gives;
only then, and only such files, are removed. Files that the system puts into any folder (litter) do
not count, and go with their folder.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ByteSize

from napari_patchset.errors import (
    ArgumentError,
    ExportError,
    IncompleteSetError,
    UnreadableFileError,
)
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.jobs.lock import LOCK
from napari_patchset.jobs.own_files import is_litter
from napari_patchset.patching.regions import MaskRegion
from napari_patchset.patchset.files import DRAFT_PATTERN, read_json
from napari_patchset.patchset.layout import (
    ARRAY_PATTERN,
    DESCRIPTION,
    SPLIT_PATTERN,
    TABLE,
    ArrayLayout,
    workdir_path,
)
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import is_remote

PLAN = "plan.json"
"""The plan of an unfinished export; with it, a folder is ours even without the lock."""

REPLACED = "replaced"
"""A set that is being replaced, until the new one has its name."""

_REMEDY = "choose another name, or move it elsewhere"

_EXPORT_FILE = re.compile(
    rf"{re.escape(LOCK)}|lock|stop|running[.][0-9a-f]{{32}}|{re.escape(PLAN)}|(candidates|selection)[.]parquet"
    rf"|scores/[0-9]+[.]parquet|failed/[0-9]+[.]json|shards/{ARRAY_PATTERN}/[0-9]+[.]json"
)
"""A file of an unfinished export outside of its set. Earlier versions locked the file `lock`."""

_SET_FILE = re.compile(
    rf"{re.escape(TABLE)}|{re.escape(DESCRIPTION)}|(({ARRAY_PATTERN}|{SPLIT_PATTERN})/)?zarr[.]json"
)
"""A file of a set, complete or not, that holds no patches."""

_DRAFT = re.compile(rf"(?P<folder>^|/){DRAFT_PATTERN}$")

_FOLDER = re.compile(
    rf"(.*/)?(set|{REPLACED}|scores|failed|shards|[.]parts|c|[0-9]+|{SPLIT_PATTERN}|{ARRAY_PATTERN})"
)
"""A folder of an unfinished export or of a set; only empty ones are removed."""


def check_destination(plan: ExportPlan, overwrite: bool) -> None:
    """Refuse a plan whose set, or the folder that it is written in, would replace other files.

    Raises
    ------
    ArgumentError
        If one of them is, holds or lies in a source.
    ExportError
        If something else has the name of one of them, or is in a folder that would be removed.
    """
    check_apart(plan)
    out = Path(plan.out)
    root = workdir_path(out)
    check_own_workdir(root)
    if root.exists():
        check_only_own_files(root)
    if os.path.lexists(out):
        if overwrite:
            check_replaceable(out)
        else:
            _read_own_manifest(out)


def check_apart(plan: ExportPlan) -> None:
    """Raise ArgumentError, naming both, if the destination is, holds or lies in an image.

    Links are resolved.
    """
    out = Path(os.path.abspath(plan.out))
    folders = [(folder, real) for folder in (out, workdir_path(out)) for real in _locations(folder)]
    for image in dict.fromkeys(_local_images(plan.resolved())):
        real_image = _resolved(image)
        for folder, real in folders:
            if relation := _relation(real, real_image):
                raise ArgumentError(f"{folder} {relation} the source {image}; choose another name.")


def _relation(folder: str, image: str) -> str | None:
    if folder == image:
        return "is"
    if image.startswith(os.path.join(folder, "")):
        return "holds"
    return "lies in" if folder.startswith(os.path.join(image, "")) else None


def _local_images(plan: ExportPlan) -> Iterator[str]:
    """Yield the paths of sources, of their paired images, and of the mask that is the region."""
    paths = [image.path for source in plan.sources for image in (source, *source.pairs.values())]
    region = plan.strategy.region
    if isinstance(region, MaskRegion) and region.path is not None:
        paths.append(region.path)
    return (path for path in paths if not is_remote(path))


def _locations(path: Path) -> set[str]:
    """Return the path of a name, and its target if it is a link."""
    own = os.path.join(_resolved(path.parent), os.path.normcase(path.name))
    return {own, _resolved(path)}


def _resolved(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def check_space(root: Path, sizes: Iterable[tuple[ArrayLayout, int]]) -> None:
    """Raise ExportError if patches need more than the free space of the disk of `root`.

    `sizes` are arrays and the number of their patches. Compressed arrays count nothing, since their
    size is not known in advance.
    """
    folder = next(path for path in root.absolute().parents if path.exists())
    needed = sum(n * layout.patch_bytes for layout, n in sizes if layout.codec == "none")
    free = shutil.disk_usage(folder).free
    if needed > free:
        needs, has = (
            ByteSize(n).human_readable(decimal=True, separator=" ") for n in (needed, free)
        )
        raise ExportError(
            f"The patch set needs {needs}, but {folder} has {has} free; make room, or export fewer "
            "patches."
        )


def check_own_workdir(root: Path) -> None:
    """Raise ExportError if NAME.partial exists and no export of ours made it."""
    if not _is_own_workdir(root):
        raise ExportError(f"{root} exists and is not an unfinished export of patchset; {_REMEDY}.")


def check_only_own_files(root: Path) -> None:
    """Raise ExportError if a NAME.partial of ours holds a file that no export writes."""
    _check_only(root, _is_export_file, "an unfinished export")


def check_replaceable(out: Path) -> None:
    """Raise ExportError if `out` is not a patch set, or has a file that does not belong to it."""
    manifest = _read_own_manifest(out)
    set_format, arrays = FORMATS[manifest.format], manifest.arrays
    metadata_files = set_format.metadata_files(Path(), list(arrays.values()), {})
    names = {TABLE, *(path.as_posix() for path in metadata_files)}
    _check_only(out, lambda name: name in names or set_format.contains(arrays, name), "a patch set")


def remove_own_files(root: Path) -> None:
    """Remove the files in NAME.partial that an export writes, litter, and folders empty then.

    The folder itself stays, with what marks it as ours: lock and plan.
    """
    if root.is_dir():
        _remove(root, "")


def _is_own_workdir(root: Path) -> bool:
    if root.is_symlink():
        return False
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    if LOCK in names or all(map(is_litter, names)):  # an empty folder has nothing to lose
        return True
    return read_json(root / PLAN).keys() >= {"plan", "images", "n_candidates"}


def _read_own_manifest(out: Path) -> Manifest:
    try:
        if out.is_symlink():
            raise IncompleteSetError("a link")
        manifest, _ = read_description(out)
        manifest.check_consistent(out)
    except (IncompleteSetError, UnreadableFileError, OSError) as error:
        raise ExportError(
            f"{out} exists; {_REMEDY}: it was not written by napari-patchset."
        ) from error
    return manifest


def _is_export_file(name: str) -> bool:
    """Return whether a path below NAME.partial is that of a file which an export writes."""
    name = _DRAFT.sub(r"\g<folder>\g<name>", name)
    folder, _, name_in_set = name.partition("/")
    if folder not in ("set", REPLACED):  # being written, and replaced by it
        return _EXPORT_FILE.fullmatch(name) is not None
    patterns = (_SET_FILE, *(set_format.shard_pattern for set_format in FORMATS.values()))
    return any(pattern.fullmatch(name_in_set) for pattern in patterns)


def _check_only(root: Path, is_own_file: Callable[[str], bool], kind: str) -> None:
    for name, entry in _entries(root):
        if entry.is_symlink():
            is_own = False
        elif entry.is_dir():
            is_own = _FOLDER.fullmatch(name) is not None
        else:
            is_own = is_own_file(name) or is_litter(name)
        if not is_own:
            raise ExportError(
                f"{root} holds {name}, which is not part of {kind}: move it away, or choose "
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


def _remove(folder: Path | str, prefix: str) -> None:
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    for entry in entries:
        name = prefix + entry.name
        if entry.is_symlink():
            continue
        if entry.is_dir():
            _remove(entry.path, f"{name}/")
            if _FOLDER.fullmatch(name) and not os.listdir(entry.path):
                os.rmdir(entry.path)
        elif is_litter(name) and (not prefix or _FOLDER.fullmatch(prefix[:-1])):
            with suppress(OSError):  # the system may be using it, or have removed it itself
                os.unlink(entry.path)
        elif _is_export_file(name) and name not in (LOCK, PLAN):
            os.unlink(entry.path)
