"""How far unfinished work is: what is done and missing, whether it runs, and how to go on.

It is read from the folder of the work, and changes nothing there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from napari_patchset.jobs.folder import JobFolder
from napari_patchset.jobs.lock import LOCK, is_locked

State = Literal["complete", "running", "unfinished"]


@dataclass(frozen=True)
class WorkStatus:
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
    skipped : tuple of str
        Sources that can't be read, and why.
    missing_files : tuple of str
        Files of sources that must be there again before `next` works.
    missing_jobs : dict of str to list of int
        With --of: the jobs of `score` and `write` that have work left.
    job_errors : dict of str to str
        By job that has work left, such as "write 3 of 16": the error that ended it.
    """

    kind: str
    path: str
    folder: str
    state: State
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
    skipped: tuple[str, ...]
    missing_files: tuple[str, ...]
    missing_jobs: dict[str, list[int]]
    job_errors: dict[str, str]


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
        candidates=0,
        scored=0,
        patches=0,
        written=0,
        shards=0,
        missing_shards=0,
        skipped=(),
        missing_files=(),
        missing_jobs={},
        job_errors={},
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
    if folder.root.is_symlink() and (folder.root / LOCK).exists() and warn is not None:
        warn(f"{folder.root} is left: it is a link to {os.path.realpath(folder.root)}")
    if not folder.is_own:
        return False
    if (other := folder.FILES.find_other(folder.root)) is not None:
        if warn is not None:
            text = f"which is not part of {folder.FILES.kind}"
            warn(f"{folder.root} is left: it holds {other}, {text}")
        return False
    return any(folder.root.iterdir())  # an empty folder may be anyone's
