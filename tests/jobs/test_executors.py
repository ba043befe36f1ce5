"""What jobs leave on disk is how their work is seen."""

import os
import signal
import sys
from multiprocessing import active_children
from pathlib import Path
from unittest import mock

import pytest

from napari_patchset.jobs.executors import find_existing, open_executor


def test_files_that_exist_are_found_by_listing_each_folder_once(tmp_path: Path) -> None:
    paths = [tmp_path / name / f"{i}.json" for name in "ab" for i in range(100)]
    (tmp_path / "a").mkdir()
    for path in paths[:3]:
        path.touch()
    with mock.patch.object(os, "listdir", wraps=os.listdir) as listdir:
        assert find_existing(paths) == paths[:3]
    assert listdir.call_count == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
def test_a_pool_whose_jobs_are_done_ends_though_its_processes_do_not_answer() -> None:
    """So is one whose process is lost while it waits for a job, with the lock of their queue."""
    others = set(active_children())
    with open_executor("processes", 2) as pool:
        assert pool is not None
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
        processes = set(active_children()) - others
        assert processes
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
    assert not processes & set(active_children())
