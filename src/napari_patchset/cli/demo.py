"""`patchset demo`: the sample file, exported and drawn."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from napari_patchset.cli.preview import write_preview
from napari_patchset.cli.progress import show_events
from napari_patchset.exporting.plan_options import make_plan
from napari_patchset.exporting.run import iter_export
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.sample import ensure_sample


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder to write.")] = Path(
        "demo"
    ),
) -> None:
    """Export the sample file, and draw its patches.

    Example: patchset demo --out demo
    """
    out.mkdir(parents=True, exist_ok=True)
    sample = ensure_sample(report=partial(typer.echo, err=True))
    plan = make_plan([str(sample)], str(out / f"cells{SUFFIX}"), overlap="16")
    show_events(iter_export(plan, overwrite=True), as_json=False)
    first, picture = plan.model_copy(update={"sources": plan.sources[:1]}), out / "preview.png"
    write_preview(first, None, picture)
    typer.echo(f"the patches on the first scene: {picture.absolute()}")
