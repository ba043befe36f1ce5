"""The table of subcommands, and how the command ends."""

import sys
import warnings
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from napari_patchset import __version__
from napari_patchset._model import user_message
from napari_patchset.cli.export import demo, export
from napari_patchset.cli.inspect import info, preview, verify
from napari_patchset.cli.jobs import finalize, plan, score, write
from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.plan_options import option_of

app = typer.Typer(
    help="Turn microscope files into patch sets for training.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (info, preview, export, plan, score, write, finalize, verify, demo):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; exit code 0, 1 for bad input, 2 for wrong usage, 130 if interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app()
    except (PatchsetError, ValidationError, OSError) as error:
        typer.echo(f"patchset: {_one_line(error).removesuffix('.')}.", err=True)
        sys.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"patchset: {message}", err=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return user_message(error, option_of)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
