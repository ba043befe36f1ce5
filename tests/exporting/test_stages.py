"""The same bytes, wherever the jobs run and however the work is cut."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from napari_patchset import ExportPlan, PatchSet, Tiled, export, iter_export, verify
from napari_patchset.cli import export as exporting
from napari_patchset.cli.app import app
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.stages import (
    Progress,
    finalize_export,
    plan_export,
    score_job,
    write_job,
)
from napari_patchset.exporting.writing.shard_writer import write_shards
from napari_patchset.jobs import executors
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.splits.split import Split
from support.czi_maker import SceneSpec, make_czi
from support.export_makers import digests, small_shards

pytestmark = pytest.mark.slow

SCENES = (
    SceneSpec(id=3, rect=(-40, 10, 75, 65), t=range(1, 3), z=range(2, 4), c=2),
    SceneSpec(id=7, rect=(500, 0, 74, 82), t=1, z=range(2, 4), c=2),
)


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with small_shards():
        yield


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a file of two scenes."""
    return str(make_czi(tmp_path_factory.mktemp("image") / "image.czi", SCENES, tile=(32, 32)))


@pytest.fixture(scope="module")
def reference(image: str, tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    """Export once, in one thread, what all other ways are compared with."""
    return export(plan_of(image, tmp_path_factory.mktemp("reference")), workers=1)


@pytest.fixture
def plan(image: str, tmp_path: Path) -> ExportPlan:
    """Plan the export of the reference once more."""
    return plan_of(image, tmp_path)


def plan_of(image: str, folder: Path) -> ExportPlan:
    """Plan an export that uses everything: two scenes, filter, split, target and cast."""
    scenes = [scene.id for scene in SCENES]
    return ExportPlan(
        sources=[SourceRef(path=image, scene=i, target=ImageRef(path=image)) for i in scenes],
        strategy=Tiled(size=(16, 16), overlap=(4, 0), edge="pad"),
        filters=[parse_filter("std>p20"), parse_filter("focus<p95")],
        dedupe=0,
        split=Split(val=0.2, by="block"),
        dtype="float32",
        out=folder / "made.patches.zarr",
    )


@pytest.fixture(scope="module")
def dask_scheduler() -> Iterator[str]:
    """Return the address of a scheduler of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


POOLS: dict[str, Callable[[], Executor]] = {
    "one thread": lambda: ThreadPoolExecutor(1),
    "threads": lambda: ThreadPoolExecutor(4),
    "forkserver": lambda: ProcessPoolExecutor(2, mp_context=get_context("forkserver")),
}


@pytest.mark.parametrize("kind", POOLS)
def test_every_executor_gives_the_same_bytes(
    plan: ExportPlan, reference: PatchSet, kind: str
) -> None:
    with POOLS[kind]() as pool:
        check_same(export(plan, pool, workers=5), reference)


def test_spawned_processes_give_the_same_bytes(
    plan: ExportPlan, reference: PatchSet, spawned: ProcessPoolExecutor
) -> None:
    check_same(export(plan, spawned, workers=5), reference)


def test_dask_gives_the_same_bytes(
    plan: ExportPlan, reference: PatchSet, dask_scheduler: str
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(dask_scheduler) as client:
        check_same(export(plan, client.get_executor(), workers=5), reference)


def check_same(made: PatchSet, reference: PatchSet) -> None:
    assert made.manifest == reference.manifest
    assert digests(made.path) == digests(reference.path)
    assert not list(verify(made.path))


@pytest.mark.parametrize("of", [1, 3, 11])
def test_jobs_of_any_number_in_any_order_give_the_same_bytes(
    plan: ExportPlan, reference: PatchSet, of: int
) -> None:
    out = plan.out
    plan_export(plan)
    for step in (score_job, write_job):
        for job in reversed(range(of)):
            step(out, job, of)
    assert finalize_export(out) == ()
    check_same(PatchSet(out), reference)


def test_processes_write_at_once(
    plan: ExportPlan, reference: PatchSet, spawned: ProcessPoolExecutor
) -> None:
    out = plan.out
    plan_export(plan)
    score_job(out, 0, 1)
    jobs = [spawned.submit(write_job, out, job, 4) for job in range(3)]
    write_job(out, 3, 4)
    for job in jobs:
        job.result()
    finalize_export(out)
    check_same(PatchSet(out), reference)


class Killing(Executor):
    """Hand jobs on, the first of which loses its process once a shard is written."""

    def __init__(self, pool: Executor, victim: Path) -> None:
        self._pool, self._victim = pool, victim

    def submit(self, job: Any, /, *args: Any, **_: Any) -> Future[Any]:
        return self._pool.submit(run_and_die, self._victim, job, *args)


def run_and_die(victim: Path, job: Callable[..., None], root: str, *units: int) -> None:
    if job is write_shards and is_first(victim):
        Thread(target=die_after_a_shard, args=(Path(root),), daemon=True).start()
    job(root, *units)


def is_first(sign: Path) -> bool:
    """Whether no other process has put up this sign before."""
    with suppress(FileExistsError):
        sign.touch(exist_ok=False)
        return True
    return False


def die_after_a_shard(root: Path) -> None:
    while not any(root.glob("shards/**/*.json")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_scheduler_at_an_address_has_a_killed_workers_shards_redone(
    plan: ExportPlan,
    reference: PatchSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dask_scheduler: str,
) -> None:
    victim = tmp_path / "victim"

    def killing(plan: ExportPlan, pool: Executor, **options: Any) -> Iterator[Progress]:
        return iter_export(plan, Killing(pool, victim), **options)

    monkeypatch.setattr(exporting, "iter_export", killing)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert dask_scheduler.startswith("tcp://")
    words = ["export", "--plan", tmp_path / "plan.json", "--scheduler", dask_scheduler]
    words += ["--workers", 4]
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0
    assert victim.exists()
    check_same(PatchSet(plan.out), reference)


def test_a_cluster_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_PATIENCE_SECONDS", 0.05)
    told = Queue[str]()
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        executors.open_executor("threads", 1, cluster.scheduler_address, told.put),
    ):
        messages = [told.get(timeout=60) for _ in range(2)]
        cluster.scale(1)
        cluster.wait_for_workers(1)
    where = re.escape(cluster.scheduler_address)
    assert re.fullmatch(f"waiting for workers at {where}; 0 are there.", messages[0])
    assert messages[1] == messages[0]


def test_a_scheduler_that_does_not_answer_is_one_line(plan: ExportPlan, tmp_path: Path) -> None:
    dask = pytest.importorskip("dask")
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    words = ["export", "--plan", str(tmp_path / "plan.json"), "--scheduler", "tcp://127.0.0.1:9"]
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(ArgumentError, match=r"No dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        CliRunner().invoke(app, words, catch_exceptions=False)
