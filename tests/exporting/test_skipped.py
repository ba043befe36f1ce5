"""Sources that can't be read for a while: no set is completed without them, unless it may be."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, PatchSet, export
from napari_patchset.errors import ExportError
from napari_patchset.exporting.reading.failures import SourcesFailed
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.writing.shard_writer import ShardBuffers
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.stacks import retrying
from napari_patchset.stacks.cache import OpenFile
from support.export_makers import plan_for
from support.pixels import encode

N = 4


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retrying, "MAX_PAUSE_SECONDS", 0.002)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write some images of 64 x 64 pixels, which have 4 x 5 patches each."""
    folder = tmp_path / "in"
    folder.mkdir()
    y, x = np.ogrid[:64, :64]
    for i in range(N):
        tifffile.imwrite(folder / f"{i}.tif", encode(y, x, T=i), photometric="minisblack")
    return folder


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Return the errors, by the name of a file, that its next reads of pixels fail with."""
    errors: dict[str, list[int]] = {}
    read, init = OpenFile.read, OpenFile.__init__

    def opened(self: Any, path: Path) -> None:
        init(self, path)
        self.name = path.name

    def failing(self: Any, offset: int, length: int) -> bytes:
        if pending := errors.get(self.name):
            raise OSError(pending.pop(), "the disk failed")
        return read(self, offset, length)

    monkeypatch.setattr(OpenFile, "__init__", opened)
    monkeypatch.setattr(OpenFile, "read", failing)
    return errors


def written_shards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the shards that are written from now on."""
    sizes: list[int] = []
    fill = ShardBuffers.mark_filled

    def counted(self: ShardBuffers, shard: Any, n: int) -> None:
        sizes.append(n)
        fill(self, shard, n)

    monkeypatch.setattr(ShardBuffers, "mark_filled", counted)
    return sizes


def fail_while_writing(storage: dict[str, list[int]], error: int) -> Callable[[Any], None]:
    """Return what lets reads of one file fail as soon as the plan is made."""

    def progress(event: Any) -> None:
        if event.stage == "plan":
            storage["1.tif"] = [error] * 999

    return progress


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_a_read_that_fails_for_a_while_is_repeated(
    files: Path, tmp_path: Path, storage: dict[str, list[int]], error: int
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr")
    storage["1.tif"] = [error] * 2
    with export(plan) as made:
        assert len(made["all"]) == N * 20
    assert not storage["1.tif"]


@pytest.mark.parametrize("filters", [[], ["max>0"]])
@pytest.mark.usefixtures("small_shards")
def test_a_set_is_not_completed_without_a_source_that_may_come_back(
    files: Path,
    tmp_path: Path,
    storage: dict[str, list[int]],
    filters: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr", filters=filters)
    with pytest.raises(SourcesFailed, match=r"1.tif: the disk failed, 5.* run the same"):
        export(plan, progress=fail_while_writing(storage, errno.EIO))
    assert not Path(plan.out).exists()
    storage.clear()
    written = written_shards(monkeypatch)
    with export(plan) as made:
        pixels = made["all"][:]
    if not filters:  # else no shard was written before all were scored
        assert 20 <= sum(written) <= 20 + 2 * 15  # those of the source, and what shares a shard
    with export(plan_for(files, tmp_path / "b.patches.zarr", filters=filters)) as made:
        np.testing.assert_array_equal(pixels, made["all"][:])


def test_all_else_is_scored_before_an_export_stops(
    files: Path, tmp_path: Path, storage: dict[str, list[int]], small_shards: None
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr", filters=["max>0"])
    plan_export(plan)
    workdir = WorkDir.for_set(plan.out)
    frozen = workdir.plan()
    storage["1.tif"] = [errno.EIO] * 999
    with pytest.raises(SourcesFailed, match=r"1\.tif"):
        score_job(plan.out, 0, 1)
    source_of = workdir.candidates(frozen).source_index
    for chunk in range(frozen.n_score_chunks):
        has_source = (source_of[list(frozen.score_chunk(chunk))] == 1).any()
        assert workdir.scores.has(chunk) != has_source
    storage.clear()
    score_job(plan.out, 0, 1)
    write_job(plan.out, 0, 1)
    assert finalize_export(plan.out) == ()


@pytest.mark.parametrize(
    ("max_failures", "error", "is_completed"),
    [
        (None, errno.EIO, False),
        (None, errno.EACCES, True),
        (0, errno.EACCES, False),
        (1, errno.EIO, True),
    ],
)
def test_how_many_sources_may_be_skipped(
    files: Path,
    tmp_path: Path,
    storage: dict[str, list[int]],
    max_failures: int | None,
    error: int,
    is_completed: bool,
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr")
    options: dict[str, Any] = {"max_failures": max_failures}
    options["progress"] = fail_while_writing(storage, error)
    if is_completed:
        with pytest.warns(UserWarning, match="skipped"), export(plan, **options) as made:
            assert len(made["all"]) == (N - 1) * 20
    else:
        with pytest.raises(
            SourcesFailed, match=r"1 source can't be read, but .* that it is skipped"
        ):
            export(plan, **options)


def test_a_plan_is_not_made_without_a_source_that_may_come_back(
    files: Path, tmp_path: Path, storage: dict[str, list[int]]
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr")
    storage["1.tif"] = [errno.EIO] * 999
    with pytest.raises(SourcesFailed, match=r"1\.tif"):
        plan_export(plan)
    assert plan_export(plan, max_failures=1) == (N - 1) * 20
    storage.clear()
    assert plan_export(plan) == N * 20  # it is made again, as it skipped one that may not be


def test_what_was_skipped_is_read_again_once_it_must_not_be(
    files: Path, tmp_path: Path, storage: dict[str, list[int]]
) -> None:
    plan = plan_for(files, tmp_path / "a.patches.zarr", filters=["max>0"])
    plan_export(plan, max_failures=1)
    storage["1.tif"] = [errno.EIO] * 999
    score_job(plan.out, 0, 1)
    assert [*WorkDir.for_set(plan.out).failed()] == [1]
    storage.clear()
    with export(plan) as made:
        assert len(made["all"]) == N * 20


def test_the_command_is_strict_on_request(
    files: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (files / "1.tif").write_bytes(b"damaged")
    words = ("export", files, "--patch-size", "16", "--out", "a.patches.zarr")
    code, _, error = run(*words, "--strict")
    assert code == 1
    assert "1.tif" in error
    assert "1 source can't be read, but none may be skipped." in error
    assert error.endswith(
        "allow that it is skipped, with --max-failures 1 of `plan` or `export`.\n"
    )
    assert "--max-failures is 2" in run(*words, "--strict", "--max-failures", "2")[2]
    assert run(*words, "--max-failures", "1")[0] == 1  # it says what it skipped
    assert len(PatchSet(tmp_path / "a.patches.zarr")["all"]) == (N - 1) * 16


def test_more_failures_than_may_be_skipped_are_counted(
    files: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    words = ("plan", files, "--patch-size", "16", "--out", "a.patches.zarr", "--max-failures", 1)
    for name in ("1.tif", "3.tif"):
        (files / name).write_bytes(b"damaged")
    code, _, error = run(*words)
    assert code == 1
    assert error.count("1.tif") == error.count("3.tif") == 1
    assert ". 2 sources can't be read, but only 1 may be skipped." in error
    assert "allow that 2 are skipped, with --max-failures 2 " in error
    assert run(*words[:-1], 2)[0] == 0


def test_too_little_memory_blames_no_file(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [MemoryError("1 GiB"), OSError(errno.ENOMEM, "Cannot allocate memory")]

    def exhausted(self: OpenFile, offset: int, length: int) -> bytes:
        raise failures.pop()

    plan: ExportPlan = plan_for(files, tmp_path / "a.patches.zarr")
    monkeypatch.setattr(OpenFile, "read", exhausted)
    for _ in list(failures):
        with pytest.raises(ExportError, match="too little memory") as raised:
            export(plan)
        assert ".tif" not in str(raised.value)
