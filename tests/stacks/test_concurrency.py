"""Stacks and sets in threads, forked children, spawned processes and a loader's workers."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset import PatchSet, TiffImageStack, export
from napari_patchset.patchset.writers.zarr import MappedShards
from napari_patchset.source import Rect
from napari_patchset.stacks.cache import TileCache
from napari_patchset.stacks.protocol import blocks_of
from support.czi_maker import MakeCzi
from support.export_makers import SCENES, plan_for
from support.pixels import expected, whole
from support.stack_makers import STACKS, Case
from support.tiff_maker import write

pytestmark = pytest.mark.slow

PATIENCE = 20
"""Seconds after which a child counts as hanging; it takes milliseconds."""


def forked(test: Any) -> Any:
    """Mark a test that forks."""
    test = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")(test)
    return pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(test)


@pytest.fixture(params=STACKS, ids=lambda build: build.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    case = request.param(tmp_path)
    with case.stack:
        yield case


@pytest.fixture(params=["zarr", "tiff", "npz"])
def patch_set(
    request: pytest.FixtureRequest, czi: MakeCzi, tmp_path: Path, small_shards: None
) -> Iterator[PatchSet]:
    name = "a.patches.zarr" if request.param == "zarr" else "a.patches"
    made = export(plan_for(czi(*SCENES), tmp_path / name, format=request.param))
    yield made
    made.close()


def in_child(work: Callable[[], bool]) -> None:
    """Require that `work` returns True in a forked child, and that the child ends."""
    if (pid := os.fork()) == 0:
        threading.Timer(PATIENCE, os._exit, (9,)).start()
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "the forked child failed, or hung"


@forked
@pytest.mark.parametrize("used", [False, True])
def test_a_forked_child_reads_a_stack_and_so_does_its_parent(case: Case, used: bool) -> None:
    first = case.reference[0]
    if used:
        np.testing.assert_array_equal(whole(case.stack), first)
    in_child(lambda: np.array_equal(whole(case.stack), first))
    np.testing.assert_array_equal(whole(case.stack), first)


@forked
def test_a_child_that_was_forked_while_others_read(case: Case) -> None:
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            whole(case.stack)

    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read) for _ in range(3)]
        try:
            for _ in range(3):
                in_child(lambda: np.array_equal(whole(case.stack), case.reference[0]))
        finally:
            ended.set()
        for each in reading:
            each.result()


@forked
@pytest.mark.parametrize("when", ["decoded", "looked up"])
def test_a_tile_that_another_thread_has_at_the_fork(when: str) -> None:
    cache, begun, go_on = TileCache(), threading.Event(), threading.Event()
    tile = np.ones(3)

    def slowly() -> NDArray[Any]:
        begun.set()
        go_on.wait()
        return tile

    if when == "looked up":
        with cache._lock:
            in_child(lambda: cache.get(0, lambda: tile) is tile)
        return
    with ThreadPoolExecutor(1) as pool:
        decoding = pool.submit(cache.get, 0, slowly)
        begun.wait()
        try:
            in_child(lambda: cache.get(0, lambda: tile) is tile)
        finally:
            go_on.set()
        assert decoding.result() is tile


@forked
def test_a_decoder_that_another_thread_loads_at_the_fork(tmp_path: Path) -> None:
    data = expected(0, 0, 40, 60)
    path = write(tmp_path / "a.tif", data, tile=(16, 16), compression="zlib")
    with TiffImageStack(path) as stack:

        def decodes() -> bool:
            block = next(iter(blocks_of(stack, 0, 0, 0, Rect(0, 0, 16, 16))))
            return np.array_equal(block.plane(block.decode()), data[:16, :16])

        with stack._decoders._lock:
            in_child(decodes)


@forked
def test_a_shard_that_another_thread_maps_at_the_fork(czi: MakeCzi, tmp_path: Path) -> None:
    with_shards = export(plan_for(czi(*SCENES), tmp_path / "a.patches.zarr"))
    first, store = with_shards["all"][0], with_shards["all"]._store
    assert isinstance(store, MappedShards)
    with store._mapped._lock:
        in_child(lambda: np.array_equal(with_shards["all"][0], first))
    with_shards.close()


def _strided(data: Any, worker: int, workers: int, results: Any) -> None:
    """Be a loader's worker: read every `workers`-th item, and send it."""
    for index in range(worker, len(data), workers):
        results.put((index, data[index]))


@forked
def test_a_loaders_forked_workers_read_a_set_together(patch_set: PatchSet) -> None:
    data, context = patch_set["all"], multiprocessing.get_context("fork")
    expected, results = data[:], context.SimpleQueue()
    workers = [context.Process(target=_strided, args=(data, i, 3, results)) for i in range(3)]
    for worker in workers:
        worker.start()
    patches = dict(results.get() for _ in range(len(data)))
    for worker in workers:
        worker.join(PATIENCE)
        assert worker.exitcode == 0
    for index, patch in enumerate(expected):
        np.testing.assert_array_equal(patches[index], patch)


def test_threads_share_a_set(patch_set: PatchSet) -> None:
    data = patch_set["all"]
    expected = data[:]
    order = np.random.default_rng(0).integers(0, len(data), 300).tolist()
    with ThreadPoolExecutor(8) as pool:
        for index, patch in zip(order, pool.map(data.__getitem__, order), strict=True):
            np.testing.assert_array_equal(patch, expected[index])


def test_spawned_processes_reopen_a_stack(case: Case, spawned: ProcessPoolExecutor) -> None:
    whole(case.stack)
    jobs = [spawned.submit(whole, case.stack, sample) for sample in range(len(case.reference))]
    for job, sample in zip(jobs, case.reference, strict=True):
        np.testing.assert_array_equal(job.result(PATIENCE), sample)


def test_spawned_processes_reopen_a_set(patch_set: PatchSet, spawned: ProcessPoolExecutor) -> None:
    data = patch_set["all"]
    jobs = [spawned.submit(data.__getitem__, index) for index in range(0, len(data), 7)]
    for index, job in zip(range(0, len(data), 7), jobs, strict=True):
        np.testing.assert_array_equal(job.result(PATIENCE), data[index])
