"""File > Open Sample: the sample file, which is drawn on first use."""

from napari_patchset.plugin.layers.scene import LayerTuple
from napari_patchset.plugin.napari_compat import NO_SAMPLE_LAYERS, Opener, call_when_closing
from napari_patchset.plugin.reader import FileOpener, Opened, read_file, read_layers
from napari_patchset.sample import ensure_sample, sample_path

_DRAWING = "Drawing the sample, which takes some seconds the first time…"


def open_sample() -> list[LayerTuple]:
    """Open the first scene of the sample file.

    A sample that was chosen in the menu and is not drawn yet appears later: it is drawn in the
    background, and the status bar says so.
    """
    opener = Opener.find()
    if opener.viewer is None or not opener.is_person or sample_path().exists():
        return read_layers(str(ensure_sample()))
    file_opener = FileOpener(opener.viewer)
    call_when_closing(opener.viewer, lambda: file_opener.worker.release())
    file_opener.run(_DRAWING, _draw_and_read)
    return NO_SAMPLE_LAYERS


def _draw_and_read() -> Opened:
    return read_file(str(ensure_sample()))
