"""The npe2 reader: a path in, layer tuples out; it touches no viewer.

The viewer that a reader opens a file for.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_stack
from typing import Any, NamedTuple
from weakref import ref

from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer

from napari_patchset.patchset.layout import SUFFIXES
from napari_patchset.plugin.dialogs import USER_ERRORS, message, show_offer
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.layers.stage import MOST_SCENES, all_scene_layers
from napari_patchset.plugin.lazy.contrast import settle
from napari_patchset.plugin.napari_compat import is_window_at_work
from napari_patchset.plugin.preferences import PLUGIN, opens_all_scenes
from napari_patchset.plugin.worker import beside
from napari_patchset.source import SceneId, split_scene
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import FILE_FORMATS, list_scenes
from napari_patchset.stacks.zarr.store import is_zarr

_SOON_MS = 300
_READY = "Ready"


class Opener:
    """The viewer in whose `open` the caller is; napari does not tell a reader who asks."""

    def __init__(self) -> None:
        callers = (frame.f_locals.get("self") for frame, _ in walk_stack(sys._getframe(1)))
        self._viewer = next((each for each in callers if isinstance(each, Viewer)), None)

    @property
    def is_closed(self) -> bool:
        """Whether its window is closed by now."""
        if self._viewer is None:
            return False
        window = getattr(self._viewer.window, "_qt_window", None)
        return window is None or not isalive(window)  # type: ignore[no-untyped-call]  # as qtpy is

    def tell(self, text: str) -> None:
        """Notify of the scenes of a file, with a button that shows them in the widget.

        The window says so once the layers are there: to draw a notification takes as long as one.
        """
        if is_window_at_work():
            QTimer.singleShot(0, lambda: None if self.is_closed else self._tell(text))
        else:
            self._tell(text)

    def _tell(self, text: str) -> None:
        if self._viewer is None:
            show_info(text)
            return
        known = ref(self._viewer)  # napari keeps what it told, not the viewer
        show_offer(text, "Show the scenes", lambda: _show_patches(known()))

    @contextmanager
    def saying(self, text: str) -> Iterator[None]:
        """Say in the status bar what takes longer than a moment."""
        timer = QTimer()
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: self._say(text))
        timer.start(_SOON_MS)
        try:
            yield
        finally:
            timer.stop()
            if self._viewer is not None and self._viewer.status == text:
                self._say(_READY)

    def _say(self, text: str) -> None:
        if self._viewer is not None and not self.is_closed:
            self._viewer.status = text


def _show_patches(viewer: Viewer | None) -> None:
    """Dock the widget, or bring it to the fore where it is docked."""
    if viewer is not None:
        dock, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
        dock.show()
        dock.raise_()


Reader = Callable[[str | list[str]], list[LayerTuple]]

NO_LAYERS: list[Any] = [(None,)]
"""By which a reader tells napari that it did its work, and that nothing is to be shown."""


def get_reader(path: str | list[str]) -> Reader | None:
    """Give the reader for a path, None for what is not ours: several paths, another suffix.

    A folder may have any name: a file of zarr's in it says what it is.
    """
    if isinstance(path, list):
        return None
    name = Path(path).name.lower()
    suffixes = [suffix for form in FILE_FORMATS for suffix in form.suffixes]
    if name.endswith(SUFFIXES) or _suffix(path) in suffixes:
        return read_layers
    return read_layers if beside(is_zarr, Path(path)) else None


def read_layers(path: str | list[str]) -> list[LayerTuple]:
    """Open a file's first scene, or a patch set, and say where the other scenes are.

    Where a person prefers it, all scenes of a file are opened.

    What can't be opened is raised; in the window, where no other reader could open it, it is
    said in one notification. The window goes on while a file is opened.
    """
    name, opener = path if isinstance(path, str) else path[0], Opener()
    if is_window_at_work():
        return _read_beside(name, opener)
    return _shown(_read(name), opener)


class _Opened(NamedTuple):
    layers: list[LayerTuple]
    said: str = ""
    """Of the other scenes: where they are, or why they are left out."""


def _read_beside(name: str, opener: Opener) -> list[LayerTuple]:
    """Open a file beside the window; there is nothing to show if it is closed meanwhile."""
    try:
        with opener.saying(f"Opening {Path(name).name}…"):
            opened = _read(name)
    except USER_ERRORS as error:
        if opener.is_closed:
            return NO_LAYERS
        if not _is_only_ours(name):
            raise
        show_error(message(error))
        return NO_LAYERS
    if opener.is_closed:
        return NO_LAYERS
    settle(opened.layers)
    return _shown(opened, opener)


def _shown(opened: _Opened, opener: Opener) -> list[LayerTuple]:
    if opened.said:
        opener.tell(opened.said)
    return opened.layers


def _read(name: str) -> _Opened:
    """Read all that is to be known before pixels, beside the window."""
    asked = beside(_look_up, name)
    # napari looks through all plugins before it knows a preference: asked only where it matters
    all_scenes = 1 < len(asked.scenes) <= MOST_SCENES and opens_all_scenes()
    return beside(_opened, asked, all_scenes)


class _Asked(NamedTuple):
    """What a name says: a file, and a scene of it if it says one; else all of its scenes."""

    file: Path
    scene: SceneId | None
    scenes: list[SceneSummary]


def _look_up(name: str) -> _Asked:
    file, scene = split_scene(name, None)
    says_all = file.name.endswith(SUFFIXES) or scene is not None
    return _Asked(file, scene, [] if says_all else list_scenes(file))


def _opened(asked: _Asked, all_scenes: bool) -> _Opened:
    file, scene, scenes = asked
    if file.name.endswith(SUFFIXES):
        # It takes a while to import what reads tables, which an image does not need.
        from napari_patchset.plugin.layers.patch_set import patch_set_layers

        return _Opened(patch_set_layers(file))
    if scene is not None:
        return _Opened(scene_layers(file, scene))
    if all_scenes:
        return _Opened(*all_scene_layers(file, scenes))
    first = scenes[0]
    said = (
        f"{file.name} has {len(scenes)} scenes; this is {first.name}. "
        "Choose another one in Plugins > Patches."
    )
    return _Opened(scene_layers(file, first.id), said if len(scenes) > 1 else "")


def _is_only_ours(name: str) -> bool:
    return _suffix(name) == ".czi" or name.endswith(SUFFIXES)


def _suffix(name: str) -> str:
    """Give the suffix of a file, whether or not a scene is written behind it."""
    return Path(re.sub(r"@\d+$", "", name)).suffix.lower()
