"""The destination of an export: what it may replace, and free disk space.

The set, and the folder NAME.partial in which it is written, must not touch a source, and must not
replace anything that no export wrote: a set is one of ours if its manifest can be read and it holds
nothing else, NAME.partial as `WorkDir` says.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from napari_patchset.errors import ExportError, IncompleteSetError, UnreadableFileError
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.writing.workdir import SET_FOLDERS, WorkDir
from napari_patchset.jobs.folder import OTHER_NAME, check_space
from napari_patchset.jobs.own_files import OwnFiles, check_apart
from napari_patchset.patching.regions import FileRegion
from napari_patchset.patchset.layout import TABLE, ArrayLayout, workdir_path
from napari_patchset.patchset.manifest import Manifest
from napari_patchset.patchset.reader import read_description
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import is_remote


def check_destination(plan: ExportPlan, overwrite: bool) -> None:
    """Refuse a plan whose set, or the folder that it is written in, would replace other files.

    Raise ArgumentError if one of them is, holds or lies in a source; ExportError if something else
    has the name of one of them, or is in a folder that would be removed.
    """
    check_apart_from_sources(plan)
    out = Path(plan.out)
    WorkDir.for_set(out).check_only_own_files()
    if os.path.lexists(out):
        if overwrite:
            check_replaceable(out)
        else:
            _read_own_manifest(out)


def check_apart_from_sources(plan: ExportPlan) -> None:
    """Raise ArgumentError if the set, or its unfinished folder, is, holds or lies in an input.

    These are all files of sources, of their paired images, and the file that is the region.
    """
    plan = plan.resolved()
    out, region, paths = Path(plan.out), plan.strategy.region, sorted(plan.paths)
    if isinstance(region, FileRegion) and region.path is not None:
        paths.append(region.path)
    local = [path for path in paths if not is_remote(path)]
    check_apart([out, workdir_path(out)], local, "the source ")


def check_patches_fit(root: Path, sizes: Iterable[tuple[ArrayLayout, int]]) -> None:
    """Raise ExportError if patches need more than the free space of the disk of `root`.

    `sizes` are arrays and the number of their patches. Compressed arrays count nothing, since their
    size is not known in advance.
    """
    needed = sum(n * layout.patch_bytes for layout, n in sizes if layout.codec == "none")
    check_space(root, needed, "The patch set", "export fewer patches")


def check_replaceable(out: Path) -> None:
    """Raise ExportError if `out` is not a patch set, or has a file that does not belong to it."""
    manifest = _read_own_manifest(out)
    set_format, arrays = FORMATS[manifest.format], manifest.arrays
    metadata_files = set_format.metadata_files(Path(), list(arrays.values()), {})
    names = {TABLE, *(path.as_posix() for path in metadata_files)}
    files = OwnFiles(
        "a patch set",
        lambda name: name in names or set_format.contains(arrays, name),
        re.compile(SET_FOLDERS).fullmatch,
    )
    files.check_only(out)


def _read_own_manifest(out: Path) -> Manifest:
    try:
        if out.is_symlink():
            raise IncompleteSetError("a link")
        manifest, _ = read_description(out)
        manifest.check_consistent(out)
    except (IncompleteSetError, UnreadableFileError, OSError) as error:
        raise ExportError(
            f"{out} exists; {OTHER_NAME}: it was not written by napari-patchset."
        ) from error
    return manifest
