"""The events that a subcommand prints with --json: their schema, docs/events.schema.json.

`report` prints them; the models are imported by no command, as they take longer than help may take.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from napari_patchset.jobs.status import WorkStatus


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
        `list` scenes of the files, `open` images, `read` megabytes of annotations, `compare`
        megabytes of images that may be copies, `choose` patches by labels and annotations in
        percent, `plan` patches,
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
    exports: NotRequired[list[WorkStatus]]
    files: NotRequired[list[str]]
    removed: NotRequired[list[str]]


EVENTS = (ProgressEvent, WarningEvent, SkippedEvent, DifferenceEvent, ErrorEvent, SummaryEvent)
"""Every kind of event."""
