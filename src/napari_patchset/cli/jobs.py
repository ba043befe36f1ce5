"""The steps of an export as subcommands, for schedulers that start jobs by themselves."""

from pathlib import Path
from typing import Annotated

import typer

from napari_patchset.cli.options import (
    Files,
    Memory,
    Out,
    Overwrite,
    Threads,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import show_counts, show_failures
from napari_patchset.exporting.plan_options import PlanOptions
from napari_patchset.exporting.run import finalize_export, plan_export, score_part, write_part

Name = Annotated[str, typer.Argument(metavar="NAME", help="The set that the plan names.")]
Job = Annotated[int, typer.Option(metavar="I", min=0, help="Which of the jobs, counted from 0.")]
Of = Annotated[int, typer.Option(metavar="N", min=1, help="How many jobs there are.")]


@with_plan_options
def plan(
    options: PlanOptions, files: Files = None, out: Out = None, overwrite: Overwrite = False
) -> None:
    """Plan an export that jobs carry out.

    Each job runs `score` and `write` on its share; `finalize` completes the set.
    """
    made = plan_from(options, files, out)
    candidates = plan_export(made, overwrite=overwrite)
    typer.echo(f"{candidates} candidates for {made.out}")


def score(name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None) -> None:
    """Measure a job's share of the candidates.

    Only filters need it: without them there is nothing to do.
    """
    score_part(name, job, of, threads=workers, memory=memory_from(memory))


def write(name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None) -> None:
    """Write a job's share of the patches.

    With filters, not before all candidates are scored.
    """
    write_part(name, job, of, threads=workers, memory=memory_from(memory))


def finalize(name: Name, overwrite: Overwrite = False) -> None:
    """Complete a set when all jobs are done."""
    failures = finalize_export(name, overwrite=overwrite)
    show_counts(Path(name))
    show_failures(failures)
