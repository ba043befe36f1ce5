"""The steps of an export as subcommands, for schedulers that start jobs by themselves."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.cli.options import (
    RUNNING,
    Files,
    Json,
    Memory,
    Out,
    Overwrite,
    SavedPlan,
    Threads,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.progress import show_counts, show_failures
from napari_patchset.exporting.run import finalize_export, plan_export, score_part, write_part
from napari_patchset.patchset.reader import read_description

Name = Annotated[str, typer.Argument(metavar="NAME", help="The patch set that the plan names.")]
Job = Annotated[
    int,
    typer.Option(
        metavar="I", min=0, help="Which of the jobs, counted from 0.", rich_help_panel=RUNNING
    ),
]
Of = Annotated[
    int, typer.Option(metavar="N", min=1, help="Number of jobs.", rich_help_panel=RUNNING)
]


@with_plan_options
def plan(
    files: Files = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Plan an export that is carried out by jobs.

    Each job runs `score` and `write` on its share; `finalize` completes the patch set.

    Example: patchset plan *.czi --patch-size 64,64 --filter "std>p20" --out cells.patches.zarr
    """
    chosen = plan_from(files, out, plan, options)
    candidates = plan_export(chosen, overwrite=overwrite)
    if as_json:
        _echo("plan", chosen.out, candidates=candidates)
    else:
        typer.echo(f"{candidates} candidates for {chosen.out}")


def score(
    name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None, as_json: Json = False
) -> None:
    """Measure a job's share of the candidates.

    Only filters need it: without them there is nothing to do.

    Example: patchset score cells.patches.zarr --job 0 --of 16
    """
    score_part(name, job, of, threads=workers, memory=memory_from(memory))
    if as_json:
        _echo("score", name, job=job, of=of)


def write(
    name: Name, job: Job, of: Of, workers: Threads = 1, memory: Memory = None, as_json: Json = False
) -> None:
    """Write a job's share of the patches.

    With filters, not before all candidates are scored.

    Example: patchset write cells.patches.zarr --job 0 --of 16
    """
    write_part(name, job, of, threads=workers, memory=memory_from(memory))
    if as_json:
        _echo("write", name, job=job, of=of)


def finalize(name: Name, overwrite: Overwrite = False, as_json: Json = False) -> None:
    """Complete a patch set when all jobs are done.

    Example: patchset finalize cells.patches.zarr
    """
    failures = finalize_export(name, overwrite=overwrite)
    if as_json:
        manifest, _ = read_description(Path(name))
        skipped = [failure.model_dump() for failure in failures]
        _echo("done", name, counts=manifest.counts, failures=skipped)
    else:
        show_counts(Path(name))
    show_failures(failures)


def _echo(stage: str, name: str, **more: Any) -> None:
    """Print what a step did as JSON, with the names of the events of `export`."""
    typer.echo(json.dumps({"stage": stage, "path": name, **more}))
