"""Jobs whose export is over write nothing; what an executor loses is one line with a remedy."""

from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from napari_patchset import ExportPlan, PatchSet, export
from napari_patchset.errors import ExportError
from napari_patchset.exporting.stages import plan_export, score_job, write_job
from napari_patchset.exporting.writing.metrics import score_chunks
from napari_patchset.exporting.writing.shard_writer import write_shards
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patchset.files import permitted_by, write_file
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import digests, plan_for

pytestmark = pytest.mark.usefixtures("small_shards")

TOKEN = "0" * 32


@pytest.fixture
def plan(czi: MakeCzi, tmp_path: Path) -> ExportPlan:
    """Plan a filtered export of several shards."""
    filters = [parse_filter("std>p20")]
    path = czi(SceneSpec(rect=(0, 0, 100, 80), t=2, c=2))
    return plan_for(path, tmp_path / "a.patches.zarr", filters=filters)


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("overwrite", [False, True], ids=["resumed", "another plan"])
def test_a_job_of_an_export_that_is_gone_writes_nothing(plan: ExportPlan, overwrite: bool) -> None:
    n = plan_export(plan)
    workdir = WorkDir.for_set(plan.out)
    (workdir.root / f"running.{TOKEN}").touch()  # as a client leaves it that is killed

    def jobs() -> None:
        for job, last in ((score_chunks, 1), (write_shards, n)):
            with suppress(Stopped, ExportError):  # or it finds nothing to do
                job(str(workdir.root), 0, last, token=TOKEN)

    other = plan.model_copy(update={"keep_fraction": 0.5}) if overwrite else plan
    plan_export(other, overwrite=overwrite)
    for step in (lambda: None, lambda: score_job(plan.out, 0, 1)):
        step()
        with workdir.running():  # another process goes on
            before = names(workdir.root)
            jobs()
            assert names(workdir.root) == before
    export(other).close()
    made = digests(Path(plan.out))
    jobs()
    assert digests(Path(plan.out)) == made
    assert not workdir.root.exists()


@pytest.mark.parametrize("job", [score_chunks, write_shards])
def test_a_token_that_is_not_valid_stops_a_job(plan: ExportPlan, job: Any) -> None:
    n = plan_export(plan)
    if job is write_shards:
        score_job(plan.out, 0, 1)
        write_job(plan.out, n - 1, n)  # which makes the selection
    root = WorkDir.for_set(plan.out).root
    before = names(root)
    with pytest.raises(Stopped):
        job(str(root), 0, 1 if job is score_chunks else n, token=TOKEN)
    assert names(root) == before
    (root / f"running.{TOKEN}").touch()
    job(str(root), 0, 1 if job is score_chunks else n, token=TOKEN)
    assert names(root) != before


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_file_is_written_only_as_long_as_it_is_permitted(tmp_path: Path, allowed: int) -> None:
    asked = list[None]()

    def permit() -> None:
        asked.append(None)
        if len(asked) > allowed:
            raise Stopped

    with permitted_by(permit), pytest.raises(Stopped):
        write_file(tmp_path / "folder" / "file", [b"content"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "folder").exists() == bool(allowed)


class Losing(Executor):
    """Lose every job."""

    def __init__(self, error: Exception, at_once: bool) -> None:
        self._error, self._at_once = error, at_once

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        if self._at_once:
            raise self._error
        lost = Future[Any]()
        lost.set_exception(self._error)
        return lost


def dask_error() -> Exception:
    return type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})("tried 3\nx")


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
@pytest.mark.parametrize("error", [BrokenExecutor("died"), CancelledError(), dask_error()])
def test_what_an_executor_loses_is_one_line(
    plan: ExportPlan, error: Exception, at_once: bool
) -> None:
    with pytest.raises(ExportError, match=r"lost with its process or scheduler \(") as caught:
        export(plan, Losing(error, at_once))
    assert "\n" not in str(caught.value)
    assert "run the same command again" in str(caught.value)
    with PatchSet(export(plan).path) as made:
        assert len(made["all"]) > 0
