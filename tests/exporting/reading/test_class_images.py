"""Annotations of files: read once, with steps, and ended by a stop."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import (
    Balanced,
    ExportPlan,
    Progress,
    SourceRef,
    Split,
    Tiled,
    iter_export,
    plan_export,
)
from napari_patchset.annotations import geojson, outlines
from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plans import region_files
from napari_patchset.exporting.plans.region_files import read_annotations
from napari_patchset.exporting.reading import candidates
from napari_patchset.exporting.reading.class_images import annotations_in_steps
from napari_patchset.exporting.reading.steps import Step
from napari_patchset.patching import areas, class_pixels
from napari_patchset.stacks import cache


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write 200 outlines, which are read in at least ten parts."""
    features = []
    for i in range(200):
        x, y = 10 * (i % 20), 10 * (i // 20)
        ring = [[x, y], [x + 8, y], [x + 8, y + 8], [x, y + 8], [x, y]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"name": "a"}})
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", 0)  # cached although it was written just now
    monkeypatch.setattr(geojson, "_CHUNK", path.stat().st_size // 10)
    return path


@pytest.mark.parametrize("suffix", [".geojson", ".json"])
def test_the_file_of_a_region_is_read_once_and_tells_how_far(
    path: Path, suffix: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((110, 210), np.uint8))
    outlines_file = path.rename(path.with_suffix(suffix))
    read = list[int]()
    whole = Path.open
    monkeypatch.setattr(geojson, "_CHUNK", 1000)

    def opened(self: Path, *args: Any, **more: Any) -> Any:
        read.append(self == outlines_file)
        return whole(self, *args, **more)

    monkeypatch.setattr(Path, "open", opened)
    words = (path.with_suffix(".tif"), "--patch-size", "8", "--json")
    code, out, _ = run("export", *words, "--region", outlines_file, "--out", "a.patches.zarr")
    assert (code, sum(read)) == (0, 1)
    events = [json.loads(line) for line in out.splitlines()]
    assert "read" in [each.get("stage") for each in events]
    monkeypatch.setattr(region_files, "_READ", cache.FileCache(2**20))
    plan = ExportPlan(
        sources=path.with_suffix(".tif"),
        strategy=Tiled(size=(8, 8), region=region_files.file_region(str(outlines_file))),
        out="b.patches.zarr",
    )
    monkeypatch.setattr(region_files, "_READ", cache.FileCache(2**20))
    with closing(iter_export(plan, workers=1)) as steps:
        assert [each.stage for each in steps].count("read") > 5
    assert sum(read) == 3


def test_an_export_tells_how_far_annotations_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((110, 210), np.uint8))
    read = list[Path]()
    whole = region_files.read_geojson
    monkeypatch.setattr(
        region_files, "read_geojson", lambda file, *more: (read.append(file), whole(file, *more))[1]
    )
    plan = ExportPlan(
        sources=SourceRef(path=path.with_suffix(".tif"), annotations=path),
        strategy=Balanced(size=(8, 8), count=20, classes="a=1,background=1"),
        out=path.with_name("a.patches.zarr"),
    )
    with closing(iter_export(plan, workers=1)) as events:
        steps = [event for event in events if event.stage == "read"]
    assert len(steps) >= 10
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert read == [path]  # once


SPLIT = Split(val=0.3, by="annotation")


@pytest.mark.parametrize(
    ("least", "fields"),
    [
        (10, {"strategy": Balanced(size=(8, 8), count=20, classes="a=1,background=1")}),
        (10, {"strategy": Tiled(size=(8, 8), region_classes="a", min_inside=0.5)}),
        (5, {"strategy": Tiled(size=(8, 8)), "split": SPLIT}),
        (15, {"strategy": Tiled(size=(8, 8), region_classes="a", min_inside=0.5), "split": SPLIT}),
    ],
)  # fmt: skip
def test_an_export_tells_how_much_of_the_annotations_was_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch, least: int, fields: dict[str, Any]
) -> None:
    for module in (areas, class_pixels, candidates):
        monkeypatch.setattr(module, "TILE" if module is areas else "SIDE", 32)
    monkeypatch.setattr(outlines, "_AT_ONCE", 40)
    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((110, 210), np.uint8), tile=(32, 32))
    source = SourceRef(path=path.with_suffix(".tif"), annotations=path)
    plan = ExportPlan(sources=source, out=path.with_name("a.patches.zarr"), **fields)
    with closing(iter_export(plan, workers=1)) as events:
        found = list(events)
    steps = [event for event in found if event.stage == "choose"]
    done = [step.done for step in steps]
    assert done[0] == 0
    assert len(done) >= least
    assert done == sorted(set(done))
    assert done[-1] >= 80
    assert {step.total for step in steps} == {100}
    stages = list(dict.fromkeys(event.stage for event in found))
    assert stages[:4] == ["open", "read", "choose", "plan"]
    told = list[Progress]()
    plan_export(
        plan.model_copy(update={"out": str(path.with_name("b.patches.zarr"))}), progress=told.append
    )
    assert [event for event in told if event.stage == "choose"] == [
        replace(step, path=path.with_name("b.patches.zarr")) for step in steps
    ]


def test_steps_end_with_the_file_and_a_closed_one_is_not_read_on(path: Path) -> None:
    steps = list(annotations_in_steps(str(path), lambda: None))
    assert steps[-1] == Step(path.stat().st_size, path.stat().st_size, "read")
    assert len(read_annotations(str(path))) == 200
    path.write_text(path.read_text().replace('"a"', '"b"'))
    checks = iter(range(1000))
    with closing(annotations_in_steps(str(path), lambda: next(checks))) as begun:
        next(begun)
    seen = next(checks)
    assert seen <= 12


def test_a_stop_ends_the_reading_and_a_damaged_file_is_named(path: Path) -> None:
    class Stop(Exception):
        pass

    checks = list[None]()

    def check() -> None:
        checks.append(None)
        if len(checks) > 3:
            raise Stop

    with pytest.raises(Stop):
        list(annotations_in_steps(str(path), check))
    assert len(checks) == 4
    path.write_text(path.read_text()[:-100])
    with pytest.raises(UnreadableFileError, match=r"a\.geojson"):
        list(annotations_in_steps(str(path), lambda: None))
