"""What a subcommand reports: progress, warnings, errors, and a summary at the end.

As text, progress is a bar on a terminal, the summary goes to standard output, all else to standard
error. With --json each is an event, one line of JSON on standard output, see `events`; an error is
text on standard error as well, as the output may go to a file. All of it is logged, too.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import typer

from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import printable

if TYPE_CHECKING:  # these take longer to import than help may take
    from collections.abc import Sequence

    from rich.progress import Progress

    from napari_patchset.exporting.reading.failures import Failure

VERSION = 1
"""Version of the events; it rises when a field changes or goes, not when one is added."""

MAX_STEPS = 100
"""Most progress events of a stage."""

DOING = {
    "list": "listing scenes",
    "open": "opening images",
    "read": "reading annotations, MB",
    "compare": "comparing images that may be copies, MB",
    "choose": "looking at labels and annotations, %",
    "plan": "planned",
    "score": "measured",
    "write": "written",
    "finalize": "checking images",
    "done": "written",
    "verify": "verified",
    "geojson": "written",
    "stitch": "stitched",
    "levels": "levels of the pyramid",
}
"""What is counted, by stage."""


logger = logging.getLogger(__name__)
logging.getLogger("napari_patchset").addHandler(logging.NullHandler())  # else Python prints errors


class Report:
    """The report of the subcommand that runs, `REPORT`.

    Attributes
    ----------
    as_json : bool
        Whether it is events, not text.
    """

    def __init__(self) -> None:
        self.as_json = False
        self._bar: Progress | None = None
        self.begin("")

    def begin(self, command: str) -> None:
        """Begin the report of a subcommand."""
        self.close()
        self._command, self._began = command, monotonic()
        self._skipped = set[tuple[str, str]]()
        self._stage, self._done = "", 0

    def progress(self, stage: str, done: int, total: int) -> None:
        """Report how much of a stage is done."""
        if not self.as_json:
            self._draw(stage, done, total)
        is_new, step = stage != self._stage, total // MAX_STEPS
        if not is_new and done < total and done - self._done < step:
            return
        self._stage, self._done = stage, done
        level = logging.INFO if is_new or done == total else logging.DEBUG
        logger.log(level, "%s: %d of %d", DOING[stage], done, total)
        if self.as_json:
            self._print("progress", stage=stage, done=done, total=total)

    def warning(self, message: str) -> None:
        """Report a remark."""
        message = printable(hide_credentials(message))
        logger.warning(message)
        if self.as_json:
            self._print("warning", message=message)
        else:
            typer.echo(f"patchset: {message}", err=True)

    def skipped(self, failures: "Sequence[Failure]") -> None:
        """Report the sources that can't be read, each once; as text, those of a file together."""
        told = [(each.source, each.message) for each in failures]
        new = [each for each, key in zip(failures, told, strict=True) if key not in self._skipped]
        self._skipped.update(told)
        for failure in new:
            logger.warning("skipped: %s", failure)
            if self.as_json:
                self._print("skipped", source=failure.source, message=failure.message)
        if new and not self.as_json:
            from napari_patchset.exporting.reading.failures import grouped

            for line in grouped(map(str, new)):
                typer.echo(f"skipped: {line}", err=True)

    def difference(self, name: str, message: str) -> None:
        """Report a difference that `verify` found."""
        message = printable(message)
        logger.warning("%s: %s", name, message)
        if self.as_json:
            self._print("difference", name=name, message=message)
        else:
            typer.echo(f"{name}: {message}")

    def error(self, message: str, exit_code: int, *, is_printed: bool = False) -> None:
        """Report why the command fails; `is_printed` if standard error has it already."""
        self.close()
        message = printable(message)
        logger.error(message)
        if self.as_json:
            self._print("error", message=message, exit_code=exit_code)
        if not is_printed:
            typer.echo(f"patchset: {message}", err=True)

    def summary(self, text: str, *, is_failure: bool = False, **figures: Any) -> None:
        """Report the result: as text if there is any, on standard error if it is a failure."""
        self.close()
        text = printable(text)
        logger.info(text or "done")
        if self.as_json:
            if self._skipped:
                figures.setdefault("skipped", len(self._skipped))
            figures |= _with_absolute_paths(figures)
            self._print("summary", seconds=round(monotonic() - self._began, 3), **figures)
        elif text:
            typer.echo(text, err=is_failure)

    def close(self) -> None:
        """Take the bar away from the terminal, or leave it where it ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, event: str, **fields: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"version": VERSION, "time": time, "command": self._command, "event": event}
        typer.echo(json.dumps(_printable({**head, **fields}), default=str))

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            console = Console(stderr=True)
            if not console.is_terminal:
                return
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._bar.start()
            self._bar.add_task("", total=None)
        (task,) = self._bar.task_ids
        self._bar.update(task, description=DOING[stage], completed=done, total=total)


def _printable(value: Any) -> Any:
    """Return what is printed as JSON without characters that only a file name may hold."""
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(each) for each in value]
    return printable(str(value)) if isinstance(value, str | Path) else value


def _with_absolute_paths(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the paths in a summary as absolute ones, whatever folder its reader runs in.

    One that is not UTF-8 is the URL of the file.
    """
    from napari_patchset.source import path_text  # with what takes longer than help may take

    absolute: dict[str, Any] = {}
    for name, value in figures.items():
        if name in ("path", "folder") and value:
            absolute[name] = path_text(os.path.abspath(value))
        elif name in ("files", "removed"):
            absolute[name] = [path_text(os.path.abspath(path)) for path in value]
        elif name == "exports":
            absolute[name] = [{**each, **_with_absolute_paths(each)} for each in value]
    return absolute


REPORT = Report()
"""The report of this process: a command runs one subcommand."""
