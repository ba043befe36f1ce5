"""How a subcommand runs: options that all of them have, environment variables, a settings file.

An option of the group "Running" that is not on the command line is taken from PATCHSET_WORKERS,
PATCHSET_MEMORY, ..., else from a TOML file, a table [export] in it before the top:

    workers = 8
    memory = "1GiB"

    [export]
    executor = "processes"

Options that describe a plan are no settings: a plan is saved as a file, and named with --plan.
"""

import logging
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.cli.report import REPORT
from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import ArgumentError, printable

RUNNING = "Running"
"""The group of these options in help."""

SETTINGS = (
    "executor",
    "json",
    "log_file",
    "max_failures",
    "memory",
    "scheduler",
    "strict",
    "verbose",
    "workers",
)
"""The options that may be set outside of the command line."""

_VERBOSE, _SETTINGS_FILE = "napari_patchset.verbose", "napari_patchset.settings_file"

logger = logging.getLogger("napari_patchset")


def option(panel: str, metavar: str, text: str, **more: Any) -> Any:
    """Declare an option, its group in help, and its help."""
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel, **more)


def flag(panel: str, name: str, text: str, short: str = "", **more: Any) -> Any:
    """Declare an option without a value, its group in help, its help, and perhaps a short name."""
    names = (name, short) if short else (name,)
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


ESCAPED = "patchset.escaped"
"""How a stream writes what it can't encode; see `app`."""


class _LogFile(logging.FileHandler):
    """A log whose disk may fill up: that is told once, and ends the log, not the command."""

    _is_full = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_full:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_full:
            self._is_full = True
            REPORT.warning(f"{self.baseFilename}: {error.strerror}; the log ends here.")

    def close(self) -> None:
        try:
            super().close()  # it flushes what is left
        except OSError:
            if not self._is_full:
                raise


def add_settings(command: Any) -> None:
    """Add the options of every subcommand to one, and name its environment variables."""
    own = typer.Typer(add_completion=False)
    own.command()(_options)
    for parameter in typer.main.get_command(own).params:
        parameter.expose_value = False
        command.params.append(parameter)
    for parameter in command.params:
        if _key(parameter) in (*SETTINGS, "config"):
            parameter.envvar = f"PATCHSET_{_key(parameter).upper()}"


def _key(parameter: Any) -> str:
    """Return the name of an option as users write it: "json" for --json."""
    flags = [flag for flag in parameter.opts if flag.startswith("--")]
    return flags[0].removeprefix("--").replace("-", "_") if flags else ""


def _set_json(value: bool) -> bool:
    REPORT.as_json = value
    return value


def _set_verbose(context: typer.Context, value: int) -> int:
    context.meta[_VERBOSE] = value
    return value


def _read_settings(context: typer.Context, path: Path | None) -> Path | None:
    """Take the defaults of a subcommand's options from the settings file."""
    import tomllib

    from platformdirs import user_config_path

    file = path or user_config_path("napari-patchset", appauthor=False) / "settings.toml"
    if path is None and not file.is_file():
        return path
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{file}: not a TOML file: {error}") from None
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    plain = {key: value for key, value in settings.items() if key not in tables}
    if unknown := sorted(tables.keys() - set(_commands_of(context))):
        raise ArgumentError(
            f"{file}: [{unknown[0]}] is no command; they are {', '.join(_commands_of(context))}."
        )
    own = tables.get(context.command.name or "", {})
    values = {key.replace("-", "_"): value for key, value in {**plain, **own}.items()}
    if unknown := sorted(set(values) - set(SETTINGS)):
        raise ArgumentError(
            f"{file}: {', '.join(unknown)} is not a setting; they are {', '.join(SETTINGS)}. Save "
            "what describes a plan as a plan, and name that with --plan."
        )
    context.default_map = {
        parameter.name: values[_key(parameter)]
        for parameter in context.command.params
        if _key(parameter) in values and parameter.name
    }
    context.meta[_SETTINGS_FILE] = file
    return path


def _commands_of(context: typer.Context) -> list[str]:
    """Return the names of all subcommands."""
    group: Any = context.find_root().command
    return list(group.list_commands(context))


def explain_bad_setting(error: Any) -> None:
    """Raise ArgumentError if what typer calls wrong usage is a value in the settings file."""
    context, parameter = error.ctx, getattr(error, "param", None)
    if context is None or parameter is None:
        return
    source = context.get_parameter_source(parameter.name)
    if source is not None and source.name == "DEFAULT_MAP":
        value, text = context.default_map[parameter.name], error.message
        raise ArgumentError(
            f"{context.meta[_SETTINGS_FILE]}: {_key(parameter)} = {value!r}: "
            f"{text[:1].lower()}{text[1:].removesuffix('.')}."
        ) from None


def _start_logging(context: typer.Context, path: Path | None) -> Path | None:
    """Log to a file, and to standard error with --verbose."""
    from importlib.metadata import version

    verbose: int = context.meta[_VERBOSE]
    handlers: list[logging.Handler] = []
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    if path is not None:
        if not path.parent.is_dir():
            raise ArgumentError(
                f"the log {path}: there is no folder {path.parent}; create it, or name another one."
            )
        handlers.append(_LogFile(path, encoding="utf-8", errors=ESCAPED))
    if not handlers:
        return path
    for handler in handlers:
        form = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"
        handler.setFormatter(logging.Formatter(form))
        logging.root.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    logger.info(
        "napari-patchset %s, Python %s, %s: %s",
        version("napari-patchset"),
        platform.python_version(),
        platform.node(),
        printable(hide_credentials(" ".join(sys.argv))),
    )
    return path


def stop_logging() -> None:
    """Close what `--log-file` and `--verbose` opened."""
    for handler in list(logging.root.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.formatter is not None:
            logging.root.removeHandler(handler)
            handler.close()
    logger.setLevel(logging.NOTSET)


def _options(
    config: Annotated[
        Path | None,
        option(
            RUNNING,
            "FILE",
            "Take settings from a TOML file (settings.toml in the user's configuration folder).",
            callback=_read_settings,
            is_eager=True,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        flag(
            RUNNING,
            "--json",
            "Print JSON, one event a line.",
            callback=_set_json,
            is_eager=True,
        ),
    ] = False,
    verbose: Annotated[
        int,
        flag(
            RUNNING,
            "--verbose",
            "Log what is done to standard error; twice for details.",
            "-v",
            count=True,
            callback=_set_verbose,
            show_default=False,
            is_eager=True,
        ),
    ] = 0,
    log_file: Annotated[
        Path | None,
        option(RUNNING, "FILE", "Append the log to a file.", callback=_start_logging),
    ] = None,
) -> None:
    """Declare the options of every subcommand."""
