"""What several subcommands take: sources, a plan's options, memory and threads.

Help lists options in the groups of `PANELS`.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.exporting.plan_options import OPTIONS, format_bytes, make_plan, parse_bytes
from napari_patchset.exporting.tiles import DEFAULT_MEMORY
from napari_patchset.patchset.layout import FOLDER_SUFFIX, SUFFIX

PANELS = ("", "Source", "Patches", "Filters", "Split", "Output", "Running")
RUNNING = "Running"

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES",
        help='Files or URLs; "name.czi@3" is scene 3 of a file.',
        show_default=False,
    ),
]
SavedPlan = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A saved plan; other options override its values.",
        rich_help_panel="Source",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"The patch set to write: NAME{SUFFIX}, or NAME{FOLDER_SUFFIX} for other formats.",
        rich_help_panel="Output",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace a patch set, or an unfinished export, of that name.",
        rich_help_panel="Output",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory of each process for decoded tiles and patches not yet written, like 1GiB "
        f"({format_bytes(DEFAULT_MEMORY)}).",
        rich_help_panel=RUNNING,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Number of threads that decode.", rich_help_panel=RUNNING
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON, one line each.", rich_help_panel=RUNNING)
]


def with_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a plan to the signature of a command, which takes them as `**options`."""
    own = inspect.signature(command).parameters.values()
    parameters = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                option.type | None,
                typer.Option(
                    metavar=option.metavar or "|".join(option.choices),
                    help=option.help_text,
                    autocompletion=option.complete if option.choices else None,
                    rich_help_panel=option.panel,
                ),
            ],
        )
        for option in OPTIONS
    ]
    parameters.sort(
        key=lambda each: PANELS.index(each.annotation.__metadata__[0].rich_help_panel or "")
    )
    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # typer reads it
    return command


def plan_from(
    files: Sequence[str] | None, out: str | None, plan: Path | None, options: dict[str, Any]
) -> ExportPlan:
    """Make the plan of a command line; what is missing in it is wrong usage, exit code 2."""
    if not plan:
        if not files:
            raise typer.BadParameter("name a file, or a plan with --plan", param_hint="FILES")
        if not out:
            raise typer.BadParameter("name what to write", param_hint="--out")
    return make_plan(files or (), out, plan=plan, **options)


def memory_from(text: str | None) -> int:
    """Parse --memory, in bytes; the default of an export if it is not set."""
    return DEFAULT_MEMORY if text is None else parse_bytes("--memory", text)
