"""How far an export is: what is done, what is missing, whether it runs, and how to go on.

It is read from NAME.partial, and changes nothing there. `remove_export` removes one that is given
up.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from napari_patchset.errors import ExportError, PatchsetError
from napari_patchset.exporting.destination import (
    PLAN,
    REPLACED,
    check_only_own_files,
    check_own_workdir,
)
from napari_patchset.exporting.frozen_plan import FrozenPlan
from napari_patchset.exporting.stages import is_complete, job_of
from napari_patchset.exporting.workdir import WorkDir
from napari_patchset.jobs.lock import is_locked
from napari_patchset.patchset.layout import PARTIAL_SUFFIX
from napari_patchset.patchset.reader import read_description

State = Literal["complete", "running", "unfinished"]


@dataclass(frozen=True)
class ExportStatus:
    """The state of an export.

    Attributes
    ----------
    path : str
        The patch set.
    folder : str
        NAME.partial.
    state : {"complete", "running", "unfinished"}
        Whether the set is complete, a process writes it, or none does.
    stage : {"plan", "score", "write", "finalize", "done"}
        The step that comes next.
    candidates, scored, patches, written : int
        Candidates, and how many of them are scored; patches, and how many are written. Patches are
        candidates as long as filters are not applied.
    shards, missing_shards : int
        Number of shards of all arrays, and of those that are not written.
    bytes : int
        Size of all files on disk.
    changed : str
        When a file was written last, UTC, ISO 8601.
    skipped : tuple of str
        Sources that can't be read, and why.
    missing_jobs : dict of str to list of int
        Jobs that have work left, of `score` and `write`, for a number of jobs.
    """

    path: str
    folder: str
    state: State
    stage: str
    candidates: int = 0
    scored: int = 0
    patches: int = 0
    written: int = 0
    shards: int = 0
    missing_shards: int = 0
    bytes: int = 0
    changed: str = ""
    skipped: tuple[str, ...] = ()
    missing_jobs: dict[str, list[int]] = field(default_factory=dict)

    @property
    def next_command(self) -> str:
        """The command that goes on; "" if nothing is left, or another process does it."""
        if self.state != "unfinished":
            return ""
        if self.stage == "plan":
            return "the command that began it"
        if self.stage in ("finalize", "done"):
            return shlex.join(["patchset", "finalize", self.path])
        plan = os.path.join(self.folder, PLAN)
        return shlex.join(["patchset", "export", "--plan", plan, "--out", self.path])


def export_status(out: str | Path, of: int | None = None) -> ExportStatus:
    """Return how far the export of a set is.

    Parameters
    ----------
    out : str or Path
        The patch set.
    of : int or None
        A number of jobs, to list those that have work left.

    Raises
    ------
    ExportError
        If there is neither a set nor an unfinished export of that name.
    """
    workdir = WorkDir.for_set(out)
    root = workdir.root
    check_own_workdir(root)
    if is_complete(out):
        manifest, _ = read_description(Path(out))
        n = sum(manifest.counts.values())
        nbytes, changed = _measure(Path(out))
        return ExportStatus(
            *(str(out), str(root), "complete", "done"),
            patches=n,
            written=n,
            shards=sum(array.n_shards for array in manifest.arrays.values()),
            bytes=nbytes,
            changed=changed,
        )
    if not root.exists():
        raise ExportError(f"{out}: there is no patch set, and no unfinished export of that name.")
    state: State = "running" if is_locked(root) else "unfinished"
    nbytes, changed = _measure(root)
    frozen = workdir.find_frozen()
    if frozen is None:
        return ExportStatus(str(out), str(root), state, "plan", bytes=nbytes, changed=changed)
    chunks = [i for i in range(frozen.n_score_chunks) if not workdir.scores.has(i)]
    scored = frozen.n_candidates - sum(len(frozen.score_chunk(i)) for i in chunks)
    patches, written, shards, missing = _written(workdir, frozen, bool(chunks))
    is_scored = frozen.n_score_chunks and chunks
    stage = "score" if is_scored else "write" if missing is None or missing else "finalize"
    jobs = {} if of is None else _missing_jobs(frozen, chunks, missing, of)
    return ExportStatus(
        *(str(out), str(root), state, "done" if workdir.is_in_place else stage),
        candidates=frozen.n_candidates,
        scored=scored if frozen.n_score_chunks else 0,
        patches=patches,
        written=written,
        shards=shards,
        missing_shards=shards if missing is None else len(missing),
        bytes=nbytes,
        changed=changed,
        skipped=tuple(map(str, (*frozen.failures, *workdir.failed().values()))),
        missing_jobs=jobs,
    )


def _written(
    workdir: WorkDir, frozen: FrozenPlan, is_scoring: bool
) -> tuple[int, int, int, list[int] | None]:
    """Return the patches, those written, the shards, and the first candidate of each missing one.

    As long as nothing is selected all candidates are patches, and what is missing is not known.
    """
    if workdir.is_in_place:
        return frozen.n_candidates, frozen.n_candidates, frozen.n_shards, []
    if is_scoring or not workdir.has_selection:
        return frozen.n_candidates, 0, frozen.n_shards, None
    patches = written = shards = 0
    missing = []
    for array in workdir.selection().arrays(frozen.arrays):
        is_image = array.layout.role == frozen.arrays[0].role
        shards += array.layout.n_shards
        patches += array.layout.n if is_image else 0
        for shard in array.shards:
            if workdir.done_marker(shard) is None:
                missing.append(int(shard.candidates[0]))
            elif is_image:
                written += len(shard.candidates)
    return patches, written, shards, missing


def _missing_jobs(
    frozen: FrozenPlan, chunks: Sequence[int], missing: Sequence[int] | None, of: int
) -> dict[str, list[int]]:
    """Return the jobs that have chunks to score, or shards to write."""
    score = {job_of(chunk, frozen.n_score_chunks, of) for chunk in chunks}
    if missing is None:
        arrays = frozen.arrays[:1]
        missing = [i for a in arrays for i in range(0, frozen.n_candidates, a.patches_per_shard)]
    write = {job_of(candidate, frozen.n_candidates, of) for candidate in missing}
    return {"score": sorted(score), "write": sorted(write)}


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


def find_unfinished(folder: Path) -> Iterator[ExportStatus]:
    """Yield the state of each unfinished export in a folder, and in the folders below it."""
    for path, names, _ in os.walk(folder):
        for name in sorted(names):
            root = Path(path, name)
            if not name.endswith(PARTIAL_SUFFIX) or not _is_unfinished(root):
                continue
            names.remove(name)
            yield _status_of(root)


def _is_unfinished(root: Path) -> bool:
    """Return whether a folder is an unfinished export of ours that can be removed as it is."""
    try:
        check_own_workdir(root)
        check_only_own_files(root)
    except ExportError:
        return False
    return any(root.iterdir())  # an empty folder may be anyone's


def _status_of(root: Path) -> ExportStatus:
    """Return the state of the export in a folder, whose plan may be damaged."""
    try:
        frozen = WorkDir(root).find_frozen()
        if frozen is not None:
            return export_status(frozen.plan.out)
    except PatchsetError:
        pass  # it can be removed all the same
    state: State = "running" if is_locked(root) else "unfinished"
    nbytes, changed = _measure(root)
    stem = root.name.removesuffix(PARTIAL_SUFFIX)
    name = str(root.with_name(stem))
    return ExportStatus(name, str(root), state, "plan", bytes=nbytes, changed=changed)


def remove_export(folder: Path) -> None:
    """Remove an unfinished export.

    Raises
    ------
    ExportError
        If it runs, is none, holds a file that no export writes, or a complete set that has no other
        place yet.
    """
    check_own_workdir(folder)
    workdir = WorkDir(folder)
    with workdir.locked():
        check_only_own_files(folder)
        if (folder / REPLACED).exists() and not workdir.is_in_place:
            raise ExportError(
                f"{folder} holds a complete set that was about to be replaced; run `patchset "
                "finalize --overwrite` first."
            )
        workdir.discard()
