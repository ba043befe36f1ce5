"""Sources that change or go after `plan`: jobs tell, `finalize` says what to do, `status` lists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import PatchSet, verify
from napari_patchset.exporting import stages
from napari_patchset.exporting.writing import freezing
from napari_patchset.exporting.writing.job_array import format_jobs
from napari_patchset.exporting.writing.workdir import WorkDir
from support.pixels import encode

pytestmark = pytest.mark.usefixtures("small_shards")

Run = Callable[..., tuple[int, str, str]]
OUT, N_EACH = "a.patches.zarr", 16


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write images of 64 x 64 pixels, which have 4 x 4 patches each."""
    y, x = np.ogrid[:64, :64]
    paths = [tmp_path / f"{i}.tif" for i in range(4)]
    for i, path in enumerate(paths):
        tifffile.imwrite(path, encode(y, x, T=i), photometric="minisblack")
    return paths


def plan(run: Run, files: list[Path], *more: str) -> None:
    assert run("plan", *files, "--patch-size", "16", "--out", OUT, *more)[0] == 0


def go(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def skipped_in(out: str) -> list[str]:
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    return [event["source"] for event in events if event["event"] == "skipped"]


@pytest.mark.parametrize("harm", [go, change])
@pytest.mark.parametrize("step", ["score", "write"])
def test_a_job_tells_what_it_skips_and_the_set_lists_it(
    run: Run, files: list[Path], harm: Callable[[Path], None], step: str
) -> None:
    plan(run, files, "--filter", "max>0")
    steps = ["score", "write"]
    for each in steps[: steps.index(step)]:
        assert run(each, OUT, "--job", 0, "--of", 1)[0] == 0
    harm(files[1])
    code, _, err = run(step, OUT, "--job", 0, "--of", 1)
    assert code == 0
    assert err.startswith("skipped: ")
    assert err.count("1.tif") == err.count("\n") == 1
    assert "Errno" not in err
    assert skipped_in(run(step, OUT, "--job", 0, "--of", 1, "--json")[1]) == [str(files[1])]
    for each in steps[steps.index(step) :]:
        run(each, OUT, "--job", 0, "--of", 1)
    code, out, err = run("finalize", OUT, "--json")
    assert code == 1
    assert skipped_in(out) == [str(files[1])]
    summary = json.loads(out.splitlines()[-1])
    assert (summary["skipped"], summary["rejected"]) == (1, {})
    assert summary["left_out"] == {"source can't be read": N_EACH}
    (state,) = json.loads(run("status", OUT, "--json")[1])["exports"]
    assert state["state"] == "complete"
    assert ["1.tif" in each for each in state["skipped"]] == [True]
    assert "skipped: " in run("status", OUT)[1]


def test_a_complete_set_tells_each_time_what_it_lacks(run: Run, files: list[Path]) -> None:
    plan(run, files)
    go(files[1])
    run("write", OUT, "--job", 0, "--of", 1)
    codes = list[int]()
    for _ in range(3):
        code, out, _ = run("finalize", OUT, "--json")
        codes.append(code)
        assert skipped_in(out) == [str(files[1])]
        assert json.loads(out.splitlines()[-1])["skipped"] == 1
    assert codes == [1, 1, 1]
    code, out, err = run("finalize", OUT)
    assert out == f"{OUT} is complete without 1 source; nothing is left to do\n"
    assert err.startswith("skipped: ")
    for step in ("score", "write"):
        code, _, err = run(step, OUT, "--job", 0, "--of", 1)
        assert (code, err.count("skipped: ")) == (0, 1)


def test_each_job_names_what_the_plan_skipped(run: Run, files: list[Path]) -> None:
    go(files[1])
    plan(run, files, "--filter", "max>0")
    for step in ("score", "write"):
        code, out, _ = run(step, OUT, "--job", 0, "--of", 1, "--json")
        assert (code, skipped_in(out)) == (0, [str(files[1])])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("as_json", [False, True])
def test_files_of_the_export_that_were_cut_short_are_named_with_what_to_do(
    run: Run, files: list[Path], as_json: bool
) -> None:
    plan(run, files, "--filter", "max>0")
    more = ["--json"] * as_json
    jobs = {step: (step, OUT, "--job", 0, "--of", 1, *more) for step in ("score", "write")}

    def error_of(*words: object) -> str:
        code, out, err = run(*words)
        assert code == 1
        assert err.count("\n") == 1
        if as_json:
            assert json.loads(out.splitlines()[-1])["message"] in err
        return err

    run(*jobs["score"])
    cut_short(Path("a.partial/scores/0.parquet"))
    error = error_of(*jobs["write"])
    assert "a.partial/scores/0.parquet was damaged or cut short, and is removed. Run `scor" in error
    run(*jobs["score"])
    assert run(*jobs["write"])[0] == 0
    cut_short(Path("a.partial/selection.parquet"))
    assert "selection.parquet was damaged or cut short" in error_of("finalize", OUT, *more)
    assert run(*jobs["write"])[0] == 0
    cut_short(Path("a.partial/candidates.parquet"))
    for words in (jobs["write"], ("finalize", OUT, *more)):
        assert "candidates.parquet is missing, damaged or cut short; plan it again" in error_of(
            *words
        )


@pytest.mark.filterwarnings("default:the unfinished export in")
def test_a_plan_whose_candidates_were_cut_short_is_made_again_with_overwrite(
    run: Run, files: list[Path]
) -> None:
    plan(run, files)
    cut_short(Path("a.partial/candidates.parquet"))
    plan(run, files, "--overwrite")
    assert run("write", OUT, "--job", 0, "--of", 1)[0] == 0
    assert run("finalize", OUT)[0] == 0


def test_a_finalize_that_came_too_early_is_forgotten_once_the_jobs_are_done(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(run, files)
    write_shards = stages.write_shards

    def early(root: str, *units: int, **options: Any) -> None:
        write_shards(root, *units, **options)
        WorkDir(Path(root))._error.write_text("some shards are not written yet")

    monkeypatch.setattr(stages, "write_shards", early)
    assert run("write", OUT, "--job", 0, "--of", 1)[0] == 0
    assert "ended by" not in run("status", OUT)[1]


def test_a_job_takes_the_name_of_the_folder_that_status_takes(run: Run, files: list[Path]) -> None:
    plan(run, files)
    assert run("write", "a.partial", "--job", 0, "--of", 1)[0] == 0
    code, out, _ = run("finalize", "a.partial")
    assert (code, out) == (0, f"64 patches in {OUT}\n")
    state = json.loads(run("status", OUT, "--json")[1])["exports"][0]
    assert (state["candidates"], state["patches"]) == (64, 64)


def test_there_are_as_many_jobs_as_were_said(run: Run, files: list[Path]) -> None:
    plan(run, files)
    assert (
        "There is no job 7 of 7; the jobs are 0 to 6."
        in run("write", OUT, "--job", 7, "--of", 7)[2]
    )


def test_finalize_says_which_jobs_have_work_left(run: Run, files: list[Path]) -> None:
    plan(run, files)
    run("write", OUT, "--job", 1, "--of", 2)
    go(files[0])
    run("write", OUT, "--job", 0, "--of", 2)  # other patches are selected
    code, _, err = run("finalize", OUT)
    assert code == 1
    assert "as 1 of the sources can't be read" in err
    assert "skipped: " in err
    (line,) = [each for each in run("status", OUT, "--of", 2)[1].splitlines() if "to write" in each]
    jobs = line.partition("jobs ")[2].split(",")
    named = f"job {jobs[0]}" if len(jobs) == 1 else f"the jobs {','.join(jobs)}"
    assert f"Run `write` for {named} of 2, which" in err
    for job in jobs:
        assert run("write", OUT, "--job", job, "--of", 2)[0] == 0
    run("finalize", OUT)
    assert len(PatchSet(OUT)["all"]) == 3 * N_EACH


def test_no_patch_is_left_of_a_source_that_changes_before_finalize(
    run: Run, files: list[Path]
) -> None:
    plan(run, files)
    run("write", OUT, "--job", 0, "--of", 1)
    change(files[1])
    for _ in range(2):
        code, _, err = run("finalize", OUT)
        assert code == 1
        assert "Run `write` for job 0 of 1, which does only what is missing" in err
        assert not Path(OUT).exists()
    run("write", OUT, "--job", 0, "--of", 1)
    run("finalize", OUT)
    with PatchSet(OUT) as made:
        assert len(made["all"]) == 3 * N_EACH
    assert not list(verify(OUT))


def test_what_is_missing_is_named_by_the_step_that_comes_first(run: Run, files: list[Path]) -> None:
    plan(run, files, "--filter", "max>0")
    for words in (("finalize", OUT), ("write", OUT, "--job", 0, "--of", 2)):
        code, _, err = run(*words)
        assert code == 1
        assert "64 of 64 candidates are not scored yet. Run `score` for every job" in err


def test_finalize_names_the_missing_jobs_by_number(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_FEWEST_SCORED_AT_ONCE", 1)
    plan(run, files, "--filter", "max>0", "--val", "0.5", "--split-by", "file")
    for step in ("score", "write"):
        for job in (1, 2):
            assert run(step, OUT, "--job", job, "--of", 7)[0] == 0
            _, _, err = run("finalize", OUT)
        numbers = err.partition(f"Run `{step}` for the jobs ")[2].partition(" of 7, ")[0]
        listed = run("status", OUT, "--of", 7)[1].partition(f"to {step}: jobs ")[2].splitlines()
        assert numbers == listed[0]
        left = json.loads(run("status", OUT, "--of", 7, "--json")[1])["exports"][0]["missing_jobs"]
        assert not {1, 2} & set(left[step])
        for job in left[step]:
            assert run(step, OUT, "--job", job, "--of", 7)[0] == 0
    assert run("finalize", OUT)[0] == 0


def test_jobs_are_listed_as_sbatch_takes_them() -> None:
    listed = {(): "", (3,): "3", (3, 4): "3,4", (0, 1, 2, 5, 7, 8, 9, 10): "0-2,5,7-10"}
    assert {jobs: format_jobs(jobs) for jobs in listed} == listed


@pytest.mark.parametrize("step", ["score", "write", "finalize"])
def test_a_stopped_job_says_that_the_same_command_resumes(
    run: Run, files: list[Path], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(run, files)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    name = "finalize_export" if step == "finalize" else f"{step}_job"
    monkeypatch.setattr(f"napari_patchset.cli.export.{name}", stopped)
    words = (step, OUT) if step == "finalize" else (step, OUT, "--job", 0, "--of", 1)
    code, _, err = run(*words)
    assert code == 130
    assert "stopped; the finished part is in a.partial; run the same command again" in err


@pytest.mark.parametrize("command", ["plan", "export"])
@pytest.mark.parametrize("moment", ["make_plan", "freeze_plan"])
def test_a_stop_while_it_is_planned_says_that_nothing_is_written(
    run: Run, files: list[Path], command: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    module = "cli.parameters" if moment == "make_plan" else "exporting.stages"
    monkeypatch.setattr(f"napari_patchset.{module}.{moment}", stopped)
    code, _, err = run(command, *files, "--patch-size", "16", "--out", OUT)
    assert (code, err) == (
        130,
        "patchset: stopped; nothing is written yet; run the same command again.\n",
    )
    assert not Path("a.partial").exists()


@pytest.mark.parametrize("command", ["plan", "export"])
def test_a_stop_while_it_is_planned_says_that_what_it_would_replace_is_as_it_was(
    run: Run, files: list[Path], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    assert run("export", *files, "--patch-size", "32", "--out", OUT)[0] == 0
    monkeypatch.setattr("napari_patchset.exporting.stages.freeze_plan", stopped)
    words = (*files, "--patch-size", "16", "--out", OUT, "--overwrite")
    code, _, err = run(command, *words)
    assert (code, err) == (
        130,
        "patchset: stopped; a.patches.zarr is as it was; run the same command again.\n",
    )
    assert len(PatchSet(OUT)["all"]) == N_EACH
    monkeypatch.undo()
    monkeypatch.setattr("napari_patchset.cli.export.write_geojson", stopped)
    assert run("export", *words, "--geojson", "places")[::2] == (130, "patchset: interrupted\n")
    assert len(PatchSet(OUT)["all"]) == 4 * N_EACH


def test_a_stop_after_the_set_is_complete_does_not_say_that_nothing_is_written(
    run: Run, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_patchset.cli.export.write_geojson", stopped)
    words = ("--patch-size", "16", "--out", OUT, "--geojson", "places")
    assert run("export", *files, *words)[::2] == (130, "patchset: interrupted\n")
    assert len(PatchSet(OUT)["all"]) == 4 * N_EACH
