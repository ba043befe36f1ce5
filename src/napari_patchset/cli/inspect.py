"""`patchset preview`, `geojson`, `verify` and `demo`: draw, check and try out patches."""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import imagecodecs
import typer

from napari_patchset.channels import channel_indices
from napari_patchset.cli.export import show_events, write_places
from napari_patchset.cli.parameters import (
    Files,
    Memory,
    SavedPlan,
    WorkerThreads,
    memory_from,
    plan_from,
    with_plan_options,
)
from napari_patchset.cli.report import REPORT
from napari_patchset.cli.settings import flag, option
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.reading.open_images import open_source
from napari_patchset.exporting.reading.steps import run_steps
from napari_patchset.exporting.run import iter_export
from napari_patchset.exporting.writing.freezing import freeze_plan
from napari_patchset.jobs.executors import DEFAULT_WORKERS
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.preview.categories import patch_categories
from napari_patchset.preview.image import render
from napari_patchset.sample import ensure_sample
from napari_patchset.stacks.metadata import image_metadata
from napari_patchset.training.lazy import measure_candidates
from napari_patchset.verification.verify import verify as find_differences


@with_plan_options
def preview(
    out: Annotated[Path, option("Output", "PNG", "The picture to write.")],
    files: Files = None,
    plan: SavedPlan = None,
    sample: Annotated[
        int | None,
        option("Output", "N", "The plane (or volume) to draw, counted from 0 (the middle one)."),
    ] = None,
    **options: Any,
) -> None:
    """Draw the patches on an image, as a PNG.

    Training patches are yellow, validation patches blue, those of a test violet, rejected ones red.

    Example: patchset preview cells.czi --scene 1 --patch-size 64,64 --overlap 16 --out grid.png
    """
    chosen = plan_from(files, f"preview{SUFFIX}", plan, options)
    if len(chosen.sources) > 1:
        first, n = chosen.sources[0], len(chosen.sources)
        raise ArgumentError(f"There are {n} images, the first is {first}; choose one: --scene.")
    write_preview(chosen, sample, out)
    REPORT.summary(str(out), path=str(out))


def write_preview(plan: ExportPlan, sample: int | None, out: Path) -> None:
    """Write the patches of a plan's only source as a PNG: on one sample, at its middle depth.

    They have the colours of the window: those of their splits, of folds as the first one has it.
    """
    frozen, grid = run_steps(freeze_plan(plan, lambda: None))
    metrics, failed = measure_candidates(frozen, grid, DEFAULT_WORKERS)
    if failed:
        raise SourcesFailed(failed)
    category = patch_categories(plan.judge(grid, frozen.sources, metrics), fold=0)
    with open_source(plan, frozen.plan.sources[0]) as stack:
        n_samples, _, *spatial = stack.data_shape
        depth = spatial[0] // 2 if plan.depth_axis != "none" else 0
        index = n_samples // 2 if sample is None else sample
        names = [channel.name for channel in image_metadata(stack).channels]
        channels = channel_indices(names, plan.channels)
        picture = render(stack, grid, category, sample=index, depth=depth, channels=channels)
    out.write_bytes(imagecodecs.png_encode(picture))


def geojson(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The patch set.")],
    out: Annotated[
        Path, option("Output", "FOLDER", "The folder to write to, a file for each source.")
    ],
    overwrite: Annotated[bool, flag("Output", "--overwrite", "Replace files.")] = False,
) -> None:
    """Write where the patches of a set lie, as GeoJSON for QuPath.

    The rejected ones too: their class is the reason, their measurements what the filters measured.

    Example: patchset geojson cells.patches.zarr --out places
    """
    files = write_places(name, out, overwrite)
    files_text = "1 file" if len(files) == 1 else f"{len(files)} files"
    REPORT.summary(f"{files_text} in {out}", path=str(out), files=list(map(str, files)))


def verify(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The patch set.")],
    sources: Annotated[
        bool, typer.Option(help="Cut every patch again from the sources, and compare.")
    ] = True,
    workers: WorkerThreads = DEFAULT_WORKERS,
    memory: Memory = None,
) -> None:
    """Check a patch set, and compare it with its sources.

    Compares every checksum and count, the split, and each patch with the sources' own pixels. Exit
    code 1 if anything differs. Patches of different splits that look alike are a warning.

    Example: patchset verify cells.patches.zarr
    """
    n = 0
    for finding in find_differences(
        name,
        sources=sources,
        workers=workers,
        memory=memory_from(memory),
        progress=partial(REPORT.progress, "verify"),
        notice=REPORT.warning,
    ):
        n += 1
        REPORT.difference(finding.name, finding.message)
    what = "itself and its sources" if sources else "itself; the sources were not read"
    text = f"{name}: no difference, compared with {what}"
    if n:
        text = f"{name}: {n} {'difference' if n == 1 else 'differences'}"
    REPORT.summary(text, is_failure=n > 0, path=str(name), differences=n)
    if n:
        raise typer.Exit(1)


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write.")] = Path(
        "demo"
    ),
) -> None:
    """Write the sample file, export it, and draw its patches.

    Example: patchset demo --out demo
    """
    out.mkdir(parents=True, exist_ok=True)
    sample = out / "cells.czi"
    if not sample.exists():
        shutil.copyfile(ensure_sample(report=partial(typer.echo, err=True)), sample)
    plan = make_plan([str(sample)], str(out / f"cells{SUFFIX}"), overlap="16")
    show_events(iter_export(plan, overwrite=True))
    first, picture = plan.model_copy(update={"sources": plan.sources[:1]}), out / "preview.png"
    write_preview(first, None, picture)
    REPORT.summary(f"the patches on the first scene: {picture.absolute()}", path=str(picture))
