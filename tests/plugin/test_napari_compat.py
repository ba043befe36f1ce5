"""What leans on napari's insides works, and is still needed: a test that fails says what can go."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import napari
import numpy as np
import pytest
from napari.layers import Image, Shapes, Surface, Vectors
from napari.plugins.io import read_data_with_plugins
from napari.settings import get_settings
from napari.viewer import Viewer
from packaging.version import Version
from qtpy.QtCore import QCoreApplication
from qtpy.QtGui import QCloseEvent, QOpenGLContext
from vispy.visuals.shaders.program import ModularProgram

from napari_patchset.plugin.canvas.overlay_layers import GRID_NAME
from napari_patchset.plugin.napari_compat import (
    CAN_CHANGE_AXES,
    NO_SAMPLE_LAYERS,
    OLDEST,
    Opener,
    call_when_closing,
    camera,
    canvas_size,
    check_napari,
    draw_in_own_context,
    drawn_once,
    drop_orphans,
    get_plugin_settings,
    is_being_drawn,
    is_closed,
    keep_program,
    limit_thumbnail,
    move_mesh,
    open_viewers,
    set_mesh,
    show_scale_bar,
)
from napari_patchset.plugin.preferences import PLUGIN
from support.gestures import drag
from support.window import Window

_BUILD = ModularProgram._build


@pytest.fixture
def emptied(viewer: Any) -> Iterator[Any]:
    """Return the viewer that all tests share, which is left as empty as it was."""
    yield viewer
    viewer.layers.clear()


@pytest.mark.parametrize("version", ["0.6.6", "0.7.0", "0.5.6.dev3+g12"])
def test_an_old_napari_is_refused_in_one_sentence(version: str) -> None:
    with pytest.raises(ImportError, match=rf"needs napari 0\.7\.1 or newer.*{version[:5]}"):
        check_napari(version)


@pytest.mark.parametrize("version", ["0.7.1", "0.8.0", "0.9.2.dev1+gabc", napari.__version__])
def test_every_napari_from_the_oldest_one_on_will_do(version: str) -> None:
    check_napari(version)


def test_napari_slices_in_the_windows_thread() -> None:
    """Else `is_slicing_to_draw` and what it is for can go."""
    assert not get_settings().experimental.async_


def test_napari_does_not_tell_a_reader_who_asks() -> None:
    """Else `Opener.find` can go."""
    assert "viewer" not in inspect.signature(read_data_with_plugins).parameters


def test_the_viewer_that_opens_is_found(emptied: Any, make_napari_viewer: Any, file: Path) -> None:
    viewer, other, opened = emptied, make_napari_viewer(), list[Opener]()

    def read(*_: Any, **__: Any) -> list[Any]:
        opened.append(Opener.find())
        return []

    with patch.object(Viewer, "_add_layers_with_plugins", read):
        for each in (viewer, other):
            each.open(str(file), plugin=PLUGIN)
        viewer.window._qt_viewer._qt_open([str(file)], stack=False, plugin=PLUGIN)
    assert [each.viewer for each in opened] == [viewer, other, viewer]
    assert [each.is_person for each in opened] == [False, False, True]
    assert Opener.find() == (None, False)


def test_a_sample_of_no_layers_is_refused_but_one_of_no_channel_is_not(
    emptied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `NO_SAMPLE_LAYERS` can go."""
    viewer, layers = emptied, list[Any]()
    get_sample = "napari.plugins._npe2.get_sample_data"
    monkeypatch.setattr(get_sample, lambda *_: (lambda: layers, []))
    with pytest.raises(ValueError, match="did not return any valid layer data"):
        viewer.open_sample(PLUGIN, "cells")
    layers += NO_SAMPLE_LAYERS
    assert viewer.open_sample(PLUGIN, "cells") == []


def test_napari_names_the_current_viewer_only() -> None:
    """Else `open_viewers` can go."""
    assert not hasattr(Viewer, "instances")
    assert not hasattr(napari, "viewers")


def test_a_window_that_a_script_closes_says_so_before_it_is_taken_apart(
    make_napari_viewer: Any,
) -> None:
    viewer, calls = make_napari_viewer(show=True), list[bool]()
    window = viewer.window._qt_window
    call_when_closing(viewer, lambda: calls.append(is_closed(viewer)))
    assert viewer in open_viewers()
    with patch.object(window, "_save_current_window_settings"):
        viewer.close()
    assert calls[0] is False
    assert is_closed(viewer)
    assert viewer not in open_viewers()


def test_a_window_that_a_person_closes_says_so_unless_that_is_refused(
    make_napari_viewer: Any,
) -> None:
    viewer, calls = make_napari_viewer(show=True), list[bool]()
    window = viewer.window._qt_window
    call_when_closing(viewer, lambda: calls.append(True))
    for is_refused in (True, False):

        def answer(event: QCloseEvent, is_refused: bool = is_refused) -> None:
            event.setAccepted(not is_refused)

        with patch.object(window, "closeEvent", answer), patch.object(window, "close", window.hide):
            event = SpontaneousClose()
            QCoreApplication.sendEvent(window, event)
            if not is_refused:
                window.hide()  # as Qt does then
        assert bool(calls) is not is_refused
        assert is_closed(viewer) is not is_refused
    window.show()


class SpontaneousClose(QCloseEvent):
    """The event by which the window system closes a window."""

    def spontaneous(self) -> bool:
        return True


@pytest.fixture
def flushed_in_own_context(window: Window) -> Iterator[list[bool]]:
    """Note in which context napari deletes what belonged to a layer."""
    canvas, noted = window.viewer.window._qt_viewer.canvas, list[bool]()
    for name in ("first", "second"):
        window.viewer.add_image(np.ones((8, 8)), name=name)
    painted: list[object] = []
    canvas._scene_canvas.events.draw.connect(painted.append)
    canvas._scene_canvas.update()
    window.until(lambda: bool(painted))
    window.qtbot.wait(100)  # until Qt has put the window together
    finish = canvas._scene_canvas.context.finish

    def note() -> None:
        noted.append(QOpenGLContext.currentContext() == canvas.native.context())
        finish()

    with patch.object(canvas._scene_canvas.context, "finish", note):
        yield noted


def test_what_a_removed_layer_had_is_deleted_in_the_context_of_its_canvas(
    window: Window, flushed_in_own_context: list[bool]
) -> None:
    """Not in that in which Qt composes the window: drawing then crashes in Mesa."""
    window.viewer.layers.remove("first")
    window.viewer.layers.clear()
    assert flushed_in_own_context
    assert all(flushed_in_own_context)


def test_napari_deletes_in_whatever_context_is_current(
    window: Window, flushed_in_own_context: list[bool]
) -> None:
    """Else `draw_in_own_context` can go."""
    window.viewer.window.remove_dock_widget(window.dock)
    window.qtbot.wait(100)  # until Qt has put the window together
    flushed_in_own_context.clear()
    window.viewer.layers.remove("first")
    assert flushed_in_own_context == [False]
    flushed_in_own_context.clear()
    draw_in_own_context(window.viewer)
    window.viewer.layers.remove("second")
    assert flushed_in_own_context == [True]


def test_a_closed_panel_removes_its_grid_in_the_context_of_the_canvas(
    window: Window, file: Path, flushed_in_own_context: list[bool]
) -> None:
    window.open(file)
    assert not flushed_in_own_context
    window.viewer.window.remove_dock_widget(window.dock)
    assert GRID_NAME not in window.viewer.layers
    assert flushed_in_own_context
    assert all(flushed_in_own_context)


def test_napari_draws_a_layer_for_each_setting() -> None:
    """Else `drawn_once` can go."""
    layer, drawn = Image(np.ones((4, 4))), list[object]()
    layer.events.set_data.connect(drawn.append)
    layer.data, layer.data = np.zeros((4, 4)), np.ones((5, 5))
    assert len(drawn) == 2
    with drawn_once(layer):
        layer.data, layer.data = np.zeros((4, 4)), np.ones((5, 5))
    assert len(drawn) == 3
    assert layer.visible


def test_napari_measures_a_mesh_that_gets_new_data() -> None:
    corners, faces = np.array([[0, 0], [0, 5], [5, 0]]), np.array([[0, 1, 2]])
    colors, measured = np.ones((3, 4), np.float32), []
    layer = Surface((corners, faces), vertex_colors=colors)
    layer.events._extent_augmented.connect(measured.append)
    set_mesh(layer, (corners + 1, faces), colors)
    assert measured
    measured.clear()
    move_mesh(layer, (corners + 2, faces), colors)
    assert not measured
    assert np.array_equal(layer._view_vertices, corners + 2)


def test_a_layer_has_a_shape_before_it_is_finished(make_napari_viewer: Any) -> None:
    """Else `is_being_drawn` can go."""
    layer = make_napari_viewer().add_shapes()
    layer.mode = "add_rectangle"
    (draw,) = layer.mouse_drag_callbacks
    event = SimpleNamespace(type="mouse_press", position=(1, 1), pos=np.ones(2), modifiers=[])
    steps = draw(layer, event)
    next(steps)
    assert len(layer.data) == 1
    assert is_being_drawn(layer)
    for kind in ("mouse_move", "mouse_release"):
        event.type, event.position = kind, (9, 9)
        next(steps, None)
    assert not is_being_drawn(layer)


def test_napari_leaves_the_features_of_a_shape_that_is_too_small(
    window: Window, file: Path
) -> None:
    """Else `drop_orphans` can go."""
    window.open(file)
    viewer = window.viewer
    layer = viewer.add_shapes(ndim=2, features={"class": np.empty(0, object)})
    layer.feature_defaults = {"class": "A"}
    layer.mode = "add_polygon_lasso"
    drag(window, (10, 10), (10, 20), (10, 30))
    assert (layer.nshapes, len(layer.features)) == (0, 1)
    drop_orphans(layer)
    assert len(layer.features) == 0
    layer.feature_defaults = {"class": "B"}
    layer.add(np.eye(3, 2), shape_type="polygon")
    assert list(layer.features["class"]) == ["B"]


def test_napari_draws_many_lines_in_a_thumbnail() -> None:
    """Else `limit_thumbnail` can go."""
    layer = Vectors(np.ones((2, 2, 2)))
    assert layer._max_vectors_thumbnail == 1024
    limit_thumbnail(layer, 64)
    assert layer._max_vectors_thumbnail == 64


def test_napari_keeps_the_colour_of_a_shape_that_is_gone() -> None:
    """Else `drop_orphans` can go."""
    layer = Shapes([np.eye(3, 2)] * 2, shape_type="polygon", edge_color=["red", "blue"])
    layer._data_view.remove(1)  # as napari does with one that is too small
    assert len(layer.edge_color) == 2
    drop_orphans(layer)
    assert len(layer.edge_color) == len(layer.face_color) == 1


def test_vispy_compiles_a_mesh_whenever_it_changes(emptied: Any) -> None:
    """Else `keep_program` and `show_scale_bar` can go."""
    viewer = emptied
    layer = viewer.add_vectors(np.ones((2, 2, 2)))
    with patch.object(ModularProgram, "_build", autospec=True, side_effect=_BUILD) as build:

        def compiled() -> int:
            build.reset_mock()
            layer.data = layer.data + 1
            viewer.screenshot(flash=False)
            return int(build.call_count)

        assert [compiled() for _ in range(3)][1:] == [1, 1]
        keep_program(viewer, layer)
        assert [compiled() for _ in range(3)][1:] == [0, 0]
        show_scale_bar(viewer)
        compiled()
        camera(viewer).zoom *= 3
        assert compiled() == 0


def test_the_oldest_napari_cannot_change_the_axes_of_a_layer() -> None:
    """Once `OLDEST` is 0.9 `CAN_CHANGE_AXES` can go."""
    assert OLDEST < (0, 9)
    assert (Version(napari.__version__) >= Version("0.9")) == CAN_CHANGE_AXES


def test_camera_canvas_and_preferences_are_found(viewer: Any) -> None:
    """Once `OLDEST` is 0.9 these differences can go."""
    assert OLDEST < (0, 9)
    assert camera(viewer).zoom > 0
    assert min(canvas_size(viewer)) > 0
    assert get_plugin_settings(PLUGIN).opening.all_scenes is False
    assert get_plugin_settings(PLUGIN).export.format == "zarr"
