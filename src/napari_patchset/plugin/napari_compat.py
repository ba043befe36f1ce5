"""Workarounds that use private parts of napari, vispy and Qt, and differences between versions.

Nothing else in the plugin uses a private name or inspects its callers. Each entry says
which versions need it and where upstream knows of it; `tests/plugin/test_napari_compat.py` has a
test for each that fails as soon as it is no longer needed.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from threading import Thread, current_thread, main_thread
from traceback import walk_stack
from types import SimpleNamespace
from typing import Any, NamedTuple

import napari
import napari.settings
import numpy as np
from napari.layers import Layer, Shapes, Surface, Vectors
from napari.utils.theme import get_theme
from napari.viewer import Viewer
from npe2 import PluginManifest
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt
from qtpy.QtGui import QColor

OLDEST = (0, 7, 1)
"""The oldest napari that is tested."""


def check_napari(version: str = napari.__version__) -> None:
    """Refuse to run in a napari that is too old.

    Raises
    ------
    ImportError
        If its version is less than `OLDEST`.
    """
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(
            f"napari-patchset needs napari {oldest} or newer, and this is napari {version}: "
            "update it with `pip install -U napari`."
        )


check_napari()


CAN_CHANGE_AXES = tuple(map(int, re.findall(r"\d+", napari.__version__)[:2])) >= (0, 9)
"""Whether a layer can get pixels of another number of axes: the canvas fails before napari 0.9."""


# Callers


def is_slicing_to_draw() -> bool:
    """Return whether the caller's caller is napari, slicing an image to draw it.

    napari slices in the GUI thread and can't be answered later, so that an array has to know
    whether it may return incomplete pixels. Up to napari 0.9.2; asynchronous slicing is an
    experiment that is off (napari issue 4795).
    """
    caller = str(sys._getframe(2).f_globals.get("__name__", ""))
    return (
        caller.startswith("napari.layers._scalar_field.")
        and current_thread() is main_thread()
        and QCoreApplication.instance() is not None
    )


class Opener(NamedTuple):
    """The viewer, and whether a user or a script, that called the reader.

    Attributes
    ----------
    viewer : Viewer or None
        The viewer whose `open` is running.
    is_person : bool
        Whether the user opened the file in the window, rather than a script.
    """

    viewer: Viewer | None
    is_person: bool

    @classmethod
    def find(cls) -> "Opener":
        """Find the viewer among the callers: napari does not tell a reader. Up to 0.9.2.

        A file that is dropped or chosen passes through a method of the window, a sample through a
        function of the module that makes its menu.
        """
        frames = [frame for frame, _ in walk_stack(sys._getframe(1))]
        callers = [frame.f_locals.get("self") for frame in frames]
        viewer = next((each for each in callers if isinstance(each, Viewer)), None)
        is_person = any(type(each).__name__ == "QtViewer" for each in callers) or any(
            frame.f_globals.get("__name__") == _SAMPLE_MENU for frame in frames
        )
        return cls(viewer, is_person)


_SAMPLE_MENU = "napari._qt._qplugins._qnpe2"

NO_SAMPLE_LAYERS: list[tuple[Any, dict[str, Any], str]] = [
    (np.empty((0, 1, 1)), {"channel_axis": 0}, "image")
]
"""Tells napari that a sample is opened without a layer: the layers of no channel.

napari refuses a sample of no layers, so that one can't be read in the background (up to 0.9.2).
"""


# Viewers and their windows


def open_viewer(title: str, layers: Sequence[tuple[Any, dict[str, Any], str]]) -> Viewer:
    """Open another window of napari with layers."""
    viewer = Viewer(title=title)
    for data, options, kind in layers:
        viewer.add_layer(Layer.create(data, options, kind))
    return viewer


def open_viewers() -> list[Viewer]:
    """Return every viewer whose window is not closed; napari names the current one only."""
    return [viewer for viewer in list(Viewer._instances) if not is_closed(viewer)]


def is_closed(viewer: Viewer) -> bool:
    """Return whether the window of a viewer is closed: forgotten by napari, or hidden for good."""
    window = _window_of(viewer)
    if window is None or not isalive(window):  # type: ignore[no-untyped-call]  # as qtpy is
        return True
    was_shown = window.testAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide)
    return bool(was_shown and window.isHidden())


def call_when_closing(
    viewer: Viewer, call: Callable[[], None], listener: QObject | None = None
) -> None:
    """Have a function called when the window of a viewer closes, before napari takes it apart.

    Until then results may be drawn; afterwards napari's canvas is being destroyed, and adding or
    changing a layer would leave parts of it behind. napari has no event for it (up to 0.9.2).

    Parameters
    ----------
    listener : QObject or None
        The connection ends when it is deleted; None for the window itself.
    """
    window = _window_of(viewer)
    window.installEventFilter(_Closing(listener or window, call))


class _Closing(QObject):
    closing = Signal()

    def __init__(self, listener: QObject, call: Callable[[], None]) -> None:
        super().__init__(listener)
        self.closing.connect(call)  # weakly, where it is a method
        self._is_asked = False

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Notice that napari closes its window, or hides it because the user closes it.

        In between napari may ask the user to confirm, and then ignore the event.
        """
        if event is not None and not event.spontaneous():
            is_hidden = event.type() == QEvent.Type.Hide and self._is_asked
            if is_hidden or event.type() == QEvent.Type.Close:
                self.closing.emit()
        elif event is not None and event.type() == QEvent.Type.Close:
            self._is_asked = True
        return False


def _window_of(viewer: Viewer) -> Any:
    return getattr(_whole(viewer).window, "_qt_window", None)


def _whole(viewer: Viewer) -> Any:
    """Return the viewer behind the proxy that a widget gets, which warns of private names."""
    return getattr(viewer, "__wrapped__", viewer)


def show_status(viewer: Viewer, text: str) -> None:
    """Show a message in the status bar at once, before the GUI thread becomes busy."""
    viewer.status = text
    if not is_closed(viewer):
        _window_of(viewer).statusBar().repaint()


def draw_in_own_context(viewer: Viewer) -> None:
    """Make the OpenGL context of a viewer's canvas current; call it before a layer is removed.

    napari flushes vispy's commands when a layer is gone (napari pull request 8122, from 0.6.3 up to
    0.9.2 at least) into whatever context is current. Outside of a paint event that is the one in
    which Qt composes the window, so that programs are deleted there which the canvas' own context
    still has bound: Mesa then draws the next layer with freed memory, and crashes.
    """
    with suppress(AttributeError):  # a window that is being closed
        _whole(viewer).window._qt_viewer.canvas._scene_canvas.set_current()


# Layers


@contextmanager
def drawn_once(layer: Layer) -> Iterator[None]:
    """Change settings of a layer while it is hidden, so that not each of them is drawn."""
    was_visible = layer.visible
    with layer.events.visible.blocker():
        layer.visible = False
    try:
        yield
    finally:
        if was_visible:
            layer.visible = True


def is_being_drawn(layer: Shapes) -> bool:
    """Return whether the mouse draws or moves a shape, which the layer has already (to 0.9.2)."""
    return bool(layer._is_creating or layer._is_moving)


def slice_in_new_units(layer: Layer) -> None:
    """Slice a layer whose units have changed; another plane, or none, would be drawn.

    napari (up to 0.9.2) uses the old units until a slider moves.
    """
    layer.events.reload(layer=layer)


def set_mesh(layer: Surface, data: Any, colors: NDArray[np.float32]) -> None:
    """Change the triangles of a surface and the colours of their corners, and draw them once.

    The two have one length, but are set one after the other, and each is drawn (up to 0.9.2).
    """
    layer._vertex_colors = colors
    layer.data = data


def move_mesh(layer: Surface, data: Any, colors: NDArray[np.float32]) -> None:
    """Change a mesh within the extent that the layer has, as a mouse moves.

    With new data napari measures all layers, sets the sliders again and draws the list of layers,
    which takes longer than all else (up to 0.9.2).
    """
    layer._vertices, layer._faces = data
    layer._vertex_values, layer._vertex_colors = np.ones(len(data[0])), colors
    layer.refresh(thumbnail=False, highlight=False, extent=False)


def keep_program(viewer: Viewer, layer: Surface | Vectors) -> None:
    """Compile the shaders of a layer that draws triangles once, not whenever these change."""
    _keep_program(_whole(viewer).window._qt_viewer.canvas.layer_to_visual[layer].node)


def _keep_program(mesh: Any) -> None:
    """Let a mesh whose corners have colours, not values, use one function for these.

    vispy (issue 2568, up to 0.16.2) makes an equal one at each change, and compiles and links all.
    """
    unchanged = mesh._build_color_transform(np.ones(4, np.float32))
    mesh._build_color_transform = lambda colors: unchanged


def drop_orphans(layer: Shapes) -> None:
    """Remove features and colours of shapes that are not there, or the next shapes would get them.

    napari removes a shape that was too small when its drawing ended, and keeps its features and
    its colour, so that all later ones are drawn in the colour of the one before. Up to 0.9.2.
    """
    view, n = layer._data_view, layer.nshapes
    view._edge_color, view._face_color = view._edge_color[:n], view._face_color[:n]
    if len(layer.features) > n:
        set_features(layer, layer.features.iloc[:n].reset_index(drop=True))


def set_features(layer: Shapes, features: Any) -> None:
    """Set the features of a layer, and keep those of shapes to come, which napari may lose."""
    before = {name: values.iloc[0] for name, values in layer.feature_defaults.items()}
    layer.features = features
    now = {name: values.iloc[0] for name, values in layer.feature_defaults.items()}
    layer.feature_defaults = {name: before.get(name, value) for name, value in now.items()}


def limit_thumbnail(layer: Vectors, count: int) -> None:
    """Draw fewer lines in a thumbnail than napari, which draws 1024 in Python (up to 0.9.2)."""
    layer._max_vectors_thumbnail = count


# Differences between napari's versions


def camera(viewer: Viewer) -> Any:
    """Return the camera: `viewer.scene.camera` from napari 0.9 on, `viewer.camera` before."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Return height and width of the canvas, in pixels: public from napari 0.9 on."""
    size = viewer.canvas.size if hasattr(viewer, "canvas") else _whole(viewer)._canvas_size
    return int(size[0]), int(size[1])


def canvas_resized(viewer: Viewer) -> Any:
    """Return the event of a canvas that gets another size."""
    if hasattr(viewer, "canvas"):
        return viewer.canvas.events.size
    return _whole(viewer).window._qt_viewer.canvas._scene_canvas.events.resize


def scale_bar(viewer: Viewer) -> Any:
    """Return the scale bar: an overlay of the canvas from napari 0.9 on."""
    return viewer.canvas.overlays.scale_bar if hasattr(viewer, "canvas") else viewer.scale_bar


def show_scale_bar(viewer: Viewer) -> None:
    """Show the scale bar; the box behind it, which napari 0.9 resizes at each zoom, is a mesh."""
    bar = scale_bar(viewer)
    if not bar.visible:  # napari's own place for it, at the right, is where it notifies
        bar.position = "bottom_left"
    bar.visible = True
    visuals = getattr(_whole(viewer).window._qt_viewer.canvas, "_viewer_overlay_to_visual", {})
    for visual in visuals.get(bar, ()):
        _keep_program(visual.box._mesh)


def get_plugin_settings(plugin: str) -> Any:
    """Return the plugin's page of the preferences; its defaults before napari 0.9."""
    if hasattr(napari.settings, "get_plugin_settings"):
        return napari.settings.get_plugin_settings(plugin)
    return _default_settings(plugin)


@cache
def _default_settings(plugin: str) -> SimpleNamespace:
    pages = PluginManifest.from_distribution(plugin).contributions.configurations or {}
    return SimpleNamespace(
        **{
            name: SimpleNamespace(**{key: each.default for key, each in page.properties.items()})
            for name, page in pages.items()
        }
    )


# Imports and colours

NEEDED_SOON = ("scipy.ndimage", "pandas")
"""Modules that napari imports on first use: for the first image, and for the first lines.

That takes a few tenths of a second, during which the window would freeze (napari 0.7.1 to 0.9.2).
"""


NEEDED_LATER = ("napari_patchset.stacks.zarr.stack", "napari_patchset.plugin.stitching")
"""Modules of ours that the widget is shown without, as zarr is a third of all imports."""


def import_ahead() -> None:
    """Import in a background thread what would be imported in the GUI thread."""
    missing = [name for name in (*NEEDED_SOON, *NEEDED_LATER) if name not in sys.modules]
    if missing:
        Thread(target=lambda: [*map(import_module, missing)], name="patchset-imports").start()


class Colors(NamedTuple):
    """Colours of text, of the selection and of errors; the last is legible on the background."""

    text: QColor
    accent: QColor
    error: QColor


def theme_colors() -> Colors:
    """Return the colours of the viewer's theme, for widgets that napari's style does not reach.

    A script may have set another one than is preferred.
    """
    viewer = napari.current_viewer()
    preferred = napari.settings.get_settings().appearance.theme
    theme = get_theme(preferred if viewer is None else viewer.theme)
    text = QColor(theme.text.as_hex())
    is_dark = text.lightnessF() > 0.5
    error = QColor("#ff8080") if is_dark else QColor("#b00020")
    return Colors(text, QColor(theme.current.as_hex()), error)
