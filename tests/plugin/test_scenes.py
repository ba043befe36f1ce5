"""The scene picker, in a real window."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint, QSize, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QToolTip

from napari_patchset.errors import UnreadableFileError
from napari_patchset.plugin.layers.viewer_images import view_of
from napari_patchset.plugin.napari_compat import theme_colors
from napari_patchset.plugin.scenes import picker as scenes
from napari_patchset.plugin.scenes.map import SceneMap
from napari_patchset.plugin.scenes.picker import ScenePicker
from napari_patchset.source import Rect
from napari_patchset.stacks.czi.subblocks import SubblockDecoder
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import list_scenes
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.window import WAIT_MS, Window

WELLS = {8 * i + j: f"{'ABCDEFGH'[j]}{i + 1}" for i in range(12) for j in range(8)}


@pytest.fixture
def plate(czi: MakeCzi) -> Path:
    """A file of 96 scenes, two pixels each."""
    wells = [
        SceneSpec(id=i, rect=(i // 8 * 100, i % 8 * 100, 20, 10), missing=[{"Z": 1}]) for i in WELLS
    ]
    return czi(*wells, xml=metadata_xml(scenes=WELLS), name="plate.czi")


def press(window: Window, *keys: Qt.Key) -> None:
    window.widget.picker.map.setFocus()
    for key in keys:
        window.qtbot.keyClick(window.widget.picker.map, key)


def tooltip_over(scene_map: SceneMap, index: int) -> str:
    x, y = scene_map.cells[index].center
    at = QPoint(round(x), round(y))
    QApplication.sendEvent(
        scene_map, QHelpEvent(QEvent.Type.ToolTip, at, scene_map.mapToGlobal(at))
    )
    return QToolTip.text()


def test_a_scene_is_picked_by_keyboard_and_what_layers_look_like_stays(
    window: Window, file: Path
) -> None:
    window.open(file)
    dapi, egfp = window.images
    dapi.contrast_limits, dapi.colormap, egfp.visible = (100, 9000), "magenta", False
    window.type_number(window.widget.patches.size.boxes[1], 16)
    far = window.viewer.add_shapes([[0, 0], [0, 9999], [9999, 0]], shape_type="polygon")
    far.visible = False
    press(window, Qt.Key.Key_Right, Qt.Key.Key_Return)
    window.until(lambda: window.state.source.scene == 1)
    (top, left), (bottom, right) = view_of(window.viewer, window.images[0])
    assert (top + bottom, left + right) == pytest.approx((80, 64))
    assert min((bottom - top) / 80, (right - left) / 64) == pytest.approx(1 / 0.95, rel=0.01)
    window.viewer.layers.remove(far)
    dapi, egfp = window.images
    assert dapi.data.shape == (2, 3, 80, 64)
    assert dapi.contrast_limits == [100, 9000]
    assert dapi.colormap.name == "magenta"
    assert not egfp.visible
    assert window.state.recipe.strategy.size == (16, 16)
    assert [layer.name for layer in window.images] == ["DAPI", "EGFP"]


@pytest.fixture
def picker(qtbot: QtBot) -> Iterator[ScenePicker]:
    """A picker without a viewer."""
    picker = ScenePicker()
    picker.take(QSize(354, 300))
    qtbot.addWidget(picker)
    yield picker
    picker.loading.release()
    qtbot.waitUntil(lambda: picker.loading.at_rest, timeout=WAIT_MS)


def show(picker: ScenePicker, path: Path) -> None:
    """Show the scenes of a file."""
    scenes = list_scenes(path)
    picker.show()
    picker.show_scenes(path, scenes, scenes[0].id)


def test_every_scene_has_its_thumbnail_and_its_name(
    qtbot: QtBot, picker: ScenePicker, file: Path
) -> None:
    show(picker, file)
    scene_map = picker.map
    assert [tooltip_over(scene_map, i) for i in (0, 1)] == ["Left: 96 × 64 px", "Right: 64 × 80 px"]

    def shows_pixels(index: int) -> bool:
        picture = scene_map.picture(index)
        return picture is not None and picture.toImage().pixelColor(30, 30).lightness() > 0

    qtbot.waitUntil(lambda: shows_pixels(0) and shows_pixels(1), timeout=WAIT_MS)


def test_the_map_frames_the_scenes_that_patches_are_cut_from(
    qtbot: QtBot, picker: ScenePicker, file: Path
) -> None:
    show(picker, file)
    scene_map, accent = picker.map, theme_colors().accent

    def n_accented(index: int) -> int:
        """Count the pixels in the colour of a frame at the left border of a scene."""
        picture = scene_map.grab().toImage()
        scale = picture.width() / scene_map.width()
        cell = scene_map.cells[index]
        y = round(scale * cell.center[1])
        columns = range(round(scale * (cell.x - 3)), round(scale * (cell.x + 4)))
        return sum(picture.pixelColor(x, y) == accent for x in columns)

    scene_map.mark_chosen({0})
    assert [n_accented(index) > 0 for index in (0, 1)] == [True, False]
    scene_map.mark_chosen({0, 1})
    assert 0 < n_accented(1) < n_accented(0)  # that of the shown one is thick
    scene_map.mark(1)
    assert 0 < n_accented(0) < n_accented(1)


def test_a_damaged_scene_says_why_it_has_no_thumbnail_and_the_others_have_theirs(
    qtbot: QtBot, picker: ScenePicker, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = SubblockDecoder.decode

    def decoding(self: SubblockDecoder, row: int) -> Any:
        if self._blocks.rect[row, 0] >= 100 and self._blocks.rect[row, 0] < 300:
            raise UnreadableFileError("image.czi: a tile is damaged.")
        return decode(self, row)

    monkeypatch.setattr(SubblockDecoder, "decode", decoding)
    said: list[str] = []
    monkeypatch.setattr(scenes, "show_error", said.append)
    show(picker, czi(*(SceneSpec(id=i, rect=(100 * i, 0, 80, 60)) for i in range(4))))
    qtbot.waitUntil(lambda: bool(said), timeout=WAIT_MS)
    scene_map = picker.map
    assert said == ["2 scenes of image.czi have no thumbnail: image.czi: a tile is damaged."]
    assert [scene_map.picture(i) is None for i in range(4)] == [False, True, True, False]
    assert tooltip_over(scene_map, 2) == "Scene 2: 80 × 60 px\nimage.czi: a tile is damaged."


def test_a_well_among_96_is_a_click_or_a_name_away(window: Window, plate: Path) -> None:
    window.open(plate)
    picker = window.widget.picker
    assert picker.names.currentText() == "A1"
    window.click_scene(8 * 6 + 3)
    window.until(lambda: window.state.source.scene == 8 * 6 + 3)
    assert (picker.names.currentText(), picker.map.shown_index) == ("D7", 8 * 6 + 3)

    press(window, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Down)
    assert window.state.source.scene == 8 * 6 + 3
    press_at = picker.map.cursor_at
    assert WELLS[press_at] == "F8"
    window.qtbot.keyClick(picker.map, Qt.Key.Key_Space)
    window.until(lambda: window.state.source.scene == press_at)

    picker.names.setFocus()
    picker.names.lineEdit().selectAll()
    window.qtbot.keyClicks(picker.names, "H12")
    window.qtbot.keyClick(picker.names, Qt.Key.Key_Return)
    window.until(lambda: window.state.source.scene == 95)
    assert picker.map.shown_index == 95


def test_a_file_of_one_scene_needs_no_map(picker: ScenePicker, czi: MakeCzi) -> None:
    show(picker, czi(SceneSpec(rect=(0, 0, 64, 64))))
    assert not picker.isVisible()


@pytest.mark.parametrize("columns", [11, 12, 13, 14, 15, 16])
@pytest.mark.parametrize("rows", [2, 16])
def test_no_column_of_the_map_is_cut_without_a_bar_to_reach_it(
    picker: ScenePicker, columns: int, rows: int
) -> None:
    rects = [Rect(i * 100, j * 100, 60, 60) for i in range(columns) for j in range(rows)]
    summaries = [
        SceneSummary(i, "A1", rect, "CYX", (1, 60, 60), "uint8") for i, rect in enumerate(rects)
    ]
    picker.map.set_scenes(summaries, 0)
    picker.take(QSize(356, 300))
    picker.show()
    area = picker._area
    reach = area.horizontalScrollBar().maximum(), area.verticalScrollBar().maximum()
    bars = area.horizontalScrollBar().isVisible(), area.verticalScrollBar().isVisible()
    assert all(bar or not pixels for bar, pixels in zip(bars, reach, strict=True))
    right = max(cell.x + cell.w for cell in picker.map.cells)
    assert right <= area.viewport().width() + reach[0]
