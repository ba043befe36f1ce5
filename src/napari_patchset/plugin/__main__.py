"""`python -m napari_patchset.plugin`: napari on the sample, with the widget and its grid."""

import napari
from qtpy.QtCore import QTimer

from napari_patchset.plugin.napari_compat import scale_bar
from napari_patchset.plugin.preferences import PLUGIN
from napari_patchset.sample import ensure_sample


def main() -> None:
    """Open the window and stay until it is closed."""
    sample = ensure_sample(report=print)  # before there is a window that would wait for it
    viewer = napari.Viewer()
    viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
    viewer.open(str(sample), plugin=PLUGIN)
    scale_bar(viewer).visible = True
    QTimer.singleShot(0, viewer.reset_view)  # once the window has its size
    napari.run()


if __name__ == "__main__":
    main()
