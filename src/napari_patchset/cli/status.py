"""`patchset status` and `clean`: unfinished work, how to go on with it or to remove it."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import RUNNING, flag, option
from napari_patchset.errors import ExportError
from napari_patchset.exporting.reading.failures import grouped
from napari_patchset.exporting.status import export_status, find_workdir, unfinished_status
from napari_patchset.exporting.writing.job_array import format_jobs
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import JobFolder, size_text
from napari_patchset.jobs.status import WorkStatus, find_unfinished
from napari_patchset.patchset.layout import PARTIAL_SUFFIX, SUFFIXES
from napari_patchset.stitching.image_writer import folder_status, stitch_status
from napari_patchset.stitching.stitch_folder import SUFFIX, StitchFolder


def status(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The patch set, or the stitched image.")
    ],
    of: Annotated[
        int | None,
        option(RUNNING, "N", "Number of jobs, to list those that have work left.", min=1),
    ] = None,
) -> None:
    """Show how far an export or a stitching is, and how to go on.

    Reads what the jobs left on disk, and changes nothing.

    Example: patchset status cells.patches.zarr --of 16
    """
    image = name.removesuffix(PARTIAL_SUFFIX)
    found = stitch_status(image) if image.endswith(SUFFIX) else export_status(name, of)
    REPORT.summary("\n".join(_lines(found)), path=name, exports=[asdict(found)])


def clean(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|NAME",
            help="Where to look, in folders below it too; or one patch set or stitched image.",
        ),
    ] = Path(),
    yes: Annotated[
        bool,
        flag(RUNNING, "--yes", "Remove them without asking.", "-y"),
    ] = False,
) -> None:
    """Remove unfinished exports and stitchings.

    Lists them and asks. One that runs, and a folder that holds anything else, stays, and is named.

    Example: patchset clean results --yes
    """
    folders = _find(folder)
    found = [_status_of(each) for each in folders]
    idle = [each for each, its in zip(folders, found, strict=True) if its.state != "running"]
    if not REPORT.as_json:
        for each in found:
            typer.echo(
                f"{each.folder}: {each.kind}, {_size(each)}, {each.state}, last written "
                f"{each.changed}"
            )
    removed = []
    n = f"{len(idle)} unfinished {'folder' if len(idle) == 1 else 'folders'}"
    if idle and (yes or (not REPORT.as_json and typer.confirm(f"Remove {n}?"))):
        for job_folder in idle:
            job_folder.delete()
            removed.append(str(job_folder.root))
    text = f"{n} removed" if removed else "nothing removed"
    if not found:
        text = f"{folder}: no unfinished export or stitching"
    REPORT.summary(text, exports=[asdict(each) for each in found], removed=removed)


def _find(path: Path) -> list[JobFolder[Any]]:
    """Return the unfinished work of a name, or in a folder and those below it.

    Raise FileNotFoundError if there is neither, ExportError if it can't be removed.
    """
    if path.is_symlink() and (target := os.path.realpath(path)).endswith(PARTIAL_SUFFIX):
        raise ExportError(f"{path} is a link to {target}; name that folder.")
    suffixes = (*SUFFIXES, SUFFIX, PARTIAL_SUFFIX)
    if path.name and (path.name.endswith(suffixes) or not path.is_dir()):
        image = path.with_name(path.name.removesuffix(PARTIAL_SUFFIX))
        is_image = image.name.endswith(SUFFIX)
        named = StitchFolder.for_image(image) if is_image else find_workdir(path)
        if named.root.exists():
            named.check_only_own_files()
            return [named]
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path}: there is no such folder, and no unfinished export or stitching of that name."
        )
    return list(find_unfinished(path, (StitchFolder, WorkDir), REPORT.warning))


def _status_of(folder: JobFolder[Any]) -> WorkStatus:
    if isinstance(folder, StitchFolder):
        return folder_status(folder)
    return unfinished_status(WorkDir(folder.root))


def _size(found: WorkStatus) -> str:
    return size_text(found.bytes)


def _lines(found: WorkStatus) -> list[str]:
    lines = [f"{found.path}: {found.state}, {_size(found)}, last written {found.changed}"]
    if found.scored or found.stage == "score":
        lines.append(f"scored: {found.scored} of {found.candidates} candidates")
    n = found.shards - found.missing_shards
    if found.patches:
        lines.append(
            f"written: {found.written} of {found.patches} patches, {n} of {found.shards} shards"
        )
    elif found.shards:
        lines.append(f"written: {n} of {found.shards} shards")
    lines += [f"skipped: {each}" for each in grouped(found.skipped)]
    for step, jobs in found.missing_jobs.items():
        if jobs:
            lines.append(f"to {step}: jobs {format_jobs(jobs)}")
    lines += _job_errors(found)
    if found.error:
        lines.append(f"ended by: {found.error}")
        lines.append(f"to remove it: {shlex.join(['patchset', 'clean', found.folder])}")
    lines += [f"missing: {path}" for path in found.missing_files]
    if found.next:
        restored = ", once what is missing is restored" if found.missing_files else ""
        lines.append(f"to go on{restored}: {found.next}")
    return lines


def _job_errors(found: WorkStatus) -> Iterator[str]:
    """Yield which jobs were ended by an error, those of the same one together."""
    jobs = dict[tuple[str, str, str], list[int]]()
    for name, error in found.job_errors.items():
        step, job, _, of = name.split()
        jobs.setdefault((step, of, error), []).append(int(job))
    for (step, of, error), numbers in jobs.items():
        what = "job" if len(numbers) == 1 else "jobs"
        yield f"{step}, {what} {format_jobs(numbers)} of {of}, ended by: {error}"
