"""What lies around a destination is there, byte for byte, after any command ended in any way."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import event, given
from hypothesis import strategies as st

from napari_patchset import ExportPlan, Tiled, export
from napari_patchset.errors import PatchsetError
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.status import export_status
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.jobs.status import find_unfinished
from napari_patchset.patchset.writers import FORMATS
from support.kills import killed
from support.zarr_maker import write_image

PARTIAL = "mine.partial"


COMMANDS: dict[str, Callable[[ExportPlan], Any]] = {
    "export": lambda plan: export(plan, workers=1).close(),
    "export --overwrite": lambda plan: export(plan, workers=1, overwrite=True).close(),
    "plan": plan_export,
    "plan --overwrite": lambda plan: plan_export(plan, overwrite=True),
    "score": lambda plan: score_job(plan.out, 0, 1),
    "write": lambda plan: write_job(plan.out, 0, 1),
    "finalize": lambda plan: finalize_export(plan.out),
    "finalize --overwrite": lambda plan: finalize_export(plan.out, overwrite=True),
    "status": lambda plan: export_status(plan.out, 2),
    "clean": lambda plan: [
        found.delete() for found in find_unfinished(Path(plan.out).parent, [WorkDir])
    ],
}

OWN_NAMES = (
    *("lock", "stop", "plan.json", "zarr.json", "patchset.json", "train.npz", "set", "replaced"),
    *("all", "candidates.parquet", "scores/0.parquet", "set/zarr.json", "all/image/c/77/0/0/0"),
    *("all/image/000077.ome.tif", "running.00000000000000000000000000000000"),
)
OTHER_NAMES = ("notes.txt", "b.tif", "set/all/notes.txt", "replaced/a/b")
"""What an export may name its files, and what it does not."""

ROOTS = (PARTIAL, "mine.patches.zarr", "mine.patches", "other", "")
LINKS = ("nowhere", "elsewhere", "elsewhere/c.tif")
"""Targets of links: nothing, a folder, a file."""

TREES = st.dictionaries(
    st.tuples(st.sampled_from(ROOTS), st.sampled_from(OWN_NAMES + OTHER_NAMES)),
    st.binary(max_size=4) | st.sampled_from(LINKS),
    max_size=4,
)
PLACES = ("s.tif", "set/s.tif", "all/image/s.tif", "s.zarr")
SOURCES = st.sampled_from([(root, inner) for root in ROOTS for inner in PLACES])
NAMES = st.sampled_from(["as it is", "with a slash", "in a linked folder", "in the source"])
OUTS = st.sampled_from([*["free"] * 3, "a dangling link", "a link to a folder", "a link to a set"])
STATES = st.sampled_from(["nothing", "a set", "an unfinished export", "both"])
RUNS = st.lists(
    st.tuples(st.sampled_from(sorted(COMMANDS)), st.none() | st.integers(0, 40)),
    min_size=1,
    max_size=4,
)


def write_source(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    if path.suffix == ".zarr":
        return write_image(path, "YX", pixels)
    tifffile.imwrite(path, pixels)
    return path


def plan_of(source: Path, out: Path | str, size: int, form: str) -> ExportPlan:
    strategy = Tiled(size=(size, size))
    filters = ["mean>-1"]
    return ExportPlan(sources=[source], out=out, strategy=strategy, format=form, filters=filters)


def contents(path: Path) -> dict[Path, bytes | str]:
    """Return the bytes of a file, the target of a link, or those of all in a folder."""
    if path.is_symlink():
        return {path: os.readlink(path)}
    if path.is_file():
        return {path: path.read_bytes()}
    return {key: value for each in path.iterdir() for key, value in contents(each).items()}


def is_free(path: Path) -> bool:
    """Return whether a file may be put there."""
    is_blocked = any(parent.is_file() or parent.is_symlink() for parent in path.parents)
    return not is_blocked and not os.path.lexists(path)


@pytest.mark.filterwarnings("ignore:the unfinished export in:UserWarning")
@given(
    files=TREES,
    place=SOURCES,
    named=NAMES,
    taken=OUTS,
    state=STATES,
    form=st.sampled_from(["zarr", "tiff", "npz", "coordinates"]),
    runs=RUNS,
)
def test_every_foreign_file_and_every_source_is_there_afterwards(
    files: dict[tuple[str, str], bytes | str],
    place: tuple[str, str],
    named: str,
    taken: str,
    state: str,
    form: str,
    runs: list[tuple[str, int | None]],
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / f"mine{FORMATS[form].suffix}"
        origin = write_source(folder / "origin.tif")
        foreign = contents(origin) | contents(write_source(folder / "elsewhere" / "c.tif"))
        if taken == "free":
            if state in ("a set", "both"):
                export(plan_of(origin, out, 16, form)).close()
            if state in ("an unfinished export", "both"):
                plan_export(plan_of(origin, out, 16, form), overwrite=True)
        elif taken == "a link to a set":
            real = folder / "real" / out.name
            export(plan_of(origin, real, 16, form)).close()
            out.symlink_to(real)
            foreign |= contents(out) | contents(real)
        else:
            out.symlink_to(folder / ("nowhere" if "dangling" in taken else "elsewhere"))
            foreign |= contents(out)
        ours = {path for path in (out, folder / PARTIAL) if path.exists()}
        for (root, inner), content in files.items():
            path = folder / root / inner
            if folder / root in ours and inner in OWN_NAMES:  # no one can tell whose it is
                path = path.with_name(f"{path.name} of mine")
            if not is_free(path):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.symlink_to(folder / content)
            else:
                path.write_bytes(content)
            foreign |= contents(path)
        source = folder.joinpath(*place)
        source = write_source(source) if is_free(source) else origin
        foreign |= contents(source)
        name = str(out)
        if named == "with a slash":
            name += "/"
        elif named == "in a linked folder":
            (folder / "door").symlink_to(folder)
            name = str(folder / "door" / out.name)
        elif named == "in the source" and source.suffix == ".zarr":
            name = str(source / out.name)
        plan = plan_of(source, name, 8, form)
        for command, after in runs:
            try:
                with killed(folder, after):
                    COMMANDS[command](plan)
                event(f"{command} ended")
            except (PatchsetError, OSError, Stopped) as error:
                event(f"{command}: {type(error).__name__}")
            found = {path: contents(path).get(path) for path in foreign if os.path.lexists(path)}
            assert found == foreign, command
