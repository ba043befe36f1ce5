"""Jobs go on as long as the work is theirs."""

from pathlib import Path

import pytest

from napari_patchset.jobs.folder import ExportStopped, JobFolder


def test_a_job_whose_folder_is_gone_was_not_stopped(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "a.partial")
    with folder.locked():
        with folder.running() as token:
            job = JobFolder(folder.root, token)
            job.check_cancelled()
            folder.root.rename(tmp_path / "away")
            with pytest.raises(OSError, match=r"a\.partial"):
                job.check_cancelled()
            (tmp_path / "away").rename(folder.root)
        with pytest.raises(ExportStopped):
            job.check_cancelled()
