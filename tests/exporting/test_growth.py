"""What an export costs: the same for each file and outline, however many there are."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import Balanced, ExportPlan, SourceRef, Split, Tiled, verify
from napari_patchset.annotations import features, geojson, outlines, polygons
from napari_patchset.exporting.stages import finalize_export, plan_export, score_job, write_job
from napari_patchset.exporting.writing.frozen_plan import FrozenPlan
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.patching import areas, class_pixels
from napari_patchset.source import SourceInfo
from napari_patchset.stacks import cache
from napari_patchset.stacks.cache import OpenFiles
from support.export_makers import plan_for
from support.pixels import encode

FEW, MANY = 15, 60


def write_files(folder: Path, n: int) -> Path:
    folder.mkdir()
    for i in range(n):
        pixels = encode(*[[[k] for k in range(32)], range(32)], T=i)
        tifffile.imwrite(folder / f"{i}.tif", pixels, photometric="minisblack")
    return folder


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often a source's description is looked at, and how often files are read."""
    counts: Counter[str] = Counter()

    def look_up(self: SourceInfo, name: str) -> Any:
        counts["descriptions"] += not name.startswith("_")
        return object.__getattribute__(self, name)

    read = OpenFiles.read

    def counted_read(self: OpenFiles, path: Path, offset: int, length: int) -> bytes:
        counts["reads"] += 1
        return read(self, path, offset, length)

    monkeypatch.setattr(SourceInfo, "__getattribute__", look_up, raising=False)
    monkeypatch.setattr(OpenFiles, "read", counted_read)
    return counts


def test_the_work_per_file_does_not_grow_with_the_number_of_files(
    tmp_path: Path, lookups: Counter[str]
) -> None:
    per_file: dict[tuple[int, str], Counter[str]] = {}
    for n in (FEW, MANY):
        out = tmp_path / f"{n}.patches.zarr"
        plan = plan_for(write_files(tmp_path / str(n), n), out, filters=["max>0"], split=0.2)
        steps = {
            "plan": lambda plan=plan: plan_export(plan),
            "score": lambda out=out: score_job(out, 0, 1),
            "write": lambda out=out: write_job(out, 0, 1),
            "finalize": lambda out=out: finalize_export(out),
            "verify": lambda out=out: list(verify(out)),
        }
        for name, run in steps.items():
            lookups.clear()
            assert not (run() if name == "verify" else run() and None)
            per_file[n, name] = Counter({what: k / n for what, k in lookups.items()})
    for (n, step), counts in per_file.items():
        if n == MANY:
            few = per_file[FEW, step]
            grown = {what: (few[what], k) for what, k in counts.items() if k > 1.25 * few[what] + 1}
            assert not grown, step


def test_a_small_file_is_fingerprinted_by_one_read(tmp_path: Path, lookups: Counter[str]) -> None:
    plan_export(plan_for(write_files(tmp_path / "in", 10), tmp_path / "a.patches.zarr"))
    assert lookups["reads"] <= 10 * 4  # its head, its structure, and its fingerprint


def test_recording_failures_parses_the_plan_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.patches.zarr"
    plan = plan_for(write_files(tmp_path / "in", 12), out, filters=["max>0"])
    plan_export(plan)
    for i in range(8):
        (tmp_path / "in" / f"{i}.tif").write_bytes(b"damaged")
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", -1)
    parsed = Counter[str]()
    parse = FrozenPlan.model_validate_json

    def counted(data: bytes) -> FrozenPlan:
        parsed["plan"] += 1
        return parse(data)

    monkeypatch.setattr(FrozenPlan, "model_validate_json", counted)
    score_job(out, 0, 1)
    assert len(WorkDir.for_set(out).failed()) == 8
    assert parsed["plan"] <= 2  # by the step, and by its job


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": Tiled(size=(8, 8), region_classes="a", min_inside=0.3)},
        {"strategy": Balanced(size=(8, 8), count=50, classes="a=1,background=1")},
        {"strategy": Tiled(size=(8, 8)), "split": Split(val=0.2, by="annotation")},
    ],
    ids=["inside", "balanced", "split"],
)
def test_the_work_per_outline_does_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    for module, name in ((areas, "TILE"), (class_pixels, "SIDE"), (features, "_CELL")):
        monkeypatch.setattr(module, name, 64)
    monkeypatch.setattr(polygons, "_AT_ONCE", 16)
    monkeypatch.setattr(outlines, "_AT_ONCE", 50)
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", -1)  # cached although it was written just now
    counts = Counter[str]()
    for module, name, what in (
        (geojson._Features, "_parse", "parsed"),
        (polygons, "_geometries", "checked"),
        (outlines, "_geometries", "compared"),
        (features, "find_spans", "edges"),
    ):
        monkeypatch.setattr(module, name, _counting(getattr(module, name), counts, what))
    per_outline = {}
    for side in (10, 30):  # in a grid, 13 pixels apart
        counts.clear()
        source = write_outlines(tmp_path, side)
        plan_export(ExportPlan(sources=source, out=tmp_path / f"{side}.patches.zarr", **fields))
        per_outline[side] = {what: n / side**2 for what, n in counts.items()}
    assert per_outline[30]["parsed"] == per_outline[30]["checked"] == 1
    # As one of a part, and as one of those that this part may overlap; its edges in four blocks.
    assert per_outline[30].get("compared", 0) <= 6
    assert per_outline[30].get("edges", 0) <= 3 * N_EDGES
    grown = {w: (per_outline[10][w], n) for w, n in per_outline[30].items()}
    assert not {w: pair for w, pair in grown.items() if pair[1] > 1.25 * pair[0]}


N_EDGES = 12


def write_outlines(folder: Path, side: int) -> SourceRef:
    """Write an image and outlines in it, a grid of circles."""
    path, angle = folder / f"{side}.tif", np.linspace(0, 2 * np.pi, N_EDGES + 1)
    circle = 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tifffile.imwrite(path, np.zeros((13 * side, 13 * side), np.uint8), photometric="minisblack")
    rings = [
        (13 * np.array(divmod(i, side)) + 6.5 + circle).round(2).tolist() for i in range(side**2)
    ]
    geometries = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    found = [{"type": "Feature", "geometry": g, "properties": {"name": "a"}} for g in geometries]
    path.with_suffix(".geojson").write_text(json.dumps(found))
    return SourceRef(path=path, annotations=path.with_suffix(".geojson"))


def _counting(function: Any, counts: Counter[str], what: str) -> Any:
    """Return a function that also counts the outlines, or edges, that it is given."""

    def counted(*args: Any) -> Any:
        if what == "parsed":
            counts[what] += 1
        elif what == "edges":
            counts[what] += len(args[0].feature)
        else:
            counts[what] += len(args[-1])
        return function(*args)

    return counted
