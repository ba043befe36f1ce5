"""`patchset export`, and its steps as subcommands for schedulers that start jobs by themselves."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_patchset.cli.parameters import (
    DryRun,
    Files,
    FilesFrom,
    MaxFailures,
    Memory,
    Out,
    Overwrite,
    Places,
    RunBy,
    SavedPlan,
    Scheduler,
    Strict,
    Workers,
    WorkerThreads,
    max_failures_from,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import RUNNING, option
from napari_patchset.cli.signals import resumable, until_interrupted
from napari_patchset.errors import SOURCE_ERRORS, ExportError
from napari_patchset.exporting.estimate import estimate_export
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import Failure
from napari_patchset.exporting.run import iter_export
from napari_patchset.exporting.stages import (
    Progress,
    finalize_export,
    is_complete,
    plan_export,
    score_job,
    skipped_in,
    write_job,
)
from napari_patchset.exporting.status import find_workdir
from napari_patchset.exporting.writing.selection import UNREADABLE
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.executors import DEFAULT_WORKERS, open_executor
from napari_patchset.jobs.folder import size_text
from napari_patchset.patching.splits.search import BY
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies.base import MISSING_PLANE
from napari_patchset.patchset.layout import TABLE, UNSPLIT
from napari_patchset.patchset.manifest import Manifest, Provenance
from napari_patchset.patchset.reader import PatchSet, read_description
from napari_patchset.patchset.table import TableFile
from napari_patchset.preview.geojson import check_absent, geojson_paths, write_geojson
from napari_patchset.source import natural_key
from napari_patchset.stacks.sequence import group_similar


@with_plan_options
def export(
    files: Files = None,
    files_from: FilesFrom = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    geojson: Places = None,
    executor: RunBy = "threads",
    workers: Workers = DEFAULT_WORKERS,
    scheduler: Scheduler = None,
    memory: Memory = None,
    strict: Strict = False,
    max_failures: MaxFailures = None,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Export a patch set.

    An export that was stopped resumes when the same command is run again.

    Example: patchset export *.tif --filter "std>p10" --val 0.1 --out cells.patches.zarr
    """
    chosen = plan_from(files, out, plan, options, files_from)
    if dry_run:
        show_estimate(chosen, overwrite, workers)
        return
    if geojson is not None and not overwrite:
        check_absent(geojson_paths(geojson, [(ref.path, ref.scene) for ref in chosen.sources]))
    with open_executor(executor, workers, scheduler, REPORT.warning) as pool:
        events = iter_export(
            chosen,
            pool,
            workers=workers,
            memory=memory_from(memory),
            overwrite=overwrite,
            max_failures=max_failures_from(strict, max_failures),
        )
        with resumable(WorkDir.for_set(chosen.out), chosen.out):
            show_events(until_interrupted(events), geojson, overwrite)


def show_progress(event: Progress) -> None:
    """Report how far an export is."""
    REPORT.progress(event.stage, event.done, event.total)


def show_events(
    events: Iterator[Progress], places: Path | None = None, overwrite: bool = False
) -> None:
    """Run an export and report its progress and the set.

    Parameters
    ----------
    places : Path or None
        The folder for the places of its patches, as GeoJSON.
    overwrite : bool
        Whether files there may be replaced.
    """
    for event in events:
        show_progress(event)
        REPORT.skipped(event.failures)
    files = [] if places is None else write_places(event.path, places, overwrite)
    show_set(event.path, event.failures, files)


def write_places(name: Path, folder: Path, overwrite: bool) -> list[Path]:
    """Write where the patches of a set lie, and report the progress."""
    progress = partial(REPORT.progress, "geojson")
    with PatchSet(name) as patch_set:
        return write_geojson(patch_set, folder, overwrite=overwrite, progress=progress)


Name = Annotated[str, typer.Argument(metavar="NAME", help="The patch set that the plan names.")]
Job = Annotated[int, option(RUNNING, "I", "Index of the job, counted from 0.", min=0)]
Of = Annotated[int, option(RUNNING, "N", "Number of jobs.", min=1)]


@with_plan_options
def plan(
    files: Files = None,
    files_from: FilesFrom = None,
    plan: SavedPlan = None,
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
    max_failures: MaxFailures = None,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Plan an export that is carried out by jobs.

    Each job runs `score` and `write` on its share; `finalize` completes the patch set.

    Example: patchset plan *.czi --patch-size 64,64 --filter "std>p20" --out cells.patches.zarr
    """
    chosen = plan_from(files, out, plan, options, files_from)
    if dry_run:
        show_estimate(chosen, overwrite, workers=1)
        return
    workdir, before = WorkDir.for_set(chosen.out), None
    with resumable(workdir, chosen.out):
        with suppress(ExportError):
            before = None if workdir.has_work else workdir.find_plan()
        n = plan_export(
            chosen,
            overwrite=overwrite,
            max_failures=max_failures_from(strict, max_failures),
            progress=show_progress,
        )
    frozen = workdir.plan()
    if before and not before.is_of_same_request(frozen):
        REPORT.warning(
            f"the plan that was in {workdir.root}, of {before.n_candidates:,} candidates of which "
            "nothing was scored or written, is replaced."
        )
    _show_skipped(frozen.failures)
    REPORT.summary(
        f"{n} candidates for {chosen.out}",
        path=chosen.out,
        candidates=n,
        shards=frozen.n_shards,
        jobs=frozen.n_useful_jobs,
        score_jobs=frozen.n_score_chunks,
    )


def score(name: Name, job: Job, of: Of, workers: WorkerThreads = 1, memory: Memory = None) -> None:
    """Measure a job's share of the candidates.

    Only filters and --dedupe need it: without them there is nothing to do.

    Example: patchset score cells.patches.zarr --job 0 --of 16
    """
    _run_job(score_job, "score", name, job, of, workers, memory)


def write(name: Name, job: Job, of: Of, workers: WorkerThreads = 1, memory: Memory = None) -> None:
    """Write a job's share of the patches.

    With filters or --dedupe, not before all candidates are scored.

    Example: patchset write cells.patches.zarr --job 0 --of 16
    """
    _run_job(write_job, "write", name, job, of, workers, memory)


def _run_job(
    run: Callable[..., Sequence[Failure]],
    stage: str,
    name: str,
    job: int,
    of: int,
    threads: int,
    memory: str | None,
) -> None:
    name, workdir = _set_of(name)
    with resumable(workdir, name):
        if is_complete(name):
            _show_complete(name)
            return
        progress = partial(REPORT.progress, stage)
        memory_bytes = memory_from(memory)
        failures = run(name, job, of, threads=threads, memory=memory_bytes, progress=progress)
    REPORT.skipped(failures)
    REPORT.summary("", path=name, job=job, of=of)


def finalize(name: Name, overwrite: Overwrite = False) -> None:
    """Complete a patch set when all jobs are done.

    Example: patchset finalize cells.patches.zarr
    """
    name, workdir = _set_of(name)
    with resumable(workdir, name):
        if is_complete(name):
            if _show_complete(name):
                raise typer.Exit(1)
            return
        progress = partial(REPORT.progress, "finalize")
        try:
            failures = finalize_export(name, overwrite=overwrite, progress=progress)
        except ExportError as error:
            told = getattr(error, "failures", {}).values()
            REPORT.skipped([each for each in workdir.failed().values() if each not in told])
            raise
    show_set(Path(name), failures)


def _set_of(name: str) -> tuple[str, WorkDir]:
    """Return the patch set and the folder that a name is of: that of the set, or NAME.partial."""
    workdir = find_workdir(name)
    if workdir.root == Path(name):
        name = str(Path(name).with_name(Path(workdir.plan().plan.out).name))
    return name, workdir


def _show_complete(name: str) -> Sequence[Failure]:
    """Report that a set is complete and no job has anything to do; return what was skipped."""
    failures = skipped_in(name)
    REPORT.skipped(failures)
    without = f" without {_sources(len(failures))}" if failures else ""
    text = f"{name} is complete{without}; nothing is left to do"
    REPORT.summary(text, path=name, is_complete=True)
    return failures


def _show_skipped(failures: Sequence[Failure]) -> None:
    """Report what was skipped, and what adds it later."""
    REPORT.skipped(failures)
    if n := len(failures):
        they, them = ("it", "it") if n == 1 else ("they", "them")
        REPORT.warning(
            f"{_sources(n)} skipped; once {they} can be read, the same `plan` or `export` with "
            f"--overwrite adds {them}."
        )


def _sources(n: int) -> str:
    return "1 source" if n == 1 else f"{n:,} sources"


def show_set(path: Path, failures: Sequence[Failure], places: Sequence[Path] = ()) -> None:
    """Report a complete set, and files of its places; exit with 1 if sources were skipped."""
    manifest, provenance = read_description(path)
    total, rejected = sum(manifest.counts.values()), dict(manifest.rejected)
    unreadable = rejected.pop(UNREADABLE, 0)
    parts = [f"{n} {split}" for split, n in manifest.counts.items() if split != UNSPLIT]
    if manifest.folds:
        parts[0] += f" in {len(manifest.folds)} folds"
    split = manifest.recipe.get("split")
    if split and split["by"] == BY[0]:
        parts.append(f"split by {_found_by_auto(path, manifest)}")
    if rejected:
        parts.append(_rejected(rejected))
    excluded = {reason: n for reason, n in manifest.dropped.items() if n}
    excluded |= {UNREADABLE: unreadable} if unreadable else {}
    for reason, n in excluded.items():
        where = _lacking_planes(provenance) if reason == MISSING_PLANE else ""
        parts.append(f"{n} excluded ({reason}{where})")
    if places:
        parts.append(f"their places in {places[0].parent}")
    figures: dict[str, Any] = {"files": list(map(str, places))} if places else {}
    remark = Split.model_validate(split).remark(manifest.counts, manifest.folds) if split else None
    if remark:
        REPORT.warning(remark)
    if split and split["by"] in BY and (hint := _sequence_hint(manifest, provenance)):
        REPORT.warning(hint)
    _show_skipped(failures)
    REPORT.summary(
        f"{total} patches in {path}" + (f": {', '.join(parts)}" if parts else ""),
        path=str(path),
        splits=manifest.counts,
        rejected=rejected,
        left_out=excluded,
        skipped=len(failures),
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        **figures,
    )
    if failures:
        raise typer.Exit(1)


def _found_by_auto(path: Path, manifest: Manifest) -> str:
    """Return what no two parts of an automatic split share: "file", "scene", or else "block"."""
    parts_of_scene = defaultdict[int, set[object]](set)
    columns = ["source_index", "kept", "split", *(["fold"] if manifest.folds else [])]
    for table in TableFile(path / TABLE).parts(columns):
        for row in table.group_by(columns).aggregate([]).to_pylist():
            if row["kept"]:
                parts_of_scene[row["source_index"]].add((row["split"], row.get("fold")))
    parts_of_file = defaultdict[str, set[object]](set)
    for index, parts in parts_of_scene.items():
        parts_of_file[manifest.sources[index].key] |= parts
    if all(len(parts) == 1 for parts in parts_of_file.values()):
        return "file"
    return "scene" if all(len(parts) == 1 for parts in parts_of_scene.values()) else "block"


def _sequence_hint(manifest: Manifest, provenance: Provenance) -> str:
    """Return a hint if frames of one image may be split apart, as they are files; "" if not."""
    refs = [SourceRef.model_validate(source) for source in provenance.sources]
    named = {
        ref.path
        for ref, info in zip(refs, manifest.sources, strict=True)
        if ref.sequence is None and ref.files is None and info.layout.sizes.get("T", 1) == 1
    }
    for first, *_, last in group_similar(map(Path, sorted(named, key=natural_key))):
        return (
            f"{first.name} to {last.name} are split as files of different images. If they are "
            "frames or planes of one, join them with --sequence T or Z, or name what belongs "
            "together in a sheet, with --samples."
        )
    return ""


def _rejected(counts: Mapping[str, int]) -> str:
    """Return how many candidates are rejected, and why: "9 rejected (std>5: 9)"."""
    reasons = ", ".join(f"{reason}: {n}" for reason, n in counts.items() if n)
    return f"{sum(counts.values())} rejected ({reasons})"


def _lacking_planes(provenance: Provenance) -> str:
    """Return which sources lack planes: " in a.czi and others"; "" for those of one file."""
    refs = [SourceRef.model_validate(source) for source in provenance.sources]
    if len({ref.path for ref in refs}) == 1:
        return ""
    lacking = list(islice((ref for ref in refs if _lacks_planes(ref)), 2))
    others = " and others" if len(lacking) > 1 else ""
    return f" in {lacking[0]}{others}" if lacking else ""


def _lacks_planes(ref: SourceRef) -> bool:
    with suppress(*SOURCE_ERRORS), ref.open() as stack:
        return bool(getattr(stack, "missing_planes", ()))
    return False


def show_estimate(plan: ExportPlan, overwrite: bool, workers: int) -> None:
    """Report what an export would write, and how long it would take; write nothing."""
    estimate = estimate_export(plan, overwrite=overwrite, workers=workers, progress=show_progress)
    REPORT.skipped(estimate.failures)
    size = size_text(estimate.nbytes)
    most = " at most, before filters and compression" if estimate.is_upper_bound else ""
    time = estimate.seconds
    parts = [_rejected(estimate.rejected)] if any(estimate.rejected.values()) else []
    parts += [f"{n} excluded ({reason})" for reason, n in estimate.excluded.items()]
    lines = [
        f"{estimate.candidates} candidates for {plan.out}"
        + (f": {', '.join(parts)}" if parts else ""),
        f"{size} in {estimate.shards} {'shard' if estimate.shards == 1 else 'shards'}{most}",
        f"--of {estimate.jobs} is the largest number of jobs that all have a shard to write"
        + (f", {estimate.score_jobs} to measure" if estimate.score_jobs else ""),
        f"about {timedelta(seconds=round(time))} with --workers {workers} to read the patches; "
        "planning and completing the set come on top"
        if time is not None
        else "time unknown: no patch could be read",
    ]
    REPORT.summary(
        "\n".join(lines),
        path=plan.out,
        candidates=estimate.candidates,
        rejected=estimate.rejected,
        left_out=estimate.excluded,
        bytes=estimate.nbytes,
        shards=estimate.shards,
        jobs=estimate.jobs,
        score_jobs=estimate.score_jobs,
        estimated_seconds=time,
    )
