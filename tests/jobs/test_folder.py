"""Jobs go on as long as the work is theirs."""

from pathlib import Path

import pytest

from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped


def test_a_job_whose_folder_is_gone_was_not_stopped(tmp_path: Path) -> None:
    folder = WorkDir(tmp_path / "a.partial")
    with folder.locked():
        with folder.running() as token:
            job = WorkDir(folder.root, token)
            job.check_cancelled()
            folder.root.rename(tmp_path / "away")
            with pytest.raises(OSError, match=r"a\.partial"):
                job.check_cancelled()
            (tmp_path / "away").rename(folder.root)
        with pytest.raises(Stopped):
            job.check_cancelled()
