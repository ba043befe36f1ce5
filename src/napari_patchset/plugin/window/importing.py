"""What napari imports as soon as it needs it, imported before that, beside the window."""

import sys
from importlib import import_module
from threading import Thread

NEEDED_SOON = ("scipy.ndimage", "pandas")
"""By napari: the one for the first image, the other for the first layer of lines, as the grid is.

To import them takes a few tenths of a second, in which the window would stand still.
"""


def import_beside() -> None:
    """Import what is needed soon and is not there yet."""
    missing = [name for name in NEEDED_SOON if name not in sys.modules]
    if missing:
        Thread(target=_import, args=(missing,), name="patchset-imports").start()


def _import(names: list[str]) -> None:
    for name in names:
        import_module(name)
