"""Whole journeys through the window, with real clicks and keys."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from napari_patchset.exporting.stages import Progress
from napari_patchset.patchset import layout
from napari_patchset.plugin import export_task
from support.czi_maker import MakeCzi, SceneSpec
from support.window import WAIT_MS, Window


def seen(window: Window) -> tuple[object, ...]:
    """Return what the user sees of the plan: the words, and lines and colours on the image."""
    grid = window.grid
    return window.summary, grid.data.tobytes(), np.asarray(grid.edge_color).tobytes()


def controls(window: Window) -> dict[str, Callable[[], None]]:
    """Return a way to change each control that the preview follows, in an order that works."""
    form, sources = window.widget.form, window.widget.source_control
    strategy, split, patches, where = form.strategy, form.split, form.patches, form.region
    typed, chosen = window.type_number, window.choose
    return {
        "size Y": lambda: typed(patches.size.boxes[1], 24),
        "size X": lambda: typed(patches.size.boxes[2], 40),
        "overlap Y": lambda: typed(patches.overlap.boxes[1], 4),
        "overlap X": lambda: typed(patches.overlap.boxes[2], 8),
        "edge": lambda: chosen(strategy.edge, "drop"),
        "edge, padded": lambda: chosen(strategy.edge, "pad"),
        "random": lambda: chosen(strategy.kind, "random"),
        "count": lambda: typed(strategy.n_patches, 12),
        "counted in all": lambda: chosen(strategy.per, "total"),
        "overlap up to": lambda: typed(strategy.max_overlap, 10),
        "seed": lambda: typed(strategy.seed, 7),
        "stratified": lambda: chosen(strategy.kind, "stratified"),
        "whole": lambda: chosen(strategy.kind, "whole"),
        "tiled": lambda: chosen(strategy.kind, "tiled"),
        "channel": lambda: window.tick(form.channels.boxes[1].native),
        "first T": lambda: typed(where.rows["T"].first, 1),
        "last Z": lambda: typed(where.rows["Z"].last, 1),
        "small patches": lambda: typed(patches.size.boxes[2], 16),
        "filter": lambda: window.click(form.filters.add),
        "limit": lambda: chosen(form.filters.rows[0].side, "<"),
        "keep some": lambda: typed(form.filters.keep, 50),
        "validation": lambda: typed(split.val, 40),
        "scene": lambda: window.click_scene(1),
        "all scenes": lambda: window.tick(sources.extra_files.all_scenes.native),
        "split by": lambda: chosen(split.by, "block"),
        "split seed": lambda: typed(split.seed, 5),
        "test": lambda: typed(split.test, 20),
        "folds": lambda: chosen(split.folds, 2),
        "shown fold": lambda: setattr(split.fold, "value", 1),
        "pixel type": lambda: chosen(form.output.dtype, "float32"),
        "depth axis": lambda: window.choose_depth("Z"),
    }


def test_the_preview_follows_every_control(window: Window, file: Path) -> None:
    window.open(file)
    for fold in window.widget.form.folds:
        window.unfold(fold)
    for name, change in controls(window).items():
        before = seen(window)
        change()
        try:
            window.until(lambda before=before: seen(window) != before)
        except window.qtbot.TimeoutError:
            pytest.fail(f"{name}: the preview stayed at {window.summary}")
        assert "</b> patches" in window.summary, name


def test_export_cancel_export_again_and_open(
    window: Window, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 16 * 1024)
    window.open(file)
    window.type_size(8, 8)
    for box in window.widget.patches.overlap.boxes[1:]:
        window.type_number(box, 6)
    out = tmp_path / "made.patches.zarr"
    window.widget.export.out.value = out
    window.click(window.widget.export.start, settle=False)
    window.until(lambda: window.widget.export.progress.value > 0)
    window.click(window.widget.export.cancel)
    window.until(lambda: not window.widget.export_control.exporting.running)
    assert window.widget.export.status.value == "Stopped. Press Export to resume."
    assert not out.exists()
    assert len(list((tmp_path / "made.partial").rglob("*.json"))) > 1
    with window.export_to(out) as made:
        assert len(made["all"]) == 6 * 29 * 45
    window.click(window.widget.export.open)
    gallery = window.widget.preview.gallery
    window.until(lambda: gallery.count.text() == f"{6 * 29 * 45:,} patches")
    assert window.state.source.path == str(file)


def test_a_file_that_changed_while_it_was_open_is_described_anew(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    path = czi(SceneSpec(rect=(0, 0, 128, 128)))
    window.open(path)
    assert "<b>4</b> patches" in window.summary
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    path.unlink()
    window.open(czi(SceneSpec(rect=(0, 0, 128, 64))))
    assert "<b>2</b> patches" in window.summary
    made = window.export_to(tmp_path / "made.patches.zarr")
    assert len(made["all"]) == 2
    made.close()


def test_the_image_goes_while_it_is_exported_and_scored(
    window: Window, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, iter_export = Event(), export_task.iter_export

    def ends_once_it_is_gone(*args: Any, **options: Any) -> Iterator[Progress]:
        for event in iter_export(*args, **options):
            if event.stage == "done":
                gone.wait(WAIT_MS / 1000)
            yield event

    monkeypatch.setattr(export_task, "iter_export", ends_once_it_is_gone)
    window.open(czi(SceneSpec(rect=(0, 0, 400, 400), t=2)))
    window.type_size(8, 8)
    window.click(window.widget.form.filters.add, settle=False)
    window.until(lambda: window.widget.plans.scoring.running)
    window.widget.export.out.value = tmp_path / "made.patches.zarr"
    window.click(window.widget.export.start, settle=False)
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    assert not window.widget.plans.scoring.running
    gone.set()
    window.until(lambda: window.widget.export.open.enabled)
    assert window.widget.export.status.value == "Saved made.patches.zarr"
