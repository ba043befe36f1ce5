"""The command `patchset`: its subcommands, and how it reports errors.

A subcommand's module is imported when it is run, so that `patchset --help` imports no library.
"""

import codecs
import logging
import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from napari_patchset import __version__
from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import ESCAPED, add_settings, explain_bad_setting, stop_logging
from napari_patchset.cli.signals import exit_code, interrupt_from_now
from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import (
    NO_MEMORY,
    DestinationExistsError,
    DifferingSourcesError,
    MissingAnnotationsError,
    PatchsetError,
    UnknownAxesError,
    UnknownPixelSizeError,
    UnquotedNameError,
    describe_os_error,
    printable,
)

COMMANDS = {
    "info": ("info", "Show what is in an image file, a folder of images, or a patch set."),
    "preview": ("inspect", "Draw the patches on an image, as a PNG."),
    "export": ("export", "Export a patch set."),
    "plan": ("export", "Plan an export that is carried out by jobs."),
    "score": ("export", "Measure a job's share of the candidates."),
    "write": ("export", "Write a job's share of the patches."),
    "finalize": ("export", "Complete a patch set when all jobs are done."),
    "status": ("status", "Show how far an export or a stitching is, and how to go on."),
    "clean": ("status", "Remove unfinished exports and stitchings."),
    "stitch": ("stitch", "Stitch predictions of patches back into images."),
    "geojson": ("inspect", "Write where the patches of a set lie, as GeoJSON for QuPath."),
    "verify": ("inspect", "Check a patch set, and compare it with its sources."),
    "demo": ("inspect", "Write the sample file, export it, and draw its patches."),
}
"""The module of each subcommand, which has a function of its name, and a line of help."""


UsageError: Any = typer.BadParameter.__base__
"""The error for wrong usage, of click or of typer's copy of it."""

_UNSET = ("", "0", "false", "no", "off", "n", "f")
"""Values of an environment variable that do not set an option, as click has them."""


class LazyGroup(TyperGroup):
    """Import the module of a subcommand when that is run, not to list it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a subcommand, importing it."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _ = COMMANDS[cmd_name]
            function = getattr(import_module(f"napari_patchset.cli.{module}"), cmd_name)
            own = typer.Typer(add_completion=False, rich_markup_mode="rich")
            own.command(cmd_name)(function)
            self.commands[cmd_name] = typer.main.get_command(own)
            add_settings(self.commands[cmd_name])
        REPORT.begin(cmd_name)
        interrupt_from_now()
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; report in one line that a signal ended it, or what usage is wrong."""
        arguments = [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except UsageError as error:  # perhaps before --json was parsed
            explain_bad_setting(error)
            is_set = os.environ.get("PATCHSET_JSON", "0") not in _UNSET
            REPORT.as_json |= "--json" in arguments or is_set
            name = f" {error.ctx.command.name}" if error.ctx and error.ctx.parent else ""
            text = _with_value(error, arguments)
            REPORT.error(f"{text}; see `patchset{name} --help`.", error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            REPORT.error(interrupt.args[0] if interrupt.args else "interrupted", exit_code())
            raise
        finally:
            REPORT.close()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the group."""
        self._listing().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the name of a subcommand."""
        ctx.command = self._listing()  # click lists the commands of that
        return ctx.command.shell_complete(ctx, incomplete)

    def _listing(self) -> TyperGroup:
        """Return this group with subcommands that have nothing but a name and a line of help."""
        return TyperGroup(
            name=self.name,
            help=self.help,
            params=self.params,
            commands=[TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()],
            rich_markup_mode=self.rich_markup_mode,
        )


def _with_value(error: Any, arguments: list[str]) -> str:
    """Return what is wrong in one line, with the value that an option has in the arguments."""
    text: str = error.format_message().replace("\n", " ").strip().removesuffix(".")
    for flag in getattr(getattr(error, "param", None), "opts", ()):
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
            name, is_joined, joined = word.partition("=")
            value = joined if is_joined else following
            if name == flag and value and repr(value) not in text:
                text = text.replace(f"'{flag}':", f"'{flag}' {value!r}:")
    return text


app = typer.Typer(
    cls=LazyGroup,
    help="Cut training patches out of microscope images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


_REMEDIES = {
    UnknownAxesError: ", with --axes of `plan` or `export`",
    UnknownPixelSizeError: ", with --source-pixel-size",
    MissingAnnotationsError: ", with --annotations",
    UnquotedNameError: ", and the text in quotes of the shell",
}
"""What the command adds to the message of an error."""


_RESAMPLING = "; --pixel-size resamples, and --source-pixel-size corrects what files state"

_REMEDIES_OF_DIFFERING = {
    "channels": ", or only channels that all have, like --channels 0",
    "channels for filters": ", or filter by channels that all have",
    "pixel type": ", or cast all to one type, like --dtype float32",
    "pixel size along Z": "; no option resamples Z, but --source-pixel-size corrects what files "
    "state",
    "pixel size along Y": _RESAMPLING,
    "pixel size along X": _RESAMPLING,
}
"""The same, by what sources differ in."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape characters that a stream can't encode, bytes of a file name among them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = printable(error.object[error.start : error.end])
    return part.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(ESCAPED, _escape)


class _Remarks(logging.Handler):
    """Reports what is logged of files that are read all the same."""

    def emit(self, record: logging.LogRecord) -> None:
        REPORT.warning(record.getMessage())


def run() -> None:
    """Run the command line; a user's error is one line, and exit code 1."""
    logging.getLogger("napari_patchset.stacks").handlers = [_Remarks(logging.WARNING)]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what none can encode
            stream.reconfigure(errors=ESCAPED)
    try:
        with warnings.catch_warnings():
            REPORT.as_json = False
            warnings.showwarning = lambda message, *_, **__: REPORT.warning(str(message))
            app()
    except (PatchsetError, OSError) as error:
        text = hide_credentials(_one_line(error)).removesuffix(".")
        text += next((more for kind, more in _REMEDIES.items() if isinstance(error, kind)), "")
        if isinstance(error, DifferingSourcesError):
            text += _REMEDIES_OF_DIFFERING.get(error.what, "")
        if (n := getattr(error, "n_skipped", None)) is not None:
            text += f", with --max-failures {n} of `plan` or `export`"
        REPORT.error(f"{text}.", 1)
        sys.exit(1)
    except MemoryError as error:
        REPORT.error(f"{NO_MEMORY} ({error}).", 1)
        sys.exit(1)
    finally:
        stop_logging()


def _one_line(error: Exception) -> str:
    if isinstance(error, DestinationExistsError):
        return f"{str(error).removesuffix('.')}, or use --overwrite"
    return describe_os_error(error)
