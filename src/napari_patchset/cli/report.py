"""What a subcommand reports: progress, warnings, errors, and a summary at the end.

As text, progress is a bar on a terminal, the summary goes to standard output, all else to standard
error. With --json each is an event, one line of JSON on standard output; an error is text on
standard error as well, as the output may go to a file. The classes below are the schema
(docs/events.schema.json). All of it is logged, too.
"""

import json
import logging
import os
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NotRequired

import typer
from typing_extensions import TypedDict

from napari_patchset.credentials import hide_credentials

if TYPE_CHECKING:  # these take longer to import than help may take
    from collections.abc import Iterable

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


class Event(TypedDict):
    """What every event has.

    Attributes
    ----------
    version : int
        1.
    time : str
        When it was reported, UTC, ISO 8601.
    command : str
        The subcommand.
    """

    version: Literal[1]
    time: str
    command: str


class ProgressEvent(Event):
    """How far a stage is.

    Attributes
    ----------
    stage : str
        `list` scenes of the files, `open` images, `read` megabytes of annotations, `choose`
        patches by labels and annotations in percent, `plan` patches,
        `score` candidates, `write` patches, `finalize`: check the images again, `done`, `verify`
        patches, write `geojson`, `stitch` and `levels` of `patchset stitch`.
    done, total : int
        Number of files, images, candidates or patches that are done, and of all.
    """

    event: Literal["progress"]
    stage: str
    done: int
    total: int


class WarningEvent(Event):
    """A remark on the input or the result.

    Attributes
    ----------
    message : str
        The remark.
    """

    event: Literal["warning"]
    message: str


class SkippedEvent(Event):
    """A source that can't be read and is skipped; reported once.

    Attributes
    ----------
    source, message : str
        The image, and why.
    """

    event: Literal["skipped"]
    source: str
    message: str


class DifferenceEvent(Event):
    """What `verify` found.

    Attributes
    ----------
    name, message : str
        The kind of difference; the file, shard or row that differs.
    """

    event: Literal["difference"]
    name: str
    message: str


class ErrorEvent(Event):
    """Why the command failed; the last event then.

    Attributes
    ----------
    message : str
        What is wrong, and the remedy.
    exit_code : int
        1 for bad input, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM.
    """

    event: Literal["error"]
    message: str
    exit_code: int


class WorkState(TypedDict):
    """The state of an export or a stitching.

    Attributes
    ----------
    kind : str
        `export` or `stitching`.
    path, folder : str
        The patch set, or the stitched image, and its folder while it is unfinished.
    state : str
        Whether it is `complete`, a process writes it (`running`), or none does (`unfinished`).
    stage : str
        The step that comes next: `plan`, `score`, `write`, `finalize`; `stitch`, `levels`; `done`.
    next : str
        The command that goes on; empty if nothing is left, or another process does it.
    error : str
        What ended the work last; empty if nothing did.
    bytes : int
        Size of all files on disk.
    changed : str
        When a file was written last, UTC, ISO 8601.
    candidates, scored : int
        Number of candidates, and of those that are measured.
    patches, written : int
        Number of patches, and of those that are written; all candidates, as long as filters are not
        applied.
    shards, missing_shards : int
        Number of shards of all arrays, or levels, and of those that are not written.
    skipped : list of str
        Sources that can't be read, and why.
    missing_jobs : dict of str to list of int
        With --of: the jobs of `score` and `write` that have work left.
    """

    kind: str
    path: str
    folder: str
    state: Literal["complete", "running", "unfinished"]
    stage: str
    next: str
    error: str
    bytes: int
    changed: str
    candidates: int
    scored: int
    patches: int
    written: int
    shards: int
    missing_shards: int
    skipped: list[str]
    missing_jobs: dict[str, list[int]]


class SummaryEvent(Event):
    """The result; the last event of a command that did not fail.

    Attributes
    ----------
    seconds : float
        How long the command took.
    path : str
        The patch set, or the file that was written; absolute, as all paths of a summary are.
    splits : dict of str to int
        Number of patches by split.
    rejected, left_out : dict of str to int
        Number of candidates that filters or the split reject, and of places without a candidate, or
        candidates of sources that can't be read, by reason.
    skipped : int
        Number of sources that could not be read.
    bytes : int
        Size of the set on disk; with --dry-run an estimate, without compression.
    candidates, shards, jobs : int
        Of `plan` and --dry-run: candidates, shards, and the largest --of of `write` with which all
        jobs have work.
    score_jobs : int
        The same of `score`; 0 if nothing is measured.
    estimated_seconds : float or None
        With --dry-run: how long the export takes; None if nothing could be measured.
    job, of : int
        Of `score` and `write`.
    differences : int
        Of `verify`.
    is_complete : bool
        Whether the set was complete already, and nothing was left to do.
    covered : float or None
        Of `stitch`: the share of the pixels that patches cover.
    nan : float
        Of `stitch`: the share of the pixels that are not a number, as predictions are.
    exports : list of dict
        Of `status` and `clean`: the state of each export or stitching.
    files : list of str
        Of `geojson`, and `export --geojson`: the files that were written.
    removed : list of str
        Of `clean`: the folders that were removed.
    """

    event: Literal["summary"]
    seconds: float
    path: NotRequired[str]
    splits: NotRequired[dict[str, int]]
    rejected: NotRequired[dict[str, int]]
    left_out: NotRequired[dict[str, int]]
    skipped: NotRequired[int]
    bytes: NotRequired[int]
    candidates: NotRequired[int]
    shards: NotRequired[int]
    jobs: NotRequired[int]
    score_jobs: NotRequired[int]
    estimated_seconds: NotRequired[float | None]
    job: NotRequired[int]
    of: NotRequired[int]
    differences: NotRequired[int]
    is_complete: NotRequired[bool]
    covered: NotRequired[float | None]
    nan: NotRequired[float]
    exports: NotRequired[list[WorkState]]
    files: NotRequired[list[str]]
    removed: NotRequired[list[str]]


EVENTS = (ProgressEvent, WarningEvent, SkippedEvent, DifferenceEvent, ErrorEvent, SummaryEvent)
"""Every kind of event."""

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
        message = hide_credentials(message)
        logger.warning(message)
        if self.as_json:
            self._print("warning", message=message)
        else:
            typer.echo(f"patchset: {message}", err=True)

    def skipped(self, failures: "Iterable[Failure]") -> None:
        """Report the sources that can't be read, each once."""
        for failure in failures:
            key = failure.source, failure.message
            if key in self._skipped:
                continue
            self._skipped.add(key)
            logger.warning("skipped: %s", failure)
            if self.as_json:
                self._print("skipped", source=failure.source, message=failure.message)
            else:
                typer.echo(f"skipped: {failure}", err=True)

    def difference(self, name: str, message: str) -> None:
        """Report a difference that `verify` found."""
        logger.warning("%s: %s", name, message)
        if self.as_json:
            self._print("difference", name=name, message=message)
        else:
            typer.echo(f"{name}: {message}")

    def error(self, message: str, exit_code: int, *, is_told: bool = False) -> None:
        """Report why the command fails; `is_told` if standard error has it already."""
        self.close()
        logger.error(message)
        if self.as_json:
            self._print("error", message=message, exit_code=exit_code)
        if not is_told:
            typer.echo(f"patchset: {message}", err=True)

    def summary(self, text: str, *, is_failure: bool = False, **figures: Any) -> None:
        """Report the result: as text if there is any, on standard error if it is a failure."""
        self.close()
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
        typer.echo(json.dumps({**head, **fields}, default=str))

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


def _with_absolute_paths(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the paths in a summary as absolute ones, whatever folder its reader runs in."""
    absolute: dict[str, Any] = {}
    for name, value in figures.items():
        if name in ("path", "folder") and value:
            absolute[name] = os.path.abspath(value)
        elif name in ("files", "removed"):
            absolute[name] = [os.path.abspath(path) for path in value]
        elif name == "exports":
            absolute[name] = [{**each, **_with_absolute_paths(each)} for each in value]
    return absolute


REPORT = Report()
"""The report of this process: a command runs one subcommand."""
