"""What several subcommands take."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any

import typer

from napari_patchset.exporting.option_syntax import read_bytes, write_bytes
from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.exporting.plan_options import PlanOptions, make_plan
from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY
from napari_patchset.patchset.layout import FOLDER_SUFFIX, SUFFIX

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES",
        help='Files or URLs; "name.czi@3" is scene 3 of a file.',
        show_default=False,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"The set to write: NAME{SUFFIX}, or NAME{FOLDER_SUFFIX} for other formats.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What each process takes for decoded tiles and patches not yet written, like 1GiB "
        f"({write_bytes(DEFAULT_MEMORY)}).",
    ),
]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="How many threads decode.")]
Events = Annotated[bool, typer.Option("--json", help="Print the events as JSON, one a line.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a set, or an unfinished export, that is in the way."),
]


def with_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command each field of `PlanOptions` as an option; it gets them as `options`."""
    names = [field.name for field in fields(PlanOptions)]

    @wraps(command)
    def called(**arguments: Any) -> None:
        options = PlanOptions(**{name: arguments.pop(name) for name in names})
        command(options=options, **arguments)

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(command).parameters
    parameters = [
        *(parameter.replace(kind=keyword) for parameter in own.values()),
        *(
            inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
            for field in fields(PlanOptions)
        ),
    ]
    parameters = [parameter for parameter in parameters if parameter.name != "options"]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    return called


def plan_from(options: PlanOptions, files: Sequence[str] | None, out: str | None) -> ExportPlan:
    """Make the plan of a command line; what lacks in it is wrong usage, exit code 2."""
    if not options.plan:
        if not files:
            raise typer.BadParameter("name a file, or a plan with --plan", param_hint="FILES")
        if not out:
            raise typer.BadParameter("name what to write", param_hint="--out")
    return make_plan(options, files or (), out)


def memory_from(text: str | None) -> int:
    """Read --memory, in bytes; what an export takes by default if it was not given."""
    return DEFAULT_MEMORY if text is None else read_bytes("--memory", text)
