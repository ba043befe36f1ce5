"""The jobs of an export that a scheduler starts: the share of each, and which have work left.

Job I of N scores its share of the chunks of candidates, and writes the shards whose first candidate
is in its share of the candidates. The work that a job does whole, a chunk or a shard, is a unit:
its number is that of the chunk, or of the first candidate.
"""

import re
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path
from typing import Literal

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.patchset.files import write_file

JobStep = Literal["score", "write"]

JOBS = "jobs"
"""Folder of what is known of jobs."""

_ERROR = re.compile(r"(?P<step>score|write)-(?P<job>[0-9]+)-of-(?P<of>[0-9]+)[.]txt")

FILES = rf"(score|write)[.]of|{re.sub('[?]P<[a-z]+>', '', _ERROR.pattern)}"
"""Regular expression of the files of `JobRecords`."""


def share(frozen: FrozenPlan, step: JobStep, job: int, of: int) -> tuple[int, int]:
    """Return the units of a job: the first, and the one after the last."""
    if not 0 <= job < of:
        raise ArgumentError(
            f"There is no job {job} of {of}; the jobs are {'0' if of == 1 else f'0 to {of - 1}'}."
        )
    n = _n_units(frozen, step)
    return n * job // of, n * (job + 1) // of


def jobs_of(frozen: FrozenPlan, step: JobStep, units: Iterable[int], of: int) -> list[int]:
    """Return the jobs, ascending, that have some units in their share."""
    n = _n_units(frozen, step)
    return sorted({(unit * of + of - 1) // n for unit in units})


def planned_shards(frozen: FrozenPlan) -> list[int]:
    """Return the first candidate of each shard, as if all candidates were patches."""
    arrays = frozen.arrays[:1]
    return [i for a in arrays for i in range(0, frozen.n_candidates, a.patches_per_shard)]


def _n_units(frozen: FrozenPlan, step: JobStep) -> int:
    return frozen.n_score_chunks if step == "score" else frozen.n_candidates


def format_jobs(jobs: Iterable[int]) -> str:
    """Return jobs as `sbatch --array` takes them: "0,3-5"."""
    runs = groupby(enumerate(jobs), lambda pair: pair[1] - pair[0])
    parts = list[str]()
    for _, run in runs:
        first, *rest = (job for _, job in run)
        parts.append(f"{first}-{rest[-1]}" if len(rest) > 1 else ",".join(map(str, [first, *rest])))
    return ",".join(parts)


def do_rest(frozen: FrozenPlan, step: JobStep, units: Collection[int], of: int | None) -> str:
    """Return a sentence on how to do the units that are missing of a step.

    `of` is the number of jobs that did the others, None if that is not known.
    """
    if of is None:
        return (
            f"Run `{step}` for every job, which does only what is missing; `patchset status "
            f"{Path(frozen.plan.out).name} --of N` lists the jobs that have work left. Or run the "
            "same export again."
        )
    jobs = jobs_of(frozen, step, units, of)
    named = f"job {jobs[0]} of {of}" if len(jobs) == 1 else f"the jobs {format_jobs(jobs)} of {of}"
    does = "does" if len(jobs) == 1 else "do"
    return (
        f"Run `{step}` for {named}, which {does} only what is missing, or run the same export "
        "again."
    )


class JobRecords:
    """What is known of jobs, in files of a folder: how many there are, and what ended them.

    Parameters
    ----------
    folder : Path
        write.of            the number of jobs of `write` that the last one to begin was told
        write-I-of-N.txt    the error that ended job I of N
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def number(self, step: JobStep) -> int | None:
        """Return the number of jobs of a step, None if none has begun."""
        try:
            return int((self._folder / f"{step}.of").read_text("ascii"))
        except FileNotFoundError:
            return None

    def note_number(self, step: JobStep, of: int) -> None:
        """Note the number of jobs of a step, as a job that begins is told it."""
        if self.number(step) != of:
            write_file(self._folder / f"{step}.of", [str(of).encode()], sync=False)

    def error_path(self, step: JobStep, job: int, of: int) -> Path:
        """Return the file of the error that ended a job."""
        return self._folder / f"{step}-{job}-of-{of}.txt"

    def errors(self) -> dict[tuple[JobStep, int, int], Path]:
        """Return the files of errors by step, number of jobs, and job; ascending."""
        found = dict[tuple[JobStep, int, int], Path]()
        for path in self._folder.glob("*.txt"):
            if match := _ERROR.fullmatch(path.name):
                step: JobStep = "score" if match["step"] == "score" else "write"
                found[step, int(match["of"]), int(match["job"])] = path
        return dict(sorted(found.items()))

    def forget_errors(self) -> None:
        """Remove the errors of all jobs, as one process does what they left."""
        for path in self.errors().values():
            path.unlink(missing_ok=True)
