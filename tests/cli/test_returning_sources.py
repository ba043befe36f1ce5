"""Sources that are away for a while: the same again, or with --overwrite, takes them back."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import PatchSet
from napari_patchset.exporting.writing.scores import Scores
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs import lock
from napari_patchset.patching.verdicts import Metrics
from napari_patchset.stacks.cache import OpenFile
from support.pixels import encode

pytestmark = pytest.mark.usefixtures("small_shards")

Run = Callable[..., tuple[int, str, str]]
OUT, N, N_EACH = "a.patches.zarr", 4, 16


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write images of 64 x 64 pixels, which have 4 x 4 patches each."""
    y, x = np.ogrid[:64, :64]
    paths = [tmp_path / f"{i}.tif" for i in range(N)]
    for i, path in enumerate(paths):
        tifffile.imwrite(path, encode(y, x, T=i), photometric="minisblack")
    return paths


def take_away(*paths: Path) -> None:
    for path in paths:
        path.rename(path.with_suffix(".away"))


def bring_back(*paths: Path) -> None:
    for path in paths:
        path.with_suffix(".away").rename(path)


def job(run: Run, step: str) -> tuple[int, str, str]:
    return run(step, OUT, "--job", 0, "--of", 1)


def planned(files: list[Path], *more: object) -> tuple[object, ...]:
    return ("plan", *files, "--patch-size", "16", "--filter", "max>0", "--out", OUT, *more)


def exported(files: list[Path], *more: object) -> tuple[object, ...]:
    return "export", *planned(files, *more)[1:]


@pytest.mark.parametrize("moment", ["plan", "score", "write"])
@pytest.mark.parametrize("command", [planned, exported], ids=["plan", "export"])
def test_the_same_again_takes_a_source_back_that_was_away(
    run: Run, files: list[Path], moment: str, command: Callable[..., tuple[object, ...]]
) -> None:
    if moment == "plan":
        take_away(files[1])
    code, _, err = run(*planned(files))
    assert (code, err.count("skipped: ")) == (0, moment == "plan")
    if moment != "plan":
        if moment == "write":
            assert job(run, "score")[::2] == (0, "")
        take_away(files[1])
        assert "1.tif is missing" in job(run, moment)[2]
        assert "1.tif is missing" in run(*command(files))[2] or command is planned
    bring_back(files[1])
    if not Path(OUT).exists():
        code, _, err = run(*command(files))
    else:
        code, _, err = run(*command(files), "--overwrite")
    assert (code, err) == (0, "")
    if command is planned:
        for step in ("score", "write"):
            assert job(run, step)[::2] == (0, "")
        assert run("finalize", OUT)[::2] == (0, "")
    assert len(PatchSet(OUT)["all"]) == N * N_EACH


@pytest.mark.filterwarnings("default:the unfinished export in")
def test_with_overwrite_a_plan_takes_back_what_it_skipped_after_something_is_scored(
    run: Run, files: list[Path]
) -> None:
    take_away(files[1])
    assert "skipped: " in run(*planned(files))[2]
    assert job(run, "score")[0] == 0
    scored = (files[0].parent / "a.partial" / "scores" / "0.parquet").stat()
    code, _, err = run(*planned(files), "--overwrite")  # the file is still away: nothing is lost
    assert (code, err.count("skipped: ")) == (0, 1)
    assert (files[0].parent / "a.partial" / "scores" / "0.parquet").stat() == scored
    bring_back(files[1])
    assert "skipped: " in run(*planned(files))[2]  # else what is scored would be lost
    code, out, err = run(*planned(files), "--overwrite")
    assert (code, out) == (0, f"{N * N_EACH} candidates for {OUT}\n")
    assert "of which 48 of 48 candidates were scored and 0 shards were written, is replaced" in err


def test_a_file_that_could_not_be_opened_is_taken_back(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*planned(files))[0] == 0
    init = OpenFile.__init__

    def refused(self: OpenFile, path: Path) -> None:
        if path.name == "1.tif":  # as of a file of mode 000, which root may read
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        init(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(OpenFile, "__init__", refused)
        assert "1.tif: Permission denied" in job(run, "score")[2]
    assert run(*planned(files))[::2] == (0, "")
    assert job(run, "score")[::2] == (0, "")


def test_a_plan_of_which_nothing_was_scored_is_replaced_with_a_word(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*planned(files))[0] == 0
    code, _, err = run(*planned(files[1:]))
    assert code == 0
    assert "of 64 candidates of which nothing was scored or written, is replaced." in err
    assert run(*planned(files[1:]))[::2] == (0, "")
    assert job(run, "score")[::2] == (0, "")
    code, _, err = run(*planned(files))
    assert code == 1
    assert "unfinished export of another plan" in err
    assert "use --overwrite" in err


@pytest.mark.skipif(os.name == "nt", reason="users have no numbers there")
@pytest.mark.filterwarnings("default:.*the plan there was made by")
def test_a_job_says_that_the_plan_is_of_another_user(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*planned(files))[0] == 0
    assert job(run, "score")[::2] == (0, "")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    code, _, err = job(run, "write")
    assert code == 0
    assert "a.partial: the plan there was made by " in err


def test_a_folder_that_another_user_made_is_told(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*planned(files))[0] == 0
    opened = os.open

    def refused(path: object, *more: int) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *more)  # type: ignore[arg-type] # of any path

    monkeypatch.setattr(lock.os, "open", refused)
    code, _, err = run(*planned(files))
    assert code == 1
    assert re.search(r"a.partial is .*export.*, which you may not change; ask ", err)


def test_scenes_of_one_file_are_one_line(run: Run, files: list[Path]) -> None:
    missing = [f"gone.czi@{i}" for i in range(30)]
    names = [f"{i}.lost.tif" for i in range(25)]
    code, _, err = run("plan", *files, *missing, *names, "--patch-size", "16", "--out", OUT)
    assert code == 0
    for each in (err, run("status", OUT)[1], job(run, "write")[2]):
        lines = [line for line in each.splitlines() if line.startswith("skipped: ")]
        assert len(lines) == 21
        assert lines[0].endswith(" (and 29 more of that file)")
        assert lines[-1] == "skipped: and 6 more files"
    assert (
        "55 sources skipped; once they can be read, the same `plan` or `export` with --overwrite"
        in err
    )


def test_a_damaged_file_is_read_again_with_overwrite_only(run: Run, files: list[Path]) -> None:
    assert run(*planned(files))[0] == 0
    stat, data = files[1].stat(), files[1].read_bytes()
    files[1].write_bytes(data[:8] + bytes(len(data) - 8))
    os.utime(files[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "1.tif" in job(run, "score")[2]
    files[1].write_bytes(data)
    os.utime(files[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(*planned(files))[0] == 0
    assert "1.tif" in job(run, "score")[2]
    assert run(*planned(files), "--overwrite")[::2] == (0, "")
    assert job(run, "score")[::2] == (0, "")


@pytest.mark.parametrize("step", ["score", "write"])
def test_none_stays_skipped_of_more_than_may_be(run: Run, files: list[Path], step: str) -> None:
    assert run(*planned(files, "--max-failures", 1))[0] == 0
    if step == "write":
        assert job(run, "score")[0] == 0
    take_away(files[1], files[2])
    code, _, err = job(run, step)
    assert code == 1
    assert "without it. 2 sources can't be read, but only 1 may be skipped" in err
    assert err.count("1.tif is missing") == err.count("2.tif is missing") == 1
    assert ".;" not in err
    bring_back(files[1], files[2])
    for each in ("score", "write"):
        assert job(run, each)[::2] == (0, "")
    assert run("finalize", OUT)[::2] == (0, "")
    assert len(PatchSet(OUT)["all"]) == N * N_EACH


def test_a_source_that_another_job_takes_back_while_this_one_scores_is_scored_again(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetting, write = [1], Scores.write

    def forget_and_write(self: Scores, chunk: int, metrics: Metrics) -> None:
        if forgetting:  # as another job does that finds too many sources to skip
            WorkDir.for_set(OUT).forget_failed([forgetting.pop()])
        write(self, chunk, metrics)

    assert run(*planned(files, "--max-failures", 1))[0] == 0
    take_away(files[1])
    monkeypatch.setattr(Scores, "write", forget_and_write)
    job(run, "score")
    assert not forgetting
    bring_back(files[1])
    for step in ("score", "write"):
        assert job(run, step)[::2] == (0, "")
    assert run("finalize", OUT)[::2] == (0, "")
    with PatchSet(OUT) as patches:
        (measured,) = (name for name in patches.table.column_names if name.startswith("max_"))
        assert np.isfinite(patches.table[measured].to_numpy()).all()
