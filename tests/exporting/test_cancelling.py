"""A stop that is asked for comes before the next tile, whatever the export is at."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from napari_patchset import ExportPlan, Tiled, export, iter_export
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.reading.sources import SourceDescriber
from napari_patchset.exporting.writing import finalize
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.jobs.lock import LOCK
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.stacks.czi.subblocks import SubblockDecoder
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import advance, digests, plan_for

SCENE = SceneSpec(rect=(0, 0, 64, 48), z=4, c=2)


def calling(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, act: Callable[[], None]
) -> list[None]:
    """Act when a function is called for the `at`-th time; give a list as long as its calls."""
    call, calls = getattr(owner, name), list[None]()

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == at:
            act()
        return call(*arguments, **options)

    monkeypatch.setattr(owner, name, called)
    return calls


def stop(plan: ExportPlan) -> Callable[[], None]:
    return lambda: WorkDir.for_set(plan.out).request_stop()


def goes_on(plan: ExportPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """End a stopped export with the bytes of one that was not."""
    monkeypatch.undo()
    assert WorkDir.for_set(plan.out).root.exists()
    whole = plan.model_copy(update={"out": tmp_path / "whole.patches.zarr"})
    assert digests(export(plan).path) == digests(export(whole).path)


def test_a_stop_within_a_patch_of_many_tiles(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = Tiled(size=(4, 48, 64))
    path = czi(SCENE, tile=(8, 8))
    plan = plan_for(path, tmp_path / "a.patches.zarr", strategy=strategy, depth_axis="Z")
    calls = calling(monkeypatch, SubblockDecoder, "decode", 3, stop(plan))
    with pytest.raises(Stopped):
        export(plan, workers=1)
    assert len(calls) == 3  # of 384
    goes_on(plan, monkeypatch, tmp_path)


@pytest.mark.parametrize("filters", [(), ("std>0",)])
def test_a_stop_between_the_sources_of_a_plan(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: tuple[str, ...]
) -> None:
    paths = [czi(SceneSpec(t=range(i, i + 1)), name=f"{i}.czi") for i in range(4)]
    plan = ExportPlan(
        sources=expand_sources(paths),
        strategy=Tiled(size=(16, 16)),
        out=tmp_path / "a.patches.zarr",
        filters=[parse_filter(text) for text in filters],
    )
    described = calling(monkeypatch, SourceDescriber, "__call__", 2, stop(plan))
    with pytest.raises(Stopped):
        export(plan)
    assert len(described) == 2
    assert not WorkDir.for_set(plan.out).root.exists()


@pytest.mark.parametrize(
    ("owner", "when"), [(FrozenPlan, "find_changed"), (finalize.WrittenArray, "from_done_markers")]
)
def test_a_stop_before_the_set_is_completed(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, when: str
) -> None:
    plan = plan_for(czi(SCENE), tmp_path / "a.patches.zarr")
    calling(monkeypatch, owner, when, 1, stop(plan))
    with pytest.raises(Stopped):
        export(plan)
    goes_on(plan, monkeypatch, tmp_path)


class Waiting(Executor):
    """A cluster without a free worker."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return Future()


def test_a_stop_while_jobs_wait_for_a_worker(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(czi(SCENE), tmp_path / "a.patches.zarr")
    events = iter_export(plan, Waiting())
    advance(events, "plan")
    stop(plan)()
    with pytest.raises(Stopped):
        next(events)
    goes_on(plan, monkeypatch, tmp_path)


def test_an_earlier_request_stops_nothing(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(SCENE), tmp_path / "a.patches.zarr")
    stop(plan)()
    WorkDir.for_set(plan.out).root.mkdir()
    (WorkDir.for_set(plan.out).root / LOCK).touch()
    stop(plan)()
    assert WorkDir.for_set(plan.out).stop_requested
    assert len(export(plan)["all"])
