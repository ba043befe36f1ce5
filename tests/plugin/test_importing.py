"""A script without a window, and what napari imports with its first layers for a window."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_patchset.plugin import napari_compat as importing
from support.window import SCENES, Window

SCRIPT = """
import sys, numpy as np
from napari.layers import Image, Vectors
before = {*sys.modules}
Image(np.eye(4)), Vectors(np.zeros((1, 2, 2)))
print(*({*sys.modules} - before))

from napari.components import ViewerModel
from napari.layers import Layer
from napari_patchset.plugin.reader import read_layers
viewer = ViewerModel()
for each in read_layers(sys.argv[1]):
    viewer.add_layer(Layer.create(*each))
viewer.dims.set_point(0, 1)
print(viewer.layers[0]._slice.image.raw.sum())
"""

SLOW = "import threading; where = threading.current_thread() is threading.main_thread()"


def test_a_script_imports_what_the_list_names_and_reads_at_once(file: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(file)]
    *_, imported, total = subprocess.check_output(command, text=True).splitlines()
    names = imported.split()
    assert {*importing.NEEDED_SOON} <= {*names}
    large = {"pandas", "scipy", "matplotlib", "dask", "skimage", "numba"}
    listed = {name.partition(".")[0] for name in importing.NEEDED_SOON}
    assert {name.partition(".")[0] for name in names} & large == listed
    assert int(total) == SCENES[0].pixels({"T": 1, "Z": 1, "C": 0}).sum()


def test_a_widget_has_it_imported_beside_the_window(
    make_napari_viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patchset_slow_module.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importing, "NEEDED_SOON", ("patchset_slow_module",))
    window = Window(make_napari_viewer(), qtbot)
    window.until(lambda: hasattr(sys.modules.get("patchset_slow_module"), "where"))
    assert not sys.modules.pop("patchset_slow_module").where
    window.close()


def test_a_widget_is_docked_without_what_takes_long_to_import() -> None:
    imports = "import sys, napari_patchset.plugin.widget; print(*sys.modules)"
    imported = {*subprocess.check_output([sys.executable, "-c", imports], text=True).split()}
    assert "napari_patchset.plugin.widget" in imported
    assert not imported & {"zarr", "yaozarrs", "numcodecs", "scipy.ndimage", "pandas"}
