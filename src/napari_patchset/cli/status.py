"""`patchset status` and `clean`: unfinished exports, how to go on with them or to remove them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize

from napari_patchset.cli.parameters import option
from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import RUNNING
from napari_patchset.exporting.status import (
    ExportStatus,
    export_status,
    find_unfinished,
    remove_export,
)


def status(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The patch set.")],
    of: Annotated[
        int | None,
        option(RUNNING, "N", "Number of jobs, to list those that have work left.", min=1),
    ] = None,
) -> None:
    """Show how far an export is, and how to go on.

    Reads what the jobs left on disk, and changes nothing.

    Example: patchset status cells.patches.zarr --of 16
    """
    found = export_status(name, of)
    REPORT.summary("\n".join(_lines(found)), path=name, exports=[_as_json(found)])


def clean(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to look, in folders below it too.")
    ] = Path(),
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Remove them without asking.", rich_help_panel=RUNNING),
    ] = False,
) -> None:
    """Remove unfinished exports.

    Lists them and asks. One that runs, and a folder that holds anything else, stays.

    Example: patchset clean results --yes
    """
    found = list(find_unfinished(folder))
    idle = [each for each in found if each.state != "running"]
    if not REPORT.as_json:
        for each in found:
            typer.echo(f"{each.folder}: {_size(each)}, {each.state}, last written {each.changed}")
    removed = []
    if idle and (yes or (not REPORT.as_json and typer.confirm(f"Remove {_count(len(idle))}?"))):
        for each in idle:
            remove_export(Path(each.folder))
            removed.append(each.folder)
    text = f"{_count(len(removed))} removed" if found else f"{folder}: no unfinished export"
    REPORT.summary(text, exports=[_as_json(each) for each in found], removed=removed)


def _as_json(found: ExportStatus) -> dict[str, object]:
    return {**asdict(found), "next": found.next_command}


def _count(n: int) -> str:
    return f"{n} unfinished {'export' if n == 1 else 'exports'}"


def _size(found: ExportStatus) -> str:
    return ByteSize(found.bytes).human_readable(decimal=True, separator=" ")


def _lines(found: ExportStatus) -> list[str]:
    lines = [f"{found.path}: {found.state}, {_size(found)}, last written {found.changed}"]
    if found.scored or found.stage == "score":
        lines.append(f"scored: {found.scored} of {found.candidates} candidates")
    if found.patches:
        n = found.shards - found.missing_shards
        lines.append(
            f"written: {found.written} of {found.patches} patches, {n} of {found.shards} shards"
        )
    lines += [f"skipped: {each}" for each in found.skipped]
    for step, jobs in found.missing_jobs.items():
        if jobs:
            lines.append(f"to {step}: jobs {','.join(map(str, jobs))}")
    if found.next_command:
        lines.append(f"to go on: {found.next_command}")
    return lines
