"""Resampled patches in the window: what is drawn, described and exported is one size."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset.source import PixelSize
from support.window import Window

pytestmark = pytest.mark.gui


def test_grid_description_and_set_agree(window: Window, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 60_000, (120, 160)).astype("uint16")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, metadata=None, resolution=(4e4, 4e4), resolutionunit="CENTIMETER")
    window.open(path)
    window.type_size(16, 16)
    form = window.widget.form
    form.pixel_size.size.value = "0.5"
    window.settle()
    planned, drawn = window.widget.preview.drawn.planned, window.widget.preview.drawn
    assert planned.shown_source.spatial_shape == (60, 80)
    assert planned.shown_source.pixel_size == PixelSize(y=0.5, x=0.5)
    assert len(planned.grid) == 4 * 5
    assert drawn.patches.size == (32, 32)  # 16 made pixels are 32 of the file
    assert sorted(set(drawn.patches.start[:, 1].tolist())) == [0, 32, 64, 96, 128]
    assert "8.0 × 8.0 µm" in window.widget.patches.hint.value
    form.pixel_size.size.value = "0.5 um"  # as many type it
    assert form.pixel_size.value == PixelSize(y=0.5, x=0.5)
    assert form.pixel_size.summary == "0.5 µm"
    form.pixel_size.unit.value = "µm"
    window.settle()
    assert window.widget.preview.drawn.patches.size == (32, 32)  # as before, in other words
    assert [box.text() for box in window.widget.patches.size.boxes[1:]] == ["8 µm", "8 µm"]
    window.type_size("16", "0.016 mm")
    assert window.widget.preview.drawn.patches.size == (64, 64)
    with window.export_to(tmp_path / "a.patches.zarr") as made:
        assert made["all"].shape[2:] == (32, 32)
        row = made.table.to_pylist()[0]
        assert (row["x_size_um"], row["x_size_level0"]) == (16, 64)
        block = data[:64, :64].reshape(32, 2, 32, 2).sum(axis=(1, 3), dtype=np.int64)
        np.testing.assert_array_equal(made["all"][0][0], (block + 2) // 4)
