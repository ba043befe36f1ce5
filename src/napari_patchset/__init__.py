"""Turn microscope files into patch sets for training, in napari or headless."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_patchset.api import *  # noqa: F403  # its `__all__` is ours

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the library when one of its names is first asked for.

    The plugin and the command are in this package too and need less of it: to import all takes
    longer than to open a slide.
    """
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("napari_patchset.api"), name)


def __dir__() -> list[str]:
    names: list[str] = __getattr__("__all__")
    return [*globals(), *names]
