"""What jobs leave on disk is how their work is seen."""

import os
import signal
import sys
from multiprocessing import active_children
from pathlib import Path
from threading import Timer
from unittest import mock

import pytest

from napari_patchset.jobs import executors
from napari_patchset.jobs.executors import find_existing, open_executor


def test_files_that_exist_are_found_by_listing_each_folder_once(tmp_path: Path) -> None:
    paths = [tmp_path / name / f"{i}.json" for name in "ab" for i in range(100)]
    (tmp_path / "a").mkdir()
    for path in paths[:3]:
        path.touch()
    with mock.patch.object(os, "listdir", wraps=os.listdir) as listdir:
        assert find_existing(paths) == paths[:3]
    assert listdir.call_count == 2


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
def test_a_terminals_interrupt_stops_no_process_of_a_pool() -> None:
    others = set(active_children())
    with open_executor("processes", 2) as pool:
        assert pool is not None
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        for process in {*active_children()} - others:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
        assert list(pool.map(abs, [-3, -4])) == [3, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_while_the_pool_ends_holds_up_nothing(
    victim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two waits for work, and has the lock of the queue."""
    monkeypatch.setattr(executors, "_GRACE_SECONDS", 0.5)
    others = set(active_children())
    with open_executor("processes", 2) as pool:
        assert pool is not None
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        processes = sorted({*active_children()} - others, key=lambda process: process.pid or 0)
        assert len(processes) == 2
        pids = [process.pid for process in processes if process.pid is not None]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        def kill_one() -> None:
            os.kill(pids[victim], signal.SIGKILL)
            os.kill(pids[1 - victim], signal.SIGCONT)

        Timer(0.5, kill_one).start()
    assert set(active_children()) <= others
