"""What several subcommands take."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any

import typer

from napari_patchset.export.plan import ExportPlan
from napari_patchset.options.given import PlanOptions
from napari_patchset.options.planning import make_plan
from napari_patchset.patchset.layout import FOLDER_SUFFIX, SUFFIX

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILES", help='"name.czi@3" is scene 3 of it.', show_default=False),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"What to write, NAME{SUFFIX}; NAME{FOLDER_SUFFIX} if it is no zarr."
    ),
]
Events = Annotated[bool, typer.Option("--json", help="Print one JSON event a line.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


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
