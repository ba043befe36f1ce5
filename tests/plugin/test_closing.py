"""The short form of benchmarks/reliability/closings.py: windows that are closed at any moment."""

import argparse
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))

import closings
from reporting import Row

from napari_patchset.sample import sample_path

pytestmark = [pytest.mark.slow, pytest.mark.gui]


@pytest.mark.timeout(4 * closings.LIMITS.seconds)  # a busy machine is no failure
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_viewer_that_is_closed_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, sample: Path
) -> None:
    cached = tmp_path / "cache" / "napari-patchset" / sample_path().name
    cached.parent.mkdir(parents=True)
    shutil.copyfile(sample, cached)
    row = Row("closings", 1)
    closings.run(argparse.Namespace(n=2, seed=1, work=tmp_path), row)
    assert not row.defects
    assert row.counts == {"closed": 2}
