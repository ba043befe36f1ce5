"""Short forms of benchmarks/reliability: an export that is killed, starved, cancelled, deceived."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))

import cancels
import disk_full
import kills
import openings
import process_kills
import source_changes
from reporting import Row
from small_export import digests, export, plan_of, write_sources

from napari_patchset import ExportPlan, iter_export
from napari_patchset.errors import ExportError
from napari_patchset.patchset import layout
from support.export_makers import advance

pytestmark = pytest.mark.slow

SEED = 3
"""The processes that are killed first: the command, then one of its pool."""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(layout, "SHARD_BYTES", layout.SHARD_BYTES)  # given back at the end
    return write_sources(tmp_path / "sources")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize(
    ("run", "n"),
    [
        (kills.run, 4),
        (process_kills.run, 2),
        (disk_full.run, 2),
        (cancels.run, 2),
        (source_changes.run, 3),
        (openings.run, 40),
    ],
    ids=["kills", "process kills", "disk full", "cancels", "source changes", "openings"],
)
def test_short_form(tmp_path: Path, run: Callable[[argparse.Namespace, Row], None], n: int) -> None:
    row = Row("short", SEED)
    options = {"only": "zstd", "injected": True, "within": 60}  # a busy machine is no failure
    options |= {"kinds": "processes", "shape": (2, 192, 352)}
    run(argparse.Namespace(n=n, seed=SEED, work=tmp_path, **options), row)
    assert not row.defects
    assert row.counts.total() >= n


def stopped(plan: ExportPlan, then: Callable[[], None]) -> None:
    """Do something after the plan is made; require an error that names every source."""
    events = iter_export(plan, workers=1)
    advance(events, "plan")
    then()
    with pytest.raises(ExportError, match=r"0\.tif.*1\.tif.*2\.tif"):
        list(events)


@pytest.mark.parametrize("how", ["a disk that was away", "another image for a while"])
def test_when_every_source_comes_back_the_export_goes_on_with_all(
    sources: list[Path], tmp_path: Path, how: str
) -> None:
    whole = plan_of(sources, tmp_path / "whole.patches.zarr")
    export(whole)
    plan = plan_of(sources, tmp_path / "a.patches.zarr")
    folder = sources[0].parent

    def vanish() -> None:
        folder.rename(tmp_path / "away")
        if how == "another image for a while":
            write_sources(folder, seed=9)

    stopped(plan, vanish)
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "away").rename(folder)
    export(plan)
    assert digests(Path(plan.out)) == digests(Path(whole.out))
