"""How far an export is: what is done, what is missing, and how to go on."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_patchset.errors import (
    ExportError,
    MissingFileError,
    PatchsetError,
    UnreachableError,
)
from napari_patchset.exporting.stages import is_complete, skipped_in
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.job_array import JobStep, jobs_of, planned_shards
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import read_error
from napari_patchset.jobs.status import WorkStatus, work_status
from napari_patchset.patchset.layout import PARTIAL_SUFFIX
from napari_patchset.patchset.reader import read_description

_GONE = (MissingFileError, FileNotFoundError)
_PASSING = (*_GONE, UnreachableError, PermissionError)
"""Errors of a source that may be there again, as it was, when the set is completed."""


def export_status(out: str | Path, of: int | None = None) -> WorkStatus:
    """Return how far the export of a set is; for a number of jobs, also which have work left.

    Raise ExportError if there is neither a set nor an unfinished export of that name.
    """
    workdir = find_workdir(out)
    workdir.check_own()
    if is_complete(out):
        manifest, _ = read_description(Path(out))
        n = sum(manifest.counts.values())
        n_shards = sum(array.n_shards for array in manifest.arrays.values())
        return replace(
            work_status(workdir, Path(out)),
            candidates=n + sum(manifest.rejected.values()),
            patches=n,
            written=n,
            shards=n_shards,
            skipped=tuple(map(str, skipped_in(out))),
        )
    if not workdir.root.exists():
        raise ExportError(f"{out}: there is no patch set, and no unfinished export of that name.")
    frozen, status = workdir.find_plan(), work_status(workdir, Path(out))
    if frozen is None:
        return status
    status = replace(status, path=str(Path(out).with_name(Path(frozen.plan.out).name)))
    return _of_planned(status, workdir, frozen, of)


def find_workdir(name: str | Path) -> WorkDir:
    """Return the folder of an unfinished set, named by the set, by its stem, or by NAME.partial."""
    path = Path(name)
    return WorkDir(path) if path.name.endswith(PARTIAL_SUFFIX) else WorkDir.for_set(path)


def unfinished_status(workdir: WorkDir) -> WorkStatus:
    """Return how far the export in a folder is, whose plan may be damaged."""
    try:
        return export_status(workdir.plan().plan.out)
    except PatchsetError:  # it can be removed all the same
        name = workdir.root.name.removesuffix(PARTIAL_SUFFIX)
        return work_status(workdir, workdir.root.with_name(name))


def _of_planned(
    status: WorkStatus, workdir: WorkDir, frozen: FrozenPlan, of: int | None
) -> WorkStatus:
    chunks = workdir.scores.missing(frozen)
    scored = frozen.n_candidates - sum(len(frozen.score_chunk(i)) for i in chunks)
    patches, written, shards, missing = _written(workdir, frozen, bool(chunks))
    units: dict[JobStep, Sequence[int]] = {"score": chunks}
    units["write"] = planned_shards(frozen) if missing is None else missing
    is_scored = frozen.n_score_chunks and chunks
    stage = "score" if is_scored else "write" if missing is None or missing else "finalize"
    if workdir.is_in_place:
        stage = "done"
    is_stopped = status.state == "unfinished"
    # Before, a source that has changed is skipped; the end refuses it.
    is_to_finalize = is_stopped and stage == "finalize"
    changed = frozen.changed_files(workdir.failed()) if is_to_finalize else {}
    gone = tuple(path for path, error in changed.items() if isinstance(error, _GONE))
    has_other_content = not all(isinstance(each, _PASSING) for each in changed.values())
    return replace(
        status,
        stage=stage,
        next=_next_command(status, stage, has_other_content) if is_stopped else "",
        missing_files=gone,
        candidates=frozen.n_candidates,
        scored=scored if frozen.n_score_chunks else 0,
        patches=patches,
        written=written,
        shards=shards,
        missing_shards=shards if missing is None else len(missing),
        skipped=tuple(map(str, (*frozen.failures, *workdir.failed().values()))),
        missing_jobs={} if of is None else _missing_jobs(frozen, units, of),
        job_errors=_job_errors(workdir, frozen, units),
    )


def _next_command(status: WorkStatus, stage: str, has_other_content: bool) -> str:
    if stage in ("finalize", "done") and not has_other_content:
        words = ["finalize", status.path]
    else:
        plan = os.path.join(status.folder, WorkDir.PLAN)
        words = ["export", "--plan", plan, "--out", status.path]
    is_replaced = stage != "done" and os.path.exists(status.path)  # as it was begun
    overwrites = is_replaced or has_other_content
    return shlex.join(["patchset", *words, *(["--overwrite"] if overwrites else [])])


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
    frozen: FrozenPlan, units: Mapping[JobStep, Sequence[int]], of: int
) -> dict[str, list[int]]:
    """Return the jobs that have chunks to score, or shards to write."""
    return {step: jobs_of(frozen, step, missing, of) for step, missing in units.items()}


def _job_errors(
    workdir: WorkDir, frozen: FrozenPlan, units: Mapping[JobStep, Sequence[int]]
) -> dict[str, str]:
    """Return what ended each job that has work left, if an error did."""
    return {
        f"{step} {job} of {of}": read_error(path)
        for (step, of, job), path in workdir.jobs.errors().items()
        if job in jobs_of(frozen, step, units[step], of)
    }
