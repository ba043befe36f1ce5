"""How far unfinished work is: what is done and missing, whether it runs, and how to go on.

It is read from the folder of the work, and changes nothing there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from napari_patchset.jobs.folder import JobFolder
from napari_patchset.jobs.lock import is_locked

State = Literal["complete", "running", "unfinished"]


@dataclass(frozen=True)
class WorkStatus:
    """The state of an export or a stitching."""

    kind: str
    """The work: "export" or "stitching"."""
    path: str
    """The result: a patch set, or an OME-Zarr."""
    folder: str
    """NAME.partial."""
    state: State
    """Whether the result is complete, a process writes it, or none does."""
    stage: str
    """The step that comes next: plan, score, write, finalize; stitch, levels; or done."""
    next: str = ""
    """The command that goes on; "" if nothing is left, or another process does it."""
    error: str = ""
    """What ended the work last."""
    bytes: int = 0
    """Size of all files on disk."""
    changed: str = ""
    """When a file was written last, UTC, ISO 8601."""
    candidates: int = 0
    scored: int = 0
    """How many of the candidates."""
    patches: int = 0
    """All candidates, as long as filters are not applied."""
    written: int = 0
    """How many of the patches."""
    shards: int = 0
    """Of all arrays, or levels."""
    missing_shards: int = 0
    skipped: tuple[str, ...] = ()
    """Sources that can't be read, and why."""
    missing_jobs: dict[str, list[int]] = field(default_factory=dict)
    """Jobs that have work left, of `score` and `write`, for a number of jobs."""


def work_status(folder: JobFolder[Any], result: Path) -> WorkStatus:
    """Return what is known of the work in a folder without its plan."""
    is_begun = folder.root.exists()
    state: State = "complete"
    if is_begun:
        state = "running" if is_locked(folder.root) else "unfinished"
    nbytes, changed = _measure(folder.root if is_begun else result)
    return WorkStatus(
        kind=folder.KIND,
        path=str(result),
        folder=str(folder.root),
        state=state,
        stage="plan" if is_begun else "done",
        next="the command that began it" if state == "unfinished" else "",
        error=folder.last_error,
        bytes=nbytes,
        changed=changed,
    )


def _measure(folder: Path) -> tuple[int, str]:
    """Return the bytes of all files in a folder, and when one of them was written last."""
    nbytes, changed = 0, 0.0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(path, name))
            except FileNotFoundError:  # a draft that has just been renamed
                continue
            nbytes, changed = nbytes + stat.st_size, max(changed, stat.st_mtime)
    return nbytes, datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")


def find_unfinished(
    folder: Path,
    kinds: Sequence[type[JobFolder[Any]]],
    warn: Callable[[str], object] | None = None,
) -> Iterator[JobFolder[Any]]:
    """Yield the unfinished work of some kinds that can be removed, in a folder and those below.

    The first of the kinds that a name fits is its kind. `warn` is called with a text for each that
    can't be removed, since its folder holds something else.
    """
    for path, names, _ in os.walk(folder):
        for name in sorted(names):
            kind = next((each for each in kinds if name.endswith(each.SUFFIX)), None)
            if kind is not None and _is_removable(kind(Path(path, name)), warn):
                names.remove(name)
                yield kind(Path(path, name))


def _is_removable(folder: JobFolder[Any], warn: Callable[[str], object] | None) -> bool:
    if not folder.is_own:
        return False
    if (other := folder.FILES.find_other(folder.root)) is not None:
        if warn is not None:
            text = f"which is not part of {folder.FILES.kind}"
            warn(f"{folder.root} is left: it holds {other}, {text}")
        return False
    return any(folder.root.iterdir())  # an empty folder may be anyone's
