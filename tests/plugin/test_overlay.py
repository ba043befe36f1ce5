"""The drawn grid as a guest in napari: what it does to the window, and what it leaves alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication
from vispy.visuals.shaders.program import ModularProgram

from napari_patchset.plugin.canvas import overlay
from napari_patchset.plugin.canvas.overlay_layers import HIGHLIGHT_NAME, MAP_NAME
from napari_patchset.plugin.canvas.summary import plane_summary
from napari_patchset.plugin.napari_compat import camera as camera_of
from napari_patchset.preview.raster import _ALPHA
from support.czi_maker import MakeCzi, SceneSpec
from support.gestures import move, place_on_screen, type_into
from support.window import Window


@contextmanager
def uploads(window: Window, name: str) -> Iterator[list[str]]:
    """Collect how often the pixels or lines of a layer are redrawn."""
    seen: list[str] = []

    def note(event: object) -> None:
        seen.append(name)

    events = window.viewer.layers[name].events
    for event in (events.set_data, *([events.edge_color] if "edge_color" in events else [])):
        event.connect(note)
    yield seen
    window.qtbot.wait(100)  # whatever follows the camera or the sliders has done so
    for event in (events.set_data, *([events.edge_color] if "edge_color" in events else [])):
        event.disconnect(note)


def test_what_stays_the_same_is_not_drawn_again(window: Window, file: Path) -> None:
    window.open(file)
    grid, camera = window.grid.name, camera_of(window.viewer)
    window.type_size(8, 8)
    with uploads(window, grid) as drawn:
        camera.zoom *= 8
        window.until(lambda: bool(drawn))
    with uploads(window, grid) as drawn:
        window.viewer.dims.set_point(0, 1)
        window.viewer.dims.set_point(1, 2)
        y, x = camera.center[-2:]
        camera.center = (0, y + 0.5, x)
        window.qtbot.wait(100)
    assert drawn == []
    assert window.widget.preview.drawn.sample == 5

    with uploads(window, grid) as drawn:
        camera.center = (0, y + 10, x)
        window.until(lambda: bool(drawn))
    assert drawn == [grid]

    before = len(window.grid.data)
    window.grid.visible = False
    with uploads(window, grid) as drawn:
        window.type_number(window.widget.patches.size.boxes[1], 16)
    assert (drawn, len(window.grid.data)) == ([], before)
    window.grid.visible = True
    assert len(window.grid.data) < before

    with uploads(window, grid) as drawn:
        window.viewer.layers.remove(window.images[0])
    assert drawn == []


def test_a_changed_value_draws_the_map_once(
    window: Window, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "MAX_OUTLINES", 10)
    window.open(czi(SceneSpec(rect=(0, 0, 128, 128))))
    _, y, x = window.widget.patches.size.boxes
    window.type_number(y, 8)
    window.type_number(x, 16)
    assert MAP_NAME not in window.viewer.layers  # what is exported has no veil, but an outline
    plane, zoom = window.widget.preview.plane, camera_of(window.viewer).zoom
    assert plane.text().endswith(". Patches are too small to draw at this zoom; zoom in.")
    camera_of(window.viewer).zoom *= 10
    window.settle()
    assert "zoom" not in plane.text()
    camera_of(window.viewer).zoom = zoom
    window.settle()
    assert plane.text().endswith("zoom in.")
    assert len(window.grid.data) == 4 * 3
    window.unfold("Split")
    window.type_number(window.widget.form.split.val, 50)
    shown = window.viewer.layers[MAP_NAME]
    assert (shown.data.shape[:2], shown.visible) == ((16, 8), True)
    assert set(np.unique(shown.data[..., 3]).tolist()) == {0, _ALPHA}
    with uploads(window, MAP_NAME) as mapped, uploads(window, window.grid.name) as lined:
        window.type_number(y, 4)
    assert (mapped, lined) == ([MAP_NAME], [])
    image = window.images[0]
    np.testing.assert_allclose(
        shown._extent_augmented.world, image._extent_augmented.world, atol=1e-9
    )
    assert window.viewer.layers.units == image.units[-2:]


def test_shaders_are_compiled_once_whatever_changes(
    window: Window, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, build = [], ModularProgram._build

    def note(program: ModularProgram) -> None:
        compiled.append(program)
        build(program)

    def change(overlap: int) -> None:
        window.type_number(window.widget.patches.overlap.boxes[-1], overlap)
        camera_of(window.viewer).zoom *= 1.3
        window.settle()
        window.viewer.screenshot(flash=False)

    monkeypatch.setattr(ModularProgram, "_build", note)
    window.open(file)
    window.type_size(32, 32)
    change(8)
    assert compiled
    compiled.clear()
    with uploads(window, window.grid.name) as lined, uploads(window, HIGHLIGHT_NAME) as framed:
        change(4)
        change(6)
    assert lined
    assert framed
    assert compiled == []


def point_at(window: Window, y: float, x: float, row: int | None) -> None:
    """Move the mouse to a pixel of the image, onto a patch."""
    image = window.images[0]
    world = image.data_to_world((*(0.0,) * (image.ndim - 2), y, x))[-2:]
    canvas = window.viewer.window._qt_viewer.canvas.native
    move(canvas, place_on_screen(window, *world))
    window.until(lambda: window.widget.preview.overlay.hovered == row)
    window.settle()


def leave_image(window: Window) -> None:
    """Move the mouse from the image to the panel."""
    window.viewer.mouse_over_canvas = True  # a test's mouse moves there without entering
    canvas = window.viewer.window._qt_viewer.canvas.native
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    window.settle()


def is_framed(window: Window) -> bool:
    """Return whether a patch is highlighted; the layer for it is made when one is."""
    layers = window.viewer.layers
    return HIGHLIGHT_NAME in layers and bool(layers[HIGHLIGHT_NAME].vertex_colors[:, 3].any())


def highlighted(window: Window) -> tuple[list[float], float]:
    """Return the start and the size of the frame, and the area that is shaded, in pixels."""
    layer = window.viewer.layers[HIGHLIGHT_NAME]
    (vertices, faces, _), colors = layer.data, layer.vertex_colors
    framed = vertices[colors[:, 3] > 0.5] + 0.5
    is_shaded = (colors[faces[:, 0], 2] == 1) & (colors[faces[:, 0], 3] < 0.5)
    a, b, c = np.moveaxis(vertices[faces[is_shaded]], 1, 0)
    (y1, x1), (y2, x2) = (b - a).T, (c - a).T
    box = [*framed.min(axis=0).tolist(), *np.ptp(framed, axis=0).tolist()]
    return box, float(np.abs(y1 * x2 - x1 * y2).sum() / 2)


def test_the_patch_under_the_mouse_is_highlighted_and_described_or_else_an_example(
    window: Window, file: Path
) -> None:
    window.open(file)  # 64 x 96
    window.type_size(32, 32)
    # Nothing overlaps, so there is no example.
    assert not is_framed(window)
    point_at(window, 40, 70, 11)
    assert highlighted(window) == (pytest.approx([32, 64, 32, 32]), 0)
    assert window.viewer.status.startswith("Patch 11: kept, t 0, z 1, y 32, x 64, 32 × 32 px")
    point_at(window, -6, 40, None)
    assert not str(window.viewer.status).startswith("Patch")
    with uploads(window, window.grid.name) as drawn:
        point_at(window, 10, 10, 6)
    assert drawn == []
    leave_image(window)
    assert window.widget.preview.overlay.hovered is None
    assert not is_framed(window)
    assert not str(window.viewer.status).startswith("Patch")
    point_at(window, 12, 12, 6)
    window.grid.visible = False
    assert not is_framed(window)
    leave_image(window)
    window.grid.visible = True

    for box in window.widget.patches.overlap.boxes[-2:]:
        window.type_number(box, 8)
    (y, x, *size), shaded = highlighted(window)
    assert size == pytest.approx([32, 32])
    seen, pixels = window.widget.preview.drawn.patches, np.zeros((64, 96), int)
    for top, left in seen.start:
        pixels[top : top + 32, left : left + 32] += 1
    y, x = round(y), round(x)
    assert shaded == pytest.approx((pixels[y : y + 32, x : x + 32] > 1).sum())
    assert str(window.viewer.status).startswith("Framed: an example of one patch")
    window.unfold("Split")
    window.type_number(window.widget.form.split.val, 50)  # the next step is about something else
    assert window.widget.preview.overlay.has_example
    assert not str(window.viewer.status).startswith("Framed")


def test_nothing_is_framed_where_patches_overlap_at_the_border_only(
    window: Window, czi: MakeCzi
) -> None:
    """A patch in a corner had lit up when the mouse left the image."""
    window.open(czi(SceneSpec(rect=(0, 0, 100, 70))))
    window.type_size(32, 32)
    point_at(window, 10, 10, 0)
    leave_image(window)
    assert not is_framed(window)
    assert "Framed" not in str(window.viewer.status)


def test_the_panel_says_why_there_are_more_patches_than_are_seen_and_volumes_are_boxes_in_3d(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.type_size(32, 32)
    preview = window.widget.preview
    assert preview.plane.text() == "6 on this plane (3 × 2); 36 in all 6 planes"
    window.choose_depth("Z")
    window.type_size(2, 32, 32)
    planned, patches = preview.drawn.planned, preview.drawn.patches
    assert plane_summary(planned, patches) == preview.plane.text()
    assert preview.plane.text().endswith("; 24 in all 2 volumes")

    flat = window.grid.data
    window.viewer.dims.ndisplay = 3
    window.settle()
    assert window.grid.data.shape == (12 * 12, 2, 3)
    ends = window.grid.data.sum(axis=1) + 0.5
    assert ends.max(axis=0).tolist() == [3, 64, 96]
    window.viewer.dims.ndisplay = 2
    window.settle()
    np.testing.assert_array_equal(window.grid.data, flat)


def test_lines_are_as_wide_along_y_as_along_x_where_pixels_are_not_square(
    window: Window, tmp_path: Path
) -> None:
    path = tmp_path / "flat.ome.tif"
    pixels = np.arange(128 * 512, dtype=np.uint16).reshape(128, 512)
    unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, pixels, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 2.0, **unit})
    window.open(path)
    assert window.images[0].scale.tolist() == [2, 0.5]
    assert window.grid.scale.tolist() == [0.5, 0.5]
    ends = window.grid.scale * np.stack([window.grid.data[:, 0], window.grid.data.sum(axis=1)])
    assert ends.min(axis=(0, 1)).tolist() == [-1, -0.25]
    assert ends.max(axis=(0, 1)).tolist() == [255, 255.75]


def test_next_rejected_goes_from_one_to_the_next_over_all_planes(
    window: Window, file: Path
) -> None:
    window.open(file)
    window.type_size(32, 32)
    preview = window.widget.preview
    assert not preview.reject_button.isVisible()
    window.unfold("Filters")
    text = window.widget.form.filters.text.native
    type_into(window, text, "max[DAPI]>p50")
    window.settle()
    rejected = preview.drawn.planned.rejected_rows.tolist()
    assert 9 < len(rejected) < 36
    seen = []
    for _ in range(len(rejected) + 1):
        window.click(preview.reject_button)
        seen.append(preview.view.row)
        assert preview.drawn.sample == preview.drawn.planned.grid.sample[preview.view.row]
        assert "rejected: " in preview.view.text.text()
    assert seen == [*rejected, rejected[0]]


def test_what_is_left_out_names_where_it_was(window: Window, czi: MakeCzi) -> None:
    spec = SceneSpec(rect=(0, 0, 64, 64), z=3, c=2, missing=({"Z": 1},))
    window.open(czi(spec, name="gap.czi"))
    window.type_size(32, 32)
    assert "4 more places in the image excluded: missing plane" in window.summary
