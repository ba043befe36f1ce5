"""What is drawn on the image by mouse, and layers that lie above, askew, or go."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_patchset.plugin.canvas.overlay_layers import OVERLAYS
from napari_patchset.plugin.planning import known_metrics
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import drag
from support.window import Window

AFTER_A_REGION = """
import sys, napari, numpy as np
from qtpy.QtTest import QTest
from napari_patchset.plugin.preferences import PLUGIN
viewer = napari.Viewer(show_welcome_screen=False)
_, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
viewer.open(sys.argv[1], plugin=PLUGIN)
QTest.qWait(500)
widget.form.region.draw.native.click()
QTest.qWait(500)
viewer.layers.clear()
QTest.qWait(200)
viewer.add_image(np.eye(512, dtype="f4"))
QTest.qWait(500)
print("alive", flush=True)
"""


@pytest.mark.gui
@pytest.mark.slow
def test_a_program_draws_an_array_after_a_region_and_ends_quietly_with_its_window_open(
    file: Path,
) -> None:
    """OpenGL crashed at the first draw of the array, when the region and all layers were gone."""
    command = [sys.executable, "-c", AFTER_A_REGION, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["alive"], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode != -signal.SIGABRT, done.stderr


def test_regions_are_dragged_on_the_image_and_patches_lie_in_either(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    window.type_size(8, 8)
    assert "<b>64</b> patches" in window.summary
    window.unfold("Region")
    window.click(window.widget.form.region.draw)
    layer = window.widget.form.region.layer.value
    drag(window, (20, 20), (20, 20))
    assert not len(layer.data)  # a click draws nothing, nor does it for a moment
    window.settle()
    assert not len(layer.data)
    assert "<b>64</b> patches" in window.summary
    drag(window, (-2, -2), (16.2, 24.2))
    window.until(lambda: "<b>6</b> patches" in window.summary)
    drag(window, (39, 47), (65, 65))
    window.until(lambda: f"<b>{6 + 3 * 2}</b> patches" in window.summary)
    assert len(layer.data) == 2
    assert window.viewer.layers[-1].name in OVERLAYS
    made = window.export_to(tmp_path / "made.patches.zarr")
    starts = {(row["y_start"], row["x_start"]) for row in made.table.to_pylist()}
    made.close()
    upper = {(y, x) for y in (0, 8) for x in (0, 8, 16)}
    assert starts == upper | {(y, x) for y in (40, 48, 56) for x in (48, 56)}
    layer.add(np.array([[0, 0], [5, 5]]), shape_type="line")
    window.until(lambda: "has a line, which encloses nothing" in window.summary)
    layer.selected_data = {2}
    layer.remove_selected()
    window.until(lambda: f"<b>{6 + 3 * 2}</b> patches" in window.summary)


def test_a_region_stays_where_it_was_drawn_and_another_scene_says_so(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.type_size(8, 8)
    window.unfold("Region")
    window.click(window.widget.form.region.draw)
    layer = window.widget.form.region.layer.value
    layer.add(np.array([[-2, -2], [-2, 34], [34, 34], [34, -2]]), shape_type="polygon")
    window.until(lambda: "<b>96</b> patches" in window.summary)
    drawn = layer.data_to_world(layer.data[0][0])
    window.click_scene(1)
    window.until(lambda: "Patch region lies outside of this scene" in window.summary)
    assert not len(window.grid.data)
    assert layer.data_to_world(layer.data[0][0]) == drawn
    window.click_scene(0)
    window.until(lambda: "<b>96</b> patches" in window.summary)


def test_an_image_that_is_turned_is_refused_until_it_is_straight(
    window: Window, czi: MakeCzi
) -> None:
    window.open(czi(SceneSpec(rect=(0, 0, 64, 64))))
    (image,) = window.images
    image.rotate = 30
    window.until(lambda: "is rotated, sheared or transformed" in window.summary)
    assert not len(window.grid.data)
    image.rotate = 0
    window.until(lambda: "<b>1</b> patch," in window.summary)
    image.scale = (2, 2)
    window.until(lambda: tuple(window.grid.scale) == (2, 2))


def test_a_taken_name_is_refused_before_layers_are_written(window: Window, tmp_path: Path) -> None:
    window.viewer.add_image(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), name="made")
    window.until(lambda: window.state is not None)
    taken = tmp_path / "taken.patches.zarr"
    taken.mkdir()
    window.widget.export.out.value = taken
    window.settle()
    assert "taken.patches.zarr exists; choose another name" in window.widget.export.status.value
    assert not window.widget.export.start.enabled
    assert sorted(tmp_path.iterdir()) == [taken]


def test_a_file_that_is_another_by_now_is_measured_anew(
    window: Window, czi: MakeCzi, tmp_path: Path
) -> None:
    path = czi(SceneSpec(rect=(0, 0, 64, 64)))
    window.open(path)
    window.type_size(32, 32)
    filters = window.widget.form.filters
    filters.text.value = "mean>0"
    filters.text.native.returnPressed.emit()
    window.until(lambda: bool(known_metrics(window.widget.plans.current)))
    before = known_metrics(window.widget.plans.current)
    path.unlink()
    czi(SceneSpec(rect=(0, 0, 64, 64), t=range(1, 2)))
    made = window.export_to(tmp_path / "made.patches.zarr")
    (column,) = before
    found = made.table[column].to_numpy()
    np.testing.assert_allclose(found, [patch.mean() for patch in made["all"]])
    assert not np.isclose(found, before[column]).any()
    made.close()


@pytest.mark.parametrize("moment", ["planning", "scoring"])
def test_the_image_goes_at_any_moment(window: Window, file: Path, moment: str) -> None:
    window.open(file)
    window.type_size(8, 8)
    if moment == "planning":
        window.widget.form.strategy.kind.value = "random"
    else:
        window.click(window.widget.form.filters.add, settle=False)
        window.until(lambda: window.widget.plans.scoring.running)
    window.viewer.layers.clear()
    window.until(lambda: "Open a CZI" in window.summary)
    window.qtbot.wait(50)
    assert window.state is None
    assert not window.widget.plans.scoring.running
