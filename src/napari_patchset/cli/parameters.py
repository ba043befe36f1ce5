"""Parameters of several subcommands: sources, a plan's options, memory and threads.

Help lists options in the groups of `PANELS`.
"""

import inspect
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import RUNNING, flag, option
from napari_patchset.cli.signals import resumable
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.plans.options import OPTIONS, format_bytes, parse_bytes
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patchset.layout import FOLDER_SUFFIX, SUFFIX
from napari_patchset.source import is_remote, natural_key, split_source

PANELS = ("", "Source", "Patches", "Filters", "Split", "Output", "Running")


Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES",
        help='Files or URLs; "name.czi@3" is scene 3 of a file.',
        show_default=False,
    ),
]
SavedPlan = Annotated[
    Path | None, option("Source", "FILE", "A saved plan; other options override its values.")
]
Out = Annotated[
    str | None,
    option(
        "Output",
        "NAME",
        f"The patch set to write: NAME{SUFFIX}, or NAME{FOLDER_SUFFIX} for other formats.",
    ),
]
Overwrite = Annotated[
    bool,
    flag("Output", "--overwrite", "Replace a patch set, or an unfinished export, of that name."),
]
FilesFrom = Annotated[
    list[str] | None,
    option(
        "Source",
        "LIST",
        'A file with more files, one a line, or "-" for standard input; may be repeated.',
    ),
]
Places = Annotated[
    Path | None,
    option(
        "Output",
        "FOLDER",
        "Also write where the patches lie, as GeoJSON for QuPath; see `geojson`.",
    ),
]
DryRun = Annotated[
    bool,
    flag(
        RUNNING,
        "--dry-run",
        "Report how many patches, how many bytes and how long it would be, and write nothing.",
    ),
]
Memory = Annotated[
    str | None,
    option(
        RUNNING,
        "SIZE",
        "Memory of each process for decoded tiles and patches not yet written, like 1GiB "
        f"({format_bytes(DEFAULT_MEMORY)}).",
    ),
]
RunBy = Annotated[
    Literal["threads", "processes"],
    option(RUNNING, "threads|processes", "Run in threads or in processes of this computer."),
]
Workers = Annotated[
    int, option(RUNNING, "N", "Number of threads, processes, or jobs of a cluster.", min=1)
]
Scheduler = Annotated[
    str | None, option(RUNNING, "ADDRESS", "Run on a dask cluster: the address of its scheduler.")
]
Strict = Annotated[
    bool,
    flag(
        RUNNING, "--strict", "Skip no source: stop if one can't be read; the same command resumes."
    ),
]
MaxFailures = Annotated[
    int | None,
    option(
        RUNNING,
        "N",
        "Number of sources that may be skipped because they can't be read. By default any number "
        "that are damaged or missing, but none whose storage does not answer.",
        min=0,
        show_default=False,
    ),
]
WorkerThreads = Annotated[int, option(RUNNING, "N", "Number of threads that decode.", min=1)]


def max_failures_from(strict: bool, max_failures: int | None) -> int | None:
    """Return how many sources may be skipped; raise ArgumentError if the options disagree."""
    if strict and max_failures:
        raise ArgumentError(
            f"--strict skips no source, but --max-failures is {max_failures}; omit one."
        )
    return 0 if strict else max_failures


def with_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a plan to the signature of a command, which takes them as `**options`."""
    own = inspect.signature(command).parameters.values()
    parameters = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                each.type | None,
                flag(each.panel, each.flag, each.help_text)
                if each.type is bool
                else option(
                    each.panel,
                    each.metavar or "|".join(each.choices),
                    each.help_text,
                    autocompletion=each.complete if each.choices else None,
                ),
            ],
        )
        for each in OPTIONS
    ]
    parameters.sort(
        key=lambda each: PANELS.index(each.annotation.__metadata__[0].rich_help_panel or "")
    )
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # typer reads it
    return command


def plan_from(
    files: Sequence[str] | None,
    out: str | None,
    plan: Path | None,
    options: dict[str, Any],
    files_from: Sequence[str] | None = None,
) -> ExportPlan:
    """Return the plan of a command line; a missing argument is wrong usage, exit code 2."""
    named = [each for file in files or () for each in expand_pattern(file)]
    for listing in files_from or ():
        named += [each for file in read_list(listing) for each in expand_pattern(file)]
    if not plan:
        if not named:
            raise typer.BadParameter("name a file, or a plan with --plan", param_hint="FILES")
        if not out:
            raise typer.BadParameter("name what to write", param_hint="--out")
    with resumable():
        return make_plan(named, out, plan=plan, progress=REPORT.progress, **options)


def read_list(path: str) -> list[str]:
    """Return the lines of a file, or of standard input, that name a file; at least one.

    Empty lines and those that begin with # name none, nor does Windows' mark at the beginning.
    """
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    lines = [os.fsdecode(line).strip() for line in data.removeprefix(BOM_UTF8).splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    if not named:
        raise ArgumentError(f"--files-from {path}: there is no file in this list.")
    return named


def expand_pattern(file: str) -> list[str]:
    """Return the files that a pattern with *, ? or [ matches, by name; others as they are.

    A shell does that too, but has a limit for the length of a command line.
    """
    if is_remote(file) or not has_magic(file) or os.path.lexists(file):
        return [file]
    pattern, scene = split_source(file)
    if not (found := sorted(glob(str(pattern), recursive=True), key=natural_key)):
        raise ArgumentError(f"{file}: no file matches this pattern.")
    return found if scene is None else [f"{path}@{scene}" for path in found]


def memory_from(text: str | None) -> int:
    """Parse --memory, in bytes; the default of an export if it is not set."""
    return DEFAULT_MEMORY if text is None else parse_bytes(text)
