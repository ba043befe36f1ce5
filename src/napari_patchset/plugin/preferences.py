"""What a person prefers: the plugin's page of napari's preferences."""

from collections.abc import Iterator
from threading import Lock
from typing import Any, NamedTuple

from napari_patchset.exporting.tile_buffer import DEFAULT_MEMORY
from napari_patchset.plugin.napari_compat import get_plugin_settings

PLUGIN = "napari-patchset"

_MEBIBYTE = 2**20

_READING = Lock()


def export_memory() -> int:
    """Give the bytes that an export takes."""
    return int(_export().memory) * _MEBIBYTE


def chosen_memory() -> int | None:
    """Give the bytes that an export takes; None if it is the default."""
    memory = export_memory()
    return None if memory == DEFAULT_MEMORY else memory


class Output(NamedTuple):
    """What the form begins with: a format, a name in `FORMATS`, and a codec."""

    format: str
    codec: str


def read_output() -> Iterator[Output]:
    """Read what the form begins with; beside the window."""
    export = _export()
    yield Output(str(export.format), str(export.compression))


def opens_all_scenes() -> bool:
    """Whether a file opens with all of its scenes."""
    return bool(_settings().opening.all_scenes)


def _export() -> Any:
    return _settings().export


def _settings() -> Any:
    """Give the page; the first time napari reads the manifests of all plugins for it."""
    with _READING:
        return get_plugin_settings(PLUGIN)
