"""What jobs leave on disk is how their work is seen."""

import os
from pathlib import Path
from unittest import mock

from napari_patchset.jobs.executors import find_existing


def test_files_that_exist_are_found_by_listing_each_folder_once(tmp_path: Path) -> None:
    paths = [tmp_path / name / f"{i}.json" for name in "ab" for i in range(100)]
    (tmp_path / "a").mkdir()
    for path in paths[:3]:
        path.touch()
    with mock.patch.object(os, "listdir", wraps=os.listdir) as listdir:
        assert find_existing(paths) == paths[:3]
    assert listdir.call_count == 2
