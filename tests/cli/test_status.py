"""`status` tells what is missing; `clean` removes unfinished exports, and nothing else."""

import errno
import json
import os
import re
import shlex
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset import ExportPlan, PatchSet, export, iter_stitch, stitch, verify
from napari_patchset.errors import ExportError
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.status import export_status
from napari_patchset.exporting.writing import freezing
from napari_patchset.exporting.writing.scores import Scores
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import REPLACED
from napari_patchset.jobs.lock import LOCK
from napari_patchset.jobs.status import find_unfinished
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patchset import layout
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import digests, plan_for

pytestmark = pytest.mark.usefixtures("small_shards")

SCENE = SceneSpec(rect=(0, 0, 160, 120), t=3, c=2)


@pytest.fixture
def plan(czi: MakeCzi, tmp_path: Path) -> ExportPlan:
    """Plan an export of many shards that is filtered."""
    out = tmp_path / "a.patches.zarr"
    return plan_for(czi(SCENE), out, filters=[parse_filter("std>p20")])


def test_the_stages_of_an_export(plan: ExportPlan) -> None:
    with pytest.raises(ExportError, match="no patch set, and no unfinished export"):
        export_status(plan.out)
    n = plan_export(plan)
    status = export_status(plan.out)
    assert (status.state, status.stage, status.candidates, status.scored) == (
        *("unfinished", "score"),
        *(n, 0),
    )
    score_job(plan.out, 0, 2)
    assert 0 < export_status(plan.out).scored < n
    score_job(plan.out, 1, 2)
    write_job(plan.out, 0, 2)
    status = export_status(plan.out)
    assert (status.stage, status.scored) == ("write", n)
    assert 0 < status.written < status.patches < n
    assert 0 < status.missing_shards < status.shards
    write_job(plan.out, 1, 2)
    assert export_status(plan.out).next == f"patchset finalize {plan.out}"
    finalize_export(plan.out)
    status = export_status(plan.out)
    assert (status.state, status.next) == ("complete", "")
    assert status.written == len(PatchSet(plan.out)["all"])


@pytest.mark.parametrize("of", [1, 2, 5, 40])
def test_the_jobs_that_are_listed_are_those_that_are_missing(plan: ExportPlan, of: int) -> None:
    plan_export(plan)
    for step, part in (("score", score_job), ("write", write_job)):
        part(plan.out, 1, 3)
        jobs = export_status(plan.out, of).missing_jobs
        assert jobs[step]
        for job in jobs[step]:
            part(plan.out, job, of)
        assert not export_status(plan.out, of).missing_jobs[step]
    finalize_export(plan.out)


def test_the_scoring_of_small_patches_is_shared_by_all_jobs(run: Any, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 999, (256, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack")
    words = ("a.tif", "--patch-size", "4", "--filter", "mean>p20")
    with pytest.MonkeyPatch.context() as patch:  # as it was: all in one chunk
        patch.setattr(layout, "SHARD_BYTES", 2**25)
        patch.setattr(freezing, "_FEWEST_SCORED_AT_ONCE", 2**20)
        assert run("export", *words, "--out", "whole.patches.zarr")[0] == 0
        patch.undo()
        patch.setattr(layout, "SHARD_BYTES", 2**25)
        *lines, _ = run("plan", *words, "--out", "b.patches.zarr", "--dry-run")[1].splitlines()
        assert lines[-1].endswith("jobs that all have a shard to write, 4 to measure")
        assert run("plan", *words, "--out", "b.patches.zarr")[0] == 0
        assert "to score: jobs 0-3\n" in run("status", "b.patches.zarr", "--of", 4)[1]
        for job in range(4):
            before = export_status("b.patches.zarr").scored
            run("score", "b.patches.zarr", "--job", job, "--of", 4)
            assert export_status("b.patches.zarr").scored == before + 1024
        run("write", "b.patches.zarr", "--job", 0, "--of", 1)
        assert run("finalize", "b.patches.zarr")[0] == 0
    assert digests(Path("b.patches.zarr")) == digests(Path("whole.patches.zarr"))


def test_the_command_that_it_names_goes_on(run: Any, plan: ExportPlan) -> None:
    whole = export(plan.model_copy(update={"out": str(Path(plan.out).with_name("b.patches.zarr"))}))
    plan_export(plan)
    score_job(plan.out, 0, 2)
    code, out, _ = run("status", plan.out, "--of", 4)
    *_, last = out.splitlines()
    assert code == 0
    assert "to score: jobs " in out
    words = last.partition("to go on: patchset ")[2].split()
    assert run(*words)[0] == 0
    assert PatchSet(plan.out).manifest == whole.manifest


def test_a_source_that_is_gone_at_the_end_is_restored_and_one_that_changed_is_begun_again(
    run: Any, plan: ExportPlan
) -> None:
    plan_export(plan)
    score_job(plan.out, 0, 1)
    write_job(plan.out, 0, 1)
    source = Path(plan.sources[0].path)
    aside = source.rename(source.with_name("aside.czi"))
    code, out, _ = run("status", plan.out)
    assert code == 0
    assert f"missing: {source}\n" in out
    line = f"to go on, once what is missing is restored: patchset finalize {plan.out}"
    assert out.splitlines()[-1] == line
    assert json.loads(run("status", plan.out, "--json")[1])["exports"][0]["missing_files"] == [
        str(source)
    ]
    assert (
        "restore it, and export again, with overwrite if the set was completed without it."
        in run("finalize", plan.out)[2]
    )
    with aside.open("rb") as file, source.open("wb") as changed:
        changed.write(file.read() + b"more")
    *_, last = run("status", plan.out)[1].splitlines()
    assert last.startswith("to go on: patchset export ")
    assert run("finalize", plan.out)[0] == 1
    aside.replace(source)
    *_, last = run("status", plan.out)[1].splitlines()
    assert last == f"to go on: patchset finalize {plan.out}"
    assert run(*last.partition("patchset ")[2].split())[0] == 0


def test_a_running_export_is_told_apart_and_kept(run: Any, plan: ExportPlan) -> None:
    plan_export(plan)
    workdir = WorkDir.for_set(plan.out)
    for shared in (True, False):
        with workdir.locked(shared=shared):
            assert export_status(plan.out).state == "running"
            assert not json.loads(run("clean", ".", "--yes", "--json")[1])["removed"]
            with pytest.raises(ExportError, match="another export is writing"):
                workdir.delete()
    assert export_status(plan.out).state == "unfinished"


def test_to_ask_breaks_no_export_that_begins(plan: ExportPlan) -> None:
    plan_export(plan)
    before = sorted(WorkDir.for_set(plan.out).root.rglob("*"))
    export_status(plan.out, 3)
    list(find_unfinished(Path(plan.out).parent, [WorkDir]))
    assert sorted(WorkDir.for_set(plan.out).root.rglob("*")) == before
    export(plan)


def test_unfinished_exports_are_listed_and_removed_on_confirmation(
    run: Any, plan: ExportPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    others = [plan, plan.model_copy(update={"out": str(tmp_path / "deep" / "b.patches.zarr")})]
    for each in others:
        plan_export(each)
    foreign = [
        tmp_path / name for name in ("c.partial/d.tif", "e.partial/notes.txt", "f.partial/g")
    ]
    for path in foreign:
        path.parent.mkdir()
        path.write_text("mine")
    (tmp_path / "e.partial" / LOCK).touch()
    (tmp_path / "h.partial").mkdir()
    roots = [WorkDir.for_set(each.out).root for each in others]
    monkeypatch.setattr("typer.confirm", lambda _: False)
    _, out, err = run("clean")
    assert all(root.name in out for root in roots)
    left = "e.partial is left: it holds notes.txt, which is not part of an unfinished export"
    assert left in err
    assert "c.partial" not in err  # is none of ours
    assert all(root.exists() for root in roots)
    monkeypatch.setattr("typer.confirm", lambda _: True)
    assert "2 unfinished folders removed" in run("clean")[1]
    assert not any(root.exists() for root in roots)
    assert [path.read_text() for path in foreign] == ["mine"] * 3
    assert (tmp_path / "h.partial").is_dir()
    assert "no unfinished export" in run("clean")[1]
    code, _, err = run("clean", "nosuch")
    assert code == 1
    assert "nosuch: there is no such folder" in err


@pytest.mark.parametrize("name", ["a", "a.partial", "a.patches.zarr"])
def test_one_unfinished_export_is_found_by_any_of_its_names(
    run: Any, plan: ExportPlan, name: str
) -> None:
    other = plan.model_copy(update={"out": str(Path(plan.out).with_name("b.patches.zarr"))})
    for each in (plan, other):
        plan_export(each)
    code, out, _ = run("status", name)
    assert code == 0
    assert "to go on: patchset export --plan a.partial/plan.json --out a.patches.zarr\n" in out
    (removed,) = json.loads(run("clean", name, "--yes", "--json")[1])["removed"]
    assert Path(removed).name == "a.partial"
    assert not WorkDir.for_set(plan.out).root.exists()
    assert WorkDir.for_set(other.out).root.exists()
    assert "no unfinished export or stitching of that name" in run("clean", "a.patches.zarr")[2]


def test_what_a_named_folder_holds_besides_is_said(run: Any, plan: ExportPlan) -> None:
    plan_export(plan)
    (WorkDir.for_set(plan.out).root / "notes.txt").touch()
    code, _, err = run("clean", "a.partial", "--yes")
    assert code == 1
    assert "a.partial holds notes.txt, which is not part of an unfinished export" in err


def test_why_it_ended_is_told_until_it_goes_on(run: Any, plan: ExportPlan) -> None:
    failing = plan.model_copy(update={"dtype": "uint8"})
    with pytest.raises(ExportError, match="uint8") as raised:
        export(failing)
    out = run("status", plan.out)[1]
    assert f"ended by: {raised.value}\nto remove it: patchset clean " in out
    with pytest.warns(UserWarning, match="candidates were scored and 0 shards .* is replaced"):
        export(plan, overwrite=True).close()
    assert export_status(plan.out).error == ""


def test_what_ended_a_job_is_told_until_that_job_is_done(
    run: Any, plan: ExportPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_export(plan)
    words = {step: (step, plan.out, "--of", 3, "--job") for step in ("score", "write")}
    for step, owner, method in (("score", Scores, "write"), ("write", WorkDir, "write_shard")):
        with monkeypatch.context() as patched:

            def fail(*_: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")

            patched.setattr(owner, method, fail)
            for job in (0, 2):
                assert run(*words[step], job)[0] == 1
        assert run(*words[step], 1)[0] == 0  # it takes nothing away from the others
        _, out, _ = run("status", plan.out)
        (line,) = [each for each in out.splitlines() if "ended by" in each]
        assert line.startswith(f"{step}, jobs 0,2 of 3, ended by: ")
        assert "the disk is full; what is written stays" in line
        assert "to go on: " in out
        (state,) = json.loads(run("status", plan.out, "--json")[1])["exports"]
        assert list(state["job_errors"]) == [f"{step} 0 of 3", f"{step} 2 of 3"]
        assert run(*words[step], 0)[0] == 0
        assert list(export_status(plan.out).job_errors) == [f"{step} 2 of 3"]
        assert run(*words[step][:3], 1, "--job", 0)[0] == 0  # one job does what is left
        assert export_status(plan.out).job_errors == {}
    WorkDir.for_set(plan.out).delete()
    assert not WorkDir.for_set(plan.out).root.exists()


def test_a_job_that_begins_takes_away_what_ended_finalize(run: Any, plan: ExportPlan) -> None:
    plan_export(plan)
    score_job(plan.out, 0, 1)
    write_job(plan.out, 0, 2)
    assert run("finalize", plan.out)[0] == 1
    assert "not written yet" in export_status(plan.out).error
    write_job(plan.out, 1, 2)
    assert export_status(plan.out).error == ""
    finalize_export(plan.out)


def test_a_link_to_unfinished_work_is_not_followed_and_what_it_leads_to_is_named(
    run: Any, plan: ExportPlan, tmp_path: Path
) -> None:
    plan_export(plan)
    root = WorkDir.for_set(plan.out).root
    target = tmp_path / "scratch" / root.name
    target.parent.mkdir()
    root.rename(target)
    links = tmp_path / "links"
    links.mkdir()
    try:
        for link in (links / "mine", links / "b.partial"):
            link.symlink_to(target)
    except OSError:
        pytest.skip("this user may make no links")
    for name in ("mine", "b.partial", "b.patches.zarr"):
        code, _, err = run("clean", links / name, "--yes")
        assert code == 1
        assert f"a link to {target}; " in err
    code, out, err = run("clean", links, "--yes")
    assert f"b.partial is left: it is a link to {target}" in err
    assert "no unfinished export" in out
    assert (target / WorkDir.PLAN).exists()
    assert "1 unfinished folder removed" in run("clean", target, "--yes")[1]
    assert all(link.is_symlink() for link in links.iterdir())


def test_a_set_that_was_being_replaced_gets_its_name_back(plan: ExportPlan) -> None:
    export(plan).close()
    other = plan.model_copy(update={"keep_fraction": 0.5})
    plan_export(other, overwrite=True)
    root = WorkDir.for_set(plan.out).root
    Path(plan.out).rename(root / REPLACED)  # where a kill in the last moment leaves it
    WorkDir(root).delete()
    assert not root.exists()
    assert not list(verify(plan.out))


def test_steps_after_completion_are_fine_and_say_so(run: Any, plan: ExportPlan) -> None:
    export(plan).close()
    before = {path: path.read_bytes() for path in Path(plan.out).rglob("*") if path.is_file()}
    job = (plan.out, "--job", 0, "--of", 2)
    for words in (("score", *job), ("write", *job), ("finalize", plan.out)):
        code, out, err = run(*words)
        assert (code, out, err) == (0, f"{plan.out} is complete; nothing is left to do\n", "")
    assert {
        path: path.read_bytes() for path in Path(plan.out).rglob("*") if path.is_file()
    } == before


def test_what_replaces_a_set_goes_on_by_the_command_that_is_named(
    run: Any, plan: ExportPlan
) -> None:
    export(plan).close()
    plan_export(plan.model_copy(update={"keep_fraction": 0.5}), overwrite=True)
    words = shlex.split(export_status(plan.out).next)
    assert run(*words[1:])[0] == 0
    assert not list(verify(plan.out))
    with PatchSet(plan.out) as made:
        assert made.manifest.recipe["keep_fraction"] == 0.5


@pytest.mark.parametrize("fill", [0.1234567890123, float("nan")])
def test_an_unfinished_stitching_is_told_resumed_and_removed(
    run: Any, plan: ExportPlan, tmp_path: Path, fill: float
) -> None:
    with export(plan) as patch_set:
        predictions = tmp_path / "p.npy"
        np.save(predictions, patch_set["all"][:].astype(np.float32))
    out = tmp_path / "s.ome.zarr"
    options = {"fill": fill, "channel_names": ["a b", "c"], "argmax": True}
    whole = stitch(plan.out, predictions, tmp_path / "whole.ome.zarr", **options)
    with closing(iter_stitch(plan.out, predictions, out, **options)) as events:
        next(events)
    code, text, _ = run("status", out)
    assert code == 0
    assert "unfinished" in text
    assert re.search(r"written: 0 of [1-9]\d* shards", text)
    words = shlex.split(text.partition("to go on: patchset ")[2])
    assert run(*words)[0] == 0
    assert zarr.open_array(out / "0")[:].tobytes() == zarr.open_array(whole.path / "0")[:].tobytes()
    assert json.loads(run("status", out, "--json")[1])["exports"][0]["state"] == "complete"
    with closing(iter_stitch(plan.out, predictions, out, overwrite=True)) as events:
        next(events)
    (notes := Path(f"{out}.partial", "notes.txt")).touch()
    warned, listed = map(json.loads, run("clean", tmp_path, "--yes", "--json")[1].splitlines())
    assert "holds notes.txt, which is not part of an unfinished stitching" in warned["message"]
    assert not listed["removed"]
    notes.unlink()
    listed = json.loads(run("clean", tmp_path, "--yes", "--json")[1])
    assert [each["kind"] for each in listed["exports"]] == ["stitching"]
    assert listed["removed"] == [f"{out}.partial"]
    assert not Path(f"{out}.partial").exists()
    assert out.exists()
    shutil.rmtree(out)
    assert run("status", out)[2] == (
        f"patchset: {out}: there is no image, and no unfinished stitching of that name.\n"
    )
