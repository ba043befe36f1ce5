"""What goes wrong midway: one report or one error, and the same command goes on."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, PatchSet, Tiled, export, iter_export, verify
from napari_patchset.errors import ExportError, SkippedSourcesWarning, UnreadableFileError
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.reading.open_images import OpenImages
from napari_patchset.exporting.stages import finalize_export, plan_export, write_job
from napari_patchset.exporting.writing import workdir
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.lock import LOCK
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patchset import files
from napari_patchset.stacks.czi.subblocks import SubblockDecoder
from napari_patchset.stacks.opening import open_stack
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import SCENES, advance, digests, plan_for

pytestmark = pytest.mark.usefixtures("small_shards")

N_FILES, BROKEN = 6, 2


@pytest.fixture
def paths(czi: MakeCzi) -> list[Path]:
    """Write files that differ."""
    return [
        czi(SceneSpec(rect=(0, 0, 64, 48), t=range(i, i + 1), c=2), tile=(16, 32), name=f"{i}.czi")
        for i in range(N_FILES)
    ]


def plan_of(paths: list[Path], out: Path, **fields: Any) -> ExportPlan:
    return ExportPlan(
        sources=expand_sources(paths), strategy=Tiled(size=(16, 16)), out=out, **fields
    )


def break_reading(monkeypatch: pytest.MonkeyPatch, broken: Path) -> None:
    """Let a file open, but give no pixel of its lower half."""
    decode = SubblockDecoder.decode

    def decoding(self: SubblockDecoder, row: int) -> Any:
        files = [file.path for file in self._parts.values()]
        if files == [broken] and self._blocks.rect[row, 1::2].sum() > 16:
            raise UnreadableFileError(f"{broken}: a tile is damaged.")
        return decode(self, row)

    monkeypatch.setattr(SubblockDecoder, "decode", decoding)


def test_two_hundred_files_are_one_plan_and_the_broken_one_is_one_failure(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:03}.tif" for i in range(200)]
    for i, path in enumerate(paths):
        tifffile.imwrite(path, np.full((16, 16), i, np.uint16))
    paths[77].write_bytes(paths[77].read_bytes()[:150])
    with pytest.warns(SkippedSourcesWarning, match=r"077\.tif") as warned:
        made = export(plan_of(paths, tmp_path / "a.patches.zarr"))
    assert [failure.source for failure in warned[0].message.failures] == [str(paths[77])]
    with closing(made):
        values = [np.unique(patch).tolist() for patch in made["all"]]
        assert values == [[i] for i in range(200) if i != 77]


@pytest.mark.parametrize("filters", [(), ("mean>p10",)], ids=["write", "score and write"])
def test_each_of_many_files_is_opened_once_and_not_closed_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: tuple[str, ...]
) -> None:
    paths = [tmp_path / f"{i:03}.tif" for i in range(30)]
    for i, path in enumerate(paths):
        tifffile.imwrite(path, np.full((16, 16), i, np.uint16))
    opened: list[str] = []

    def open_and_count(path: str, *args: Any) -> Any:
        opened.append(path)
        return open_stack(path, *args)

    monkeypatch.setattr(workdir, "OpenImages", partial(OpenImages, opener=open_and_count))
    chosen = [parse_filter(text) for text in filters]
    export(plan_of(paths, tmp_path / "a.patches.zarr", filters=chosen)).close()
    names = [str(path) for path in paths]
    scored, written = opened[: len(names) * len(filters)], opened[len(names) * len(filters) :]
    assert scored == names * len(filters)
    assert written == [name for name in names if name in written]  # a filter rejects some


@pytest.mark.parametrize("filters", [(), ("mean>p10",)])
@pytest.mark.parametrize("how", ["cut", "damaged"])
def test_one_broken_file_of_many_is_reported_and_the_rest_is_exported(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, filters: Any
) -> None:
    filters = [parse_filter(text) for text in filters]
    others = [path for i, path in enumerate(paths) if i != BROKEN]
    whole = export(plan_of(others, tmp_path / "others.patches.zarr", filters=filters))
    if how == "cut":
        paths[BROKEN].write_bytes(paths[BROKEN].read_bytes()[:100])
    else:
        break_reading(monkeypatch, paths[BROKEN])
    plan = plan_of(paths, tmp_path / "a.patches.zarr", filters=filters)
    *_, last = iter_export(plan)
    assert [failure.source.partition(",")[0] for failure in last.failures] == [str(paths[BROKEN])]
    with closing(PatchSet(last.path)) as made:
        assert made.manifest.arrays == whole.manifest.arrays
        lost = [row for row in made.table.to_pylist() if row["source_index"] == BROKEN]
        if how == "damaged":
            assert {row["reason"] for row in lost} == {"source can't be read"}
            assert made.manifest.rejected["source can't be read"] == len(lost) == 12
    assert not list(verify(last.path))


@pytest.mark.filterwarnings("ignore::napari_patchset.errors.SkippedSourcesWarning")
def test_a_broken_file_is_skipped_by_jobs_too(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_reading(monkeypatch, paths[BROKEN])
    reference = export(plan_of(paths, tmp_path / "reference.patches.zarr"))
    plan = plan_of(paths, tmp_path / "jobs.patches.zarr")
    plan_export(plan)
    for job in (2, 1, 0):  # the last part is written before the second one finds the fault
        write_job(plan.out, job, 3)
    with pytest.raises(ExportError, match="not written yet"):
        finalize_export(plan.out)
    write_job(plan.out, 0, 1)
    assert [failure.message for failure in finalize_export(plan.out)] == [
        f"{paths[BROKEN]}: a tile is damaged."
    ]
    assert digests(Path(plan.out)) == digests(reference.path)


def test_the_only_file_broken_is_an_error_and_nothing_is_recorded(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi()
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    with monkeypatch.context() as patched:
        break_reading(patched, path)
        with pytest.raises(ExportError, match="a tile is damaged"):
            export(plan)
    export(plan)


def test_two_exports_into_one_folder_give_one_error(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    first = iter_export(plan)
    advance(first, "plan")
    for attempt in (lambda: export(plan, overwrite=True), lambda: write_job(plan.out, 0, 1)):
        with pytest.raises(ExportError, match="another export is writing there"):
            attempt()
    *_, last = first
    assert last.stage == "done"
    assert not WorkDir.for_set(plan.out).root.exists()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; .*: free space and run the same again"),
        (errno.EFBIG, r"a file may not be as large .* raise it \(`ulimit -f`\) and run the same"),
        (errno.EROFS, "the disk can only be read; .*: have it mounted for writing and run"),
    ],
)
def test_a_full_disk_is_one_error_and_the_export_goes_on(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = czi(*SCENES)
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    write, left = files.write_all, iter(range(40))

    def writing(file: Any, part: Any) -> None:
        if next(left, None) is None:
            raise OSError(number, os.strerror(number))
        write(file, part)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_all", writing)
        with pytest.raises(ExportError, match=rf"a\.partial: {message}"):
            export(plan)
    assert not Path(plan.out).exists()
    assert digests(export(plan).path) == digests(whole.path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def change_when(
    moment: str, broken: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a file change once, when an export opens it to read patches, or reads a tile of it."""
    decode, has_changed = SubblockDecoder.decode, list[bool]()

    def change_once() -> None:
        if not has_changed:
            has_changed.append(True)
            change(broken)

    def opening(path: str, *args: Any) -> Any:
        if Path(path) == broken and moment == "before it is opened":
            change_once()
        return open_stack(path, *args)

    def decoding(self: SubblockDecoder, row: int) -> Any:
        is_broken = [file.path for file in self._parts.values()] == [broken]
        if is_broken and moment == "before its first tile":
            change_once()
        pixels = decode(self, row)
        if is_broken and moment == "after its first tile":
            change_once()
        return pixels

    monkeypatch.setattr(workdir, "OpenImages", partial(OpenImages, opener=opening))
    monkeypatch.setattr(SubblockDecoder, "decode", decoding)


@pytest.mark.parametrize(
    "moment", ["before it is opened", "before its first tile", "after its first tile"]
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (append, "{} has changed since the export began; export again with overwrite."),
        (
            lambda path: os.truncate(path, 800),
            "{} has changed since the export began; export again with overwrite.",
        ),
        (
            Path.unlink,
            "{} is missing, but was there when the export began; restore it, and export "
            "again, with overwrite if the set was completed without it.",
        ),
    ],
    ids=["longer", "cut", "gone"],
)
def test_a_file_that_changes_while_it_is_read_is_one_message_at_any_moment(
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    change: Callable[[Path], None],
    message: str,
) -> None:
    if sys.platform == "win32" and moment == "after its first tile" and change is Path.unlink:
        pytest.skip("Windows deletes no file that is open.")
    change_when(moment, paths[BROKEN], change, monkeypatch)
    *_, last = iter_export(plan_of(paths, tmp_path / "a.patches.zarr"), workers=1)
    assert [failure.message for failure in last.failures] == [message.format(paths[BROKEN])]


def test_a_file_that_loses_its_scene_midway_is_one_that_changed(
    czi: MakeCzi, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = czi(*SCENES, name="plate.czi")
    scene = czi(SCENES[0], name="scene.czi")
    sources = [plate, paths[0]]
    change_when("before it is opened", plate, lambda path: scene.replace(path), monkeypatch)
    *_, last = iter_export(plan_of(sources, tmp_path / "a.patches.zarr"), workers=1)
    assert {failure.message for failure in last.failures} == {
        f"{plate} has changed since the export began; export again with overwrite."
    }


@pytest.mark.parametrize("when", ["before going on", "before the end"])
def test_a_file_that_changes_midway_is_skipped(
    paths: list[Path], tmp_path: Path, when: str
) -> None:
    plan = plan_of(paths, tmp_path / "a.patches.zarr")
    events = iter_export(plan, workers=1)
    advance(events, "write")
    append(paths[BROKEN])
    if when == "before going on":
        events.close()
        events = iter_export(plan)
    *_, last = events
    assert [failure.message for failure in last.failures] == [
        f"{paths[BROKEN]} has changed since the export began; export again with overwrite."
    ]
    with closing(PatchSet(last.path)) as made:
        assert made.manifest.rejected == {"source can't be read": 12}


def touch(path: Path) -> None:
    """Give a file another time, as a copy of it has that does not keep it."""
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    "moment", ["before it is opened", "before its first tile", "after its first tile"]
)
def test_a_file_that_is_touched_while_it_is_read_is_the_same_file(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = export(plan_of(paths, tmp_path / "whole.patches.zarr"))
    change_when(moment, paths[BROKEN], touch, monkeypatch)
    plan = plan_of(paths, tmp_path / "a.patches.zarr")
    if moment == "before its first tile":  # the file that its stack opens is another one
        with pytest.raises(ExportError, match="run the same again"):
            export(plan, workers=1)
    made = export(plan, workers=1)
    assert paths[BROKEN].stat().st_mtime_ns == 1
    assert digests(made.path) == digests(whole.path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_are_touched_are_gone_on_with(
    czi: MakeCzi, tmp_path: Path, overwrite: bool
) -> None:
    paths = [czi(*SCENES), tmp_path / "b.ome.tif"]
    tifffile.imwrite(paths[1], np.arange(2 * 64**2, dtype=np.uint16).reshape(2, 64, 64))
    plan = plan_of(paths, tmp_path / "a.patches.zarr")
    events = iter_export(plan)
    advance(events, "write")
    events.close()
    workdir = WorkDir.for_set(plan.out)
    written = set(workdir.root.glob("shards/*/*/*.json"))
    assert written
    for path in paths:
        touch(path)
    assert workdir.plan().changed_files() == {}
    events = iter_export(plan, overwrite=overwrite)
    advance(events, "plan")
    assert written <= set(workdir.root.glob("shards/*/*/*.json"))  # not begun again
    *_, last = events
    assert not last.failures
    assert not [*verify(last.path)]


@pytest.mark.parametrize("name", ["a.czi", "a.tif"])
def test_other_content_of_the_same_size_is_a_change(
    czi: MakeCzi, tmp_path: Path, name: str
) -> None:
    path = czi(*SCENES, name=name) if name == "a.czi" else tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, np.ones((64, 64), np.uint16))
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    events = iter_export(plan)
    advance(events, "plan")
    events.close()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [*WorkDir.for_set(plan.out).plan().changed_files()] == [str(path)]
    with pytest.raises(ExportError, match="export again with overwrite"):
        export(plan)
    with export(plan, overwrite=True) as made:
        assert len(made["all"]) > 0


@pytest.mark.parametrize("amid", [False, True], ids=["before tidying up", "amid it"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_after_the_rename_it_only_cleans_up(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, amid: bool
) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    if overwrite:
        export(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", strategy=Tiled(size=(8, 8))))
    with monkeypatch.context() as patched:
        patched.setattr(WorkDir, "remove", lambda self: None)
        export(plan, overwrite=overwrite)
    for gone in ("candidates.parquet", "selection.parquet")[: 2 * amid]:
        (WorkDir.for_set(plan.out).root / gone).unlink()
    before = digests(Path(plan.out))
    assert export(plan, overwrite=overwrite)["all"].shape[2:] == (16, 16)
    assert digests(Path(plan.out)) == before
    assert not WorkDir.for_set(plan.out).root.exists()


def test_killed_before_its_lock_was_deleted_it_leaves_nothing_that_stays(
    czi: MakeCzi, tmp_path: Path
) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    before = digests(export(plan).path)
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / LOCK).touch()
    with pytest.raises(ExportError, match=r"a\.patches\.zarr exists"):
        export(plan)
    assert digests(Path(plan.out)) == before
    assert not WorkDir.for_set(plan.out).root.exists()
