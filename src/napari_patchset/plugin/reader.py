"""Open files: the npe2 reader, a plain function from paths to layer tuples.

It reads the structure of a file and, of each layer, the plane that is shown first at its lowest
resolution; everything else is read when napari draws it (`lazy.array`). napari calls a reader in
the GUI thread, which blocks meanwhile; the widget's own buttons use `FileOpener`, which reads in a
background thread.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import ref

from napari.layers import Layer
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer

from napari_patchset.annotations.geojson import is_geojson, read_geojson
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.source_files import images_in
from napari_patchset.patchset.layout import SUFFIXES
from napari_patchset.plugin.dialogs import USER_ERRORS, message, show_offer
from napari_patchset.plugin.layers.outlines import ImageSpace, make_layer
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.layers.scene_layout import MAX_SCENES, all_scene_layers, name_by_file
from napari_patchset.plugin.layers.viewer_images import find_scene_layers, shown_files
from napari_patchset.plugin.napari_compat import Opener, is_closed, open_viewer, show_status
from napari_patchset.plugin.overrides import open_sequence, remember, source_ref
from napari_patchset.plugin.preferences import PLUGIN, opens_all_scenes
from napari_patchset.plugin.worker import Worker, outbox
from napari_patchset.source import split_scene
from napari_patchset.stacks.opening import FILE_FORMATS, ZIP_SUFFIX, find_format, list_scenes
from napari_patchset.stacks.zarr.store import is_zarr

_READY, _WIDGET = "Ready", "Patches"

OUTLINES_SUFFIX = ".geojson"
"""Files of outlines that can be dropped; others that end in .json are anything."""

NO_LAYERS: list[Any] = [(None,)]
"""Tells napari that the reader has succeeded and that there is nothing to show."""

Reader = Callable[[str | list[str]], list[LayerTuple]]


class Opened(NamedTuple):
    """The layers of a file, and a notice of what else it has, "" for none, with a button."""

    layers: list[LayerTuple]
    notice: str = ""
    button: str = "Show the scenes"


def get_reader(path: str | list[str]) -> Reader | None:
    """Return the reader of a path, None for formats of other readers.

    Files to open as a stack (dropped with Shift held) come as a list, a folder of them as a list of
    one. A zarr folder may have any name: zarr's metadata files in it identify it. So does the
    content of a zip archive.
    """
    name = path if isinstance(path, str) else path[0] if len(path) == 1 else ""
    if name and _is_plain_folder(Path(name)):
        return read_layers if any(_is_ours(str(each)) for each in Path(name).iterdir()) else None
    if isinstance(path, str):
        return read_layers if _is_ours(path) else None
    return read_layers if path and all(map(_is_ours, path)) else None


def _is_ours(name: str) -> bool:
    path, suffix = Path(name), _suffix(name)
    if suffix == OUTLINES_SUFFIX:
        return True
    if suffix == ZIP_SUFFIX:
        with suppress(*USER_ERRORS):
            return bool(find_format(path))
        return False
    suffixes = [suffix for form in FILE_FORMATS for suffix in form.suffixes]
    return path.name.lower().endswith(SUFFIXES) or suffix in suffixes or is_zarr(path)


def _is_plain_folder(path: Path) -> bool:
    """Return whether a path is a folder of files, neither a zarr nor a patch set."""
    return path.is_dir() and not is_zarr(path) and not path.name.endswith(SUFFIXES)


def read_layers(path: str | list[str]) -> list[LayerTuple]:
    """Read a file for napari: see `read_file`.

    Of a folder, show the first image; where the user opened it, or the widget is shown, the widget
    adds the others to its set. Files, or a folder, that come as a list are one image.

    Show progress in the status bar. An error is raised; where the user opened a file that no other
    reader could open, it is shown in one notification instead.
    """
    name, opener = path if isinstance(path, str) else path[0], Opener.find()
    if is_geojson(name):
        return _read_outlines(name, opener)
    is_folder = _is_plain_folder(Path(name))
    is_stack = not isinstance(path, str) and (len(path) > 1 or is_folder)
    viewer, text = opener.viewer, f"Opening {Path(name).name}…"
    if viewer is not None:
        show_status(viewer, text)
    try:
        files = images_in(Path(name)) if is_folder and not is_stack else [Path(name)]
        opened = read_sequence(path) if is_stack else read_file(str(files[0]))
    except USER_ERRORS as error:
        has_other_readers = _suffix(name) != ".czi" and not name.endswith(SUFFIXES)
        if has_other_readers or not opener.is_person:
            raise
        show_error(message(error))
        return NO_LAYERS
    finally:
        if viewer is not None and viewer.status == text:
            viewer.status = _READY
    if opened.notice:
        _notify(viewer, opened)
    takes_all = viewer is not None and (opener.is_person or _shows_patches(viewer))
    if takes_all and viewer is not None and len(files) > 1:
        _in_widget(viewer, lambda widget: widget.add_files(files[1:]))
    if opener.is_person and viewer is not None and viewer.layers and _is_set(name):
        outbox().post(partial(open_viewer, Path(name).name, opened.layers))
        return NO_LAYERS
    return opened.layers if viewer is None else name_by_file(viewer, opened.layers)


def read_file(name: str) -> Opened:
    """Read the first scene of a file, a scene that the name states, or a patch set; in any thread.

    All scenes of a file are read if the preferences say so.
    """
    file, scene = split_scene(name, None)
    if file.name.endswith(SUFFIXES):
        # It takes a while to import what reads tables, which an image does not need.
        from napari_patchset.plugin.layers.patch_set import patch_set_layers

        return Opened(patch_set_layers(file))
    if scene is not None:
        return Opened(scene_layers(source_ref(file, scene)))
    scenes = list_scenes(file)
    # napari looks through all plugins before it knows a preference: read only where it matters
    if 1 < len(scenes) <= MAX_SCENES and opens_all_scenes():
        return Opened(*all_scene_layers(source_ref(file), scenes))
    layers = scene_layers(source_ref(file, scenes[0].id))
    if len(scenes) == 1:
        return Opened(layers)
    return Opened(
        layers,
        f"This is {scenes[0].name}, one of {len(scenes)} scenes.",
    )


def read_sequence(paths: Sequence[str]) -> Opened:
    """Read files, or those in a folder, as one image along an axis that they do not have."""
    ref = open_sequence(paths)
    if ref.files is None:
        return read_file(ref.path)
    layers = scene_layers(ref)
    remember(ref)
    return Opened(
        layers,
        f"{len(ref.files)} files are one image along {ref.sequence}.",
        "Another axis…",
    )


class FileOpener:
    """Open one file at a time in a viewer, read in a background thread."""

    def __init__(self, viewer: Viewer) -> None:
        self.worker = Worker()
        self._viewer, self._text = viewer, ""
        self._is_beside = False
        """Whether what is read is a file of its own, beside those that are shown."""
        self.worker.returned.connect(self._on_read)
        self.worker.failed.connect(self._on_failed)

    def open(self, path: str | Path) -> None:
        """Read a file, then show it; replaces one that is still being read."""
        self._is_beside = True
        self._run(f"Opening {Path(path).name}…", read_file, str(path))

    def run(self, text: str, read: Callable[..., Opened], *args: Any) -> None:
        """Call `read(*args)`, then show the result; the status bar shows a text meanwhile."""
        self._is_beside = False
        self._run(text, read, *args)

    def _run(self, text: str, read: Callable[..., Opened], *args: Any) -> None:
        self._text = self._viewer.status = text
        self.worker.run(read, *args)

    def _on_read(self, opened: Opened) -> None:
        layers = opened.layers
        if self._is_beside:
            layers = name_by_file(self._viewer, layers)
        for data, options, kind in layers:
            self._viewer.add_layer(Layer.create(data, options, kind))
        if opened.notice:
            _notify(self._viewer, opened)
        self._end()

    def _on_failed(self, error: Exception) -> None:
        show_error(message(error))
        self._end()

    def _end(self) -> None:
        if self._viewer.status == self._text:
            self._viewer.status = _READY


def _notify(viewer: Viewer | None, opened: Opened) -> None:
    """Notify of what else a file has, with a button that shows it in the widget.

    Deferred until the layers are drawn; a notification costs as much as a layer. The widget, where
    it is docked, shows it already.
    """
    if viewer is None:
        show_info(opened.notice)
        return
    known = ref(viewer)  # napari keeps its notifications

    def offer() -> None:
        viewer = known()
        if viewer is not None and not is_closed(viewer) and not _shows_patches(viewer):
            show_offer(opened.notice, opened.button, lambda: _show_patches(known()))

    outbox().post(offer)


def _shows_patches(viewer: Viewer) -> bool:
    docked = viewer.window.dock_widgets.items()
    return any(name.startswith(_WIDGET) and widget.isVisible() for name, widget in docked)


def _show_patches(viewer: Viewer | None) -> Any:
    """Dock the widget, or raise it if it is docked; return it."""
    if viewer is None:
        return None
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, _WIDGET)
    dock.show()
    dock.raise_()
    return widget


def _in_widget(viewer: Viewer, act: Callable[[Any], None]) -> None:
    """Call a function with the widget, once the images that are being opened are there."""
    known = ref(viewer)

    def act_in_widget() -> None:
        viewer = known()
        if viewer is not None and not is_closed(viewer):
            act(_show_patches(viewer))

    outbox().post(act_in_widget)


def _read_outlines(name: str, opener: Opener) -> list[LayerTuple]:
    """Have the widget open outlines over the scene that it shows; for a script, return a layer.

    Raises
    ------
    ArgumentError
        If there is no image that they belong to.
    """
    viewer = opener.viewer
    if viewer is not None and opener.is_person:
        _in_widget(viewer, lambda widget: widget.open_outlines(name))
        return NO_LAYERS
    path = next(iter(shown_files(viewer)), None) if viewer is not None else None
    shown = find_scene_layers(viewer, path) if viewer is not None and path else None
    if shown is None:
        raise ArgumentError(f"{name} has outlines of an image; open that first.")
    space = ImageSpace.of(shown.layers[-1])
    layer = make_layer(Path(name).name, space, read_geojson(name), Path(name))
    data, options, kind = layer.as_layer_data_tuple()
    return [(data, options, kind)]


def _is_set(name: str) -> bool:
    return Path(name).name.endswith(SUFFIXES)


def _suffix(name: str) -> str:
    """Return the suffix of a file, whether or not a scene is written behind it."""
    return Path(re.sub(r"(\.zarr|\.ozx)@[^@]+$|@\d+$", r"\1", name)).suffix.lower()
