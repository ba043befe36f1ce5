"""The drawn grid as a guest in napari: what it does to the window, and what it leaves alone."""

import signal
import subprocess
import sys

LEAVE_OPEN = """
import napari, numpy as np
from napari_patchset.plugin.preferences import PLUGIN
viewer = napari.Viewer(show=False)
viewer.window.add_plugin_dock_widget(PLUGIN, "Patches")
viewer.add_image(np.ones((64, 64), np.uint8))
"""


def test_a_program_that_ends_with_its_window_open_ends_quietly() -> None:
    command = [sys.executable, "-c", LEAVE_OPEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode != -signal.SIGABRT, done.stderr
