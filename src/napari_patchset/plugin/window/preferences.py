"""What a person prefers: the plugin's page of napari's preferences."""

from typing import Any

from napari.settings import get_plugin_settings

from napari_patchset.export.cutting.holding import DEFAULT_MEMORY

PLUGIN = "napari-patchset"

_MEBIBYTE = 2**20


def export_memory() -> int:
    """Give the bytes that an export takes."""
    return int(_export().memory) * _MEBIBYTE


def chosen_memory() -> int | None:
    """Give the bytes that an export takes; None if it is the default."""
    memory = export_memory()
    return None if memory == DEFAULT_MEMORY else memory


def compression() -> str:
    """Give the codec that the form begins with."""
    return str(_export().compression)


def default_format() -> str:
    """Give the format that the form begins with, a name in `FORMATS`."""
    return str(_export().format)


def opens_all_scenes() -> bool:
    """Whether a file opens with all of its scenes."""
    return bool(get_plugin_settings(PLUGIN).opening.all_scenes)


def _export() -> Any:
    return get_plugin_settings(PLUGIN).export
