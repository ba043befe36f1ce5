"""The plugin's page of napari's preferences."""

from threading import Lock
from typing import Any, NamedTuple

from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.plugin.napari_compat import get_plugin_settings

PLUGIN = "napari-patchset"

_MEBIBYTE = 2**20

_READING = Lock()


class OutputDefaults(NamedTuple):
    """Defaults of the form: a format, a name in `FORMATS`, and a codec."""

    format: str
    codec: str


def read_output_defaults() -> OutputDefaults:
    """Read the form's defaults; slow the first time, so call it in a background thread."""
    export = _page().export
    return OutputDefaults(str(export.format), str(export.compression))


def export_memory() -> int:
    """Return the bytes of memory that an export may take."""
    return int(_page().export.memory) * _MEBIBYTE


def chosen_memory() -> int | None:
    """Return the bytes of memory that an export may take, None for the default."""
    memory = export_memory()
    return None if memory == DEFAULT_MEMORY else memory


def opens_all_scenes() -> bool:
    """Return whether a file opens with all of its scenes."""
    return bool(_page().opening.all_scenes)


def _page() -> Any:
    """Return the page; the first time, napari reads the manifests of all plugins for it."""
    with _READING:
        return get_plugin_settings(PLUGIN)
