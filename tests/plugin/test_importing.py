"""What napari imports with its first layers is there before, and no window waited for it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_patchset.plugin import napari_compat as importing
from support.window import Window

LAYERS = """
import sys, numpy as np
from napari.layers import Image, Vectors
before = {*sys.modules}
Image(np.eye(4)), Vectors(np.zeros((1, 2, 2)))
print(*({*sys.modules} - before))
"""

SLOW = "import threading; where = threading.current_thread() is threading.main_thread()"


def test_the_list_names_what_napari_imports_with_its_first_layers() -> None:
    imported = subprocess.check_output([sys.executable, "-c", LAYERS], text=True).split()
    assert {*importing.NEEDED_SOON} <= {*imported}
    large = {"pandas", "scipy", "matplotlib", "dask", "skimage", "numba"}
    listed = {name.partition(".")[0] for name in importing.NEEDED_SOON}
    assert {name.partition(".")[0] for name in imported} & large == listed


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
