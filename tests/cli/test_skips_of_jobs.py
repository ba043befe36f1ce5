"""Sources that change or go after `plan`: jobs tell, `finalize` says what to do, `status` lists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import PatchSet, verify
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


def test_finalize_says_which_jobs_have_work_left(run: Run, files: list[Path]) -> None:
    plan(run, files)
    run("write", OUT, "--job", 1, "--of", 2)
    go(files[0])
    run("write", OUT, "--job", 0, "--of", 2)  # other patches are selected
    code, _, err = run("finalize", OUT)
    assert code == 1
    assert "as 1 of the sources can't be read" in err
    assert "skipped: " in err
    assert f"`patchset status {OUT} --of N`" in err
    (line,) = [each for each in run("status", OUT, "--of", 2)[1].splitlines() if "to write" in each]
    for job in line.partition("jobs ")[2].split(","):
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
        assert "Run `write` for every job" in err
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
