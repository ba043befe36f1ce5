"""An export removes and replaces what an export wrote, and nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset import ExportPlan, PatchSet, Tiled, export, iter_export
from napari_patchset.errors import ArgumentError, ExportError, PatchsetError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.plans.region_files import file_region
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.lock import LOCK
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patchset.writers import FORMATS
from support.export_makers import advance, plan_for
from support.window import Window
from support.zarr_maker import write_image

OUT, PARTIAL = "mine.patches.zarr", "mine.partial"


def export_in_jobs(plan: ExportPlan, overwrite: bool = False) -> None:
    plan_export(plan, overwrite=overwrite)
    score_job(plan.out, 0, 1)
    write_job(plan.out, 0, 1)
    finalize_export(plan.out, overwrite=overwrite)


WAYS: dict[str, Callable[..., Any]] = {"export": export, "jobs": export_in_jobs}
each_way = pytest.mark.parametrize("run_one", WAYS.values(), ids=WAYS)
with_or_without_overwrite = pytest.mark.parametrize("overwrite", [False, True])


def write_source(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.arange(256, dtype=np.uint16).reshape(16, 16))
    return path


def plan_of(source: Path, out: Path, size: int = 8, **fields: Any) -> ExportPlan:
    return plan_for(source, out, strategy=Tiled(size=(size, size)), **fields)


def stop_midway(plan: ExportPlan) -> None:
    """Leave an unfinished export."""
    events = iter_export(plan)
    advance(events, "plan")
    events.close()


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Return all that lies in a folder: bytes of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def refused(
    root: Path, act: Callable[[], Any], named: str, error: type[PatchsetError] = ExportError
) -> None:
    """Require one error that names a path and a remedy, and that nothing has changed."""
    before = tree(root)
    with pytest.raises(error, match="choose another name") as caught:
        act()
    assert named in str(caught.value)
    assert tree(root) == before


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "a.tif")


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "a folder of data": lambda path: write_source(path / "deep" / "a.tif"),
    "a file": lambda path: path.write_text("mine"),
    "a link to a folder": lambda path: [
        write_source(path.parent / "elsewhere" / "b.tif"),
        path.symlink_to("elsewhere"),
    ],
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "files with names of ours": lambda path: [
        write_source(path / name)
        for name in ("lock", "plan.json", "candidates.parquet", "set/zarr.json", "zarr.json")
    ],
    "folders with names of ours": lambda path: [
        (path / name).mkdir(parents=True) for name in ("plan.json", "zarr.json", "patchset.json")
    ],
    "JSON of others": lambda path: [
        path.mkdir(),
        (path / "plan.json").write_text('{"plan": {}}'),
        (path / "zarr.json").write_text('{"attributes": {"patchset": {"manifest": {}}}}'),
    ],
}
each_foreign = pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)


@each_way
@with_or_without_overwrite
@each_foreign
@pytest.mark.parametrize("name", [OUT, PARTIAL])
def test_what_is_not_ours_under_a_name_of_ours_is_refused(
    source: Path, run_one: Any, overwrite: bool, make: Callable[[Path], Any], name: str
) -> None:
    folder = source.parent
    make(folder / name)
    plan = plan_of(source, folder / OUT)
    refused(folder, lambda: run_one(plan, overwrite=overwrite), str(folder / name))


@with_or_without_overwrite
@pytest.mark.parametrize("step", [score_job, write_job, finalize_export])
@each_foreign
def test_no_step_takes_a_foreign_folder_for_an_export(
    source: Path, step: Any, overwrite: bool, make: Callable[[Path], Any]
) -> None:
    folder = source.parent
    make(folder / PARTIAL)
    options = {"overwrite": overwrite} if step is finalize_export else {"job": 0, "of": 1}
    refused(folder, lambda: step(folder / OUT, **options), str(folder / PARTIAL))


@each_foreign
def test_finalize_replaces_only_a_set(source: Path, make: Callable[[Path], Any]) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT)
    plan_export(plan)
    write_job(plan.out, 0, 1)
    make(folder / OUT)
    before = tree(folder / OUT)
    with pytest.raises(ExportError, match=r"mine\.patches\.zarr exists; choose another name"):
        finalize_export(plan.out, overwrite=True)
    assert tree(folder / OUT) == before
    if (folder / OUT).is_dir() and not (folder / OUT).is_symlink():
        shutil.rmtree(folder / OUT)
    else:
        (folder / OUT).unlink()
    finalize_export(plan.out)
    assert len(PatchSet(plan.out)["all"]) == 4


def paired(role: str) -> Callable[[Path, Path, Path], ExportPlan]:
    """Return what makes a plan that takes a path as the target, labels or mask of a source."""

    def make(source: Path, other: Path, out: Path) -> ExportPlan:
        ref = SourceRef(path=str(source), **{role: ImageRef(path=str(other))})
        filters = [parse_filter("mask>0")] if role == "mask" else []
        return ExportPlan(sources=[ref], out=out, strategy=Tiled(size=(8, 8)), filters=filters)

    return make


def limited(source: Path, other: Path, out: Path) -> ExportPlan:
    region = file_region(str(other))
    return ExportPlan(sources=[source], out=out, strategy=Tiled(size=(8, 8), region=region))


def in_sequence(source: Path, other: Path, out: Path) -> ExportPlan:
    files = (str(source), str(other))
    ref = SourceRef(path=files[0], sequence="T", files=files)
    return ExportPlan(sources=[ref], out=out, strategy=Tiled(size=(8, 8)))


USES: dict[str, Callable[[Path, Path, Path], ExportPlan]] = {
    "source": lambda _, other, out: plan_of(other, out),
    **{role: paired(role) for role in ("target", "labels", "mask")},
    "region": limited,
    "sequence": in_sequence,
}


def write_zarr(path: Path) -> Path:
    return write_image(path, "YX", np.zeros((16, 16), np.uint16))


RELATIONS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "is the source": lambda folder: (write_zarr(folder / OUT), folder / OUT),
    "holds the source": lambda folder: (write_source(folder / OUT / "b.tif"), folder / OUT),
    "lies in the source": lambda folder: (write_zarr(folder / "b.zarr"), folder / "b.zarr" / OUT),
}


@each_way
@with_or_without_overwrite
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("relation", RELATIONS)
def test_no_set_is_holds_or_lies_in_an_image(
    source: Path, run_one: Any, overwrite: bool, use: Any, relation: str
) -> None:
    folder = source.parent
    image, out = RELATIONS[relation](folder)
    plan = use(source, image, out)
    said = f"{out} {relation} {image}"
    refused(folder, lambda: run_one(plan, overwrite=overwrite), said, ArgumentError)


@each_way
@with_or_without_overwrite
@pytest.mark.parametrize("linked", [False, True])
def test_a_set_of_which_patches_are_cut_is_not_replaced(
    source: Path, run_one: Any, overwrite: bool, linked: bool
) -> None:
    folder = source.parent
    out = folder / OUT
    export(plan_of(source, out, 16)).close()
    plan = plan_of(out / "all" / "image", out)
    if linked:
        (folder / "link.patches.zarr").symlink_to(out)
        plan = plan.model_copy(update={"out": str(folder / "link.patches.zarr")})
    refused(folder, lambda: run_one(plan, overwrite=overwrite), "holds the source", ArgumentError)


@with_or_without_overwrite
def test_links_on_the_way_are_followed(source: Path, overwrite: bool) -> None:
    folder = source.parent
    other = write_source(folder / "data" / PARTIAL / "b.tif")
    (folder / "door").symlink_to("data")
    plan = plan_of(other, folder / "door" / OUT)
    refused(folder, lambda: export(plan, overwrite=overwrite), str(other), ArgumentError)


def test_a_folder_moved_into_a_source_is_not_completed_there(source: Path) -> None:
    folder = source.parent
    image = write_zarr(folder / "b.zarr")
    plan = plan_of(image, folder / OUT)
    plan_export(plan)
    (folder / PARTIAL).rename(image / PARTIAL)
    for step in (lambda: write_job(image / OUT, 0, 1), lambda: finalize_export(image / OUT)):
        refused(folder, step, "lies in the source", ArgumentError)


def test_a_set_beside_its_source_is_replaced_by_a_name_with_a_slash(source: Path) -> None:
    folder = source.parent
    export(plan_of(source, folder / OUT, 16))
    plan = ExportPlan(sources=[source], strategy=Tiled(size=(8, 8)), out=f"{folder / OUT}/")
    assert len(export(plan, overwrite=True)["all"]) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT]


@each_way
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("left", ["", "notes.txt", "all/notes.txt", "all/image/c/9/0/0/0", "empty"])
def test_a_set_of_each_format_is_replaced_unless_it_holds_something_else(
    source: Path, run_one: Any, form: str, left: str
) -> None:
    folder = source.parent
    out = folder / f"mine{FORMATS[form].suffix}"
    export(plan_of(source, out, 16, format=form, filters=[parse_filter("mean>-1")]))
    before = tree(out)
    plan = plan_of(source, out, format=form)
    if left:
        (out / left).parent.mkdir(parents=True, exist_ok=True)
        (out / left).mkdir() if left == "empty" else (out / left).write_text("mine")
        refused(
            folder, lambda: run_one(plan, overwrite=True), f"{out} holds {left.partition('/')[0]}"
        )
    else:
        run_one(plan, overwrite=True)
        assert tree(out) != before
        assert sorted(path.name for path in folder.iterdir()) == ["a.tif", out.name]


@each_way
@with_or_without_overwrite
@pytest.mark.parametrize(
    "left", ["notes.txt", "set/notes.txt", "set/all/notes.txt", "shards/0.txt"]
)
def test_an_unfinished_export_that_holds_something_else_is_refused(
    source: Path, run_one: Any, overwrite: bool, left: str
) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT, 8 if overwrite else 16)
    stop_midway(plan_of(source, folder / OUT, 16))
    write_source(folder / PARTIAL / left)
    refused(folder, lambda: run_one(plan, overwrite=overwrite), f"{PARTIAL} holds ")


LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".nfs00000000024a6c0a00000001")
"""What macOS, Windows and NFS put into folders."""


@each_way
def test_litter_of_the_system_goes_with_a_set_that_is_replaced(source: Path, run_one: Any) -> None:
    folder = source.parent
    out = folder / OUT
    export(plan_of(source, out, 16))
    for name in LITTER:
        (out / name).touch()
        (out / "all" / "image" / name).touch()
    run_one(plan_of(source, out), overwrite=True)
    assert len(PatchSet(out)["all"]) == 4
    assert not [path for path in out.rglob("*") if path.name in LITTER]
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT]


@each_way
@with_or_without_overwrite
def test_litter_of_the_system_goes_with_an_unfinished_export(
    source: Path, run_one: Any, overwrite: bool
) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT)
    stop_midway(plan)
    for name in LITTER:
        for place in ("", "set", "scores"):
            (folder / PARTIAL / place).mkdir(exist_ok=True)
            (folder / PARTIAL / place / name).touch()
    run_one(plan, overwrite=overwrite)
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT]


def test_litter_in_a_folder_of_others_stays(source: Path) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT)
    plan_export(plan)
    workdir = WorkDir.for_set(plan.out)
    (workdir.root / "notes").mkdir()
    (workdir.root / "notes" / ".DS_Store").touch()
    workdir.remove()
    assert (workdir.root / "notes" / ".DS_Store").exists()


def test_what_is_put_there_during_an_export_stays(source: Path) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT)
    events = iter_export(plan)
    advance(events, "plan")
    notes = write_source(folder / PARTIAL / "set" / "notes.txt")
    before = notes.read_bytes()
    with pytest.raises(ExportError, match=r"holds set/notes\.txt.*move it away"):
        list(events)
    assert notes.read_bytes() == before
    notes.rename(folder / "notes.txt")
    assert len(export(plan)["all"]) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT, "notes.txt"]


def test_what_is_put_there_at_the_very_end_stays(source: Path) -> None:
    plan = plan_of(source, source.parent / OUT)
    plan_export(plan)
    workdir = WorkDir.for_set(plan.out)
    notes = [workdir.root / name for name in ("notes.txt", "set/notes.txt", "replaced/a/b")]
    for path in notes:
        write_source(path)
    (workdir.root / "scores").symlink_to("nowhere")
    workdir.remove()
    files = [path for path in workdir.root.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([*notes, workdir.root / LOCK])
    assert (workdir.root / "scores").is_symlink()


def test_an_unfinished_export_with_the_lock_of_an_earlier_version_is_resumed(source: Path) -> None:
    folder = source.parent
    plan = plan_of(source, folder / OUT)
    stop_midway(plan)
    (folder / PARTIAL / LOCK).rename(folder / PARTIAL / "lock")
    assert len(export(plan)["all"]) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT]


@pytest.mark.parametrize("files", [[], [LOCK], [LOCK, "stop"], [LOCK, "set/"]])
def test_killed_before_there_was_a_plan_it_begins_anew(source: Path, files: list[str]) -> None:
    folder = source.parent
    (folder / PARTIAL).mkdir()
    for name in files:
        path = folder / PARTIAL / name
        path.mkdir() if name.endswith("/") else path.touch()
    assert len(export(plan_of(source, folder / OUT))["all"]) == 4
    assert sorted(path.name for path in folder.iterdir()) == ["a.tif", OUT]


def test_to_stop_an_export_touches_no_foreign_folder(source: Path) -> None:
    workdir = WorkDir.for_set(source.parent / OUT)
    workdir.root.mkdir()
    workdir.request_stop()
    assert not list(workdir.root.iterdir())


def test_the_command_reports_it_in_one_line(run: Any, source: Path) -> None:
    folder = source.parent
    write_source(folder / PARTIAL / "b.tif")
    for command in ("export", "plan"):
        arguments = (command, "a.tif", "--patch-size", "8,8", "--out", OUT, "--overwrite")
        before = tree(folder)
        code, said, err = run(*arguments)
        assert (code, said, err.count("\n")) == (1, "", 1)
        assert (
            "mine.partial exists and is not an unfinished export of patchset; choose another" in err
        )
        assert tree(folder) == before


def test_the_window_reports_it_and_touches_nothing(window: Window, source: Path) -> None:
    folder = source.parent
    write_source(folder / PARTIAL / "b.tif")
    before = tree(folder)
    window.open(source)
    window.widget.export.out.value = folder / OUT
    window.settle()
    assert "is not an unfinished export of patchset" in window.widget.export.status.value
    assert not window.widget.export.start.enabled
    assert tree(folder) == before


OWN_NAMES = (
    *("lock", "stop", "plan.json", "zarr.json", "patchset.json", "train.npz", "set", "replaced"),
    *("all", "candidates.parquet", "scores/0.parquet", "set/zarr.json", "all/image/c/77/0/0/0"),
    "all/image/000077.ome.tif",
)
OTHER_NAMES = ("notes.txt", "b.tif", "set/all/notes.txt", "replaced/a/b")
"""What an export may name its files, and what it does not."""

ROOTS = (PARTIAL, "mine.patches.zarr", "mine.patches", "other", "")
TREES = st.dictionaries(
    st.tuples(st.sampled_from(ROOTS), st.sampled_from(OWN_NAMES + OTHER_NAMES)),
    st.binary(max_size=4),
    max_size=4,
)
SOURCES = st.sampled_from(
    [f"{root}/{inner}" for root in ROOTS for inner in ("s.tif", "set/s.tif", "all/image/s.tif")]
)
STATES = st.sampled_from(["nothing", "a set", "an unfinished export", "both"])


@given(
    files=TREES,
    place=SOURCES,
    state=STATES,
    form=st.sampled_from(["zarr", "tiff", "npz", "coordinates"]),
    way=st.sampled_from(sorted(WAYS)),
    overwrite=st.booleans(),
    linked=st.booleans(),
    commands=st.integers(1, 2),
)
def test_every_foreign_file_and_every_source_is_there_afterwards(
    files: dict[tuple[str, str], bytes],
    place: str,
    state: str,
    form: str,
    way: str,
    overwrite: bool,
    linked: bool,
    commands: int,
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / f"mine{FORMATS[form].suffix}"
        origin = write_source(folder / "origin.tif")
        if state in ("a set", "both"):
            export(plan_of(origin, out, 16, format=form)).close()
        if state in ("an unfinished export", "both"):
            plan_export(plan_of(origin, out, 16, format=form), overwrite=True)
        ours = {path for path in (out, folder / PARTIAL) if path.exists()}
        foreign: dict[Path, bytes] = {origin: origin.read_bytes()}
        for (root, inner), content in files.items():
            path = folder / root / inner
            if folder / root in ours and inner in OWN_NAMES:  # no one can tell whose it is
                path = path.with_name(f"{path.name} of mine")
            if any(parent.is_file() for parent in path.parents) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            foreign[path] = content
        source = folder / place
        if source.exists() or any(parent.is_file() for parent in source.parents):
            source = origin
        write_source(source)
        foreign[source] = source.read_bytes()
        if linked:
            (folder / "door").symlink_to(folder)
            out = folder / "door" / out.name
        in_the_way = [
            path
            for path in foreign
            if path.is_relative_to(folder / PARTIAL) or path.is_relative_to(folder / out.name)
        ]
        before = tree(folder)
        plan = plan_of(source, out, format=form)
        for _ in range(commands):
            try:
                WAYS[way](plan, overwrite=overwrite)
                made = True
            except PatchsetError:
                made = False
            assert {path: path.read_bytes() for path in foreign} == foreign
            if not made:
                assert tree(folder) == before
            before = tree(folder)
            if in_the_way:
                assert not made
            elif state == "nothing" or overwrite:
                assert made == (overwrite or _ == 0)
