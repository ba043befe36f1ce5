"""Annotations of files: read once, with steps, and ended by a stop."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import Balanced, ExportPlan, SourceRef, iter_export
from napari_patchset.annotations import geojson
from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.reading import class_images
from napari_patchset.exporting.reading.class_images import annotations_in_steps, read_annotations
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


def test_an_export_tells_how_far_annotations_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((110, 210), np.uint8))
    read = list[Path]()
    whole = class_images.read_geojson
    monkeypatch.setattr(
        class_images, "read_geojson", lambda file, *more: (read.append(file), whole(file, *more))[1]
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


def test_steps_end_with_the_file_and_a_closed_one_is_not_read_on(path: Path) -> None:
    steps = list(annotations_in_steps(str(path), lambda: None))
    assert steps[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(read_annotations(str(path))) == 200
    path.write_text(path.read_text().replace('"a"', '"b"'))
    checks = iter(range(1000))
    with closing(annotations_in_steps(str(path), lambda: next(checks))) as begun:
        next(begun)
    seen = next(checks)
    assert seen <= 12


def test_a_stop_ends_the_reading_and_a_damaged_file_is_named_by_who_needs_it(path: Path) -> None:
    class Stop(Exception):
        pass

    checks = list[None]()

    def check() -> None:
        checks.append(None)
        if len(checks) > 3:
            raise Stop

    with pytest.raises(Stop):
        list(annotations_in_steps(str(path), check))
    assert len(checks) == 5  # the last one when the reading has ended
    path.write_text(path.read_text()[:-100])
    assert list(annotations_in_steps(str(path), lambda: None))
    with pytest.raises(UnreadableFileError, match=r"a\.geojson"):
        read_annotations(str(path))
