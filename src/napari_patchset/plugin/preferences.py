"""What a person prefers: the plugin's page of napari's preferences."""

from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-patchset"

_MEGABYTE = 2**20


def export_memory() -> int:
    """Give the bytes that an export takes."""
    return int(_export().memory) * _MEGABYTE


def compression() -> str:
    """Give the codec that the form begins with."""
    return str(_export().compression)


def default_format() -> str:
    """Give the format that the form begins with, a name in `FORMATS`."""
    return str(_export().format)


def _export() -> Any:
    return get_plugin_settings(PLUGIN).export
