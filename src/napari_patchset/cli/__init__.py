"""The command `patchset`: every subcommand builds a plan and passes it on."""

from napari_patchset.cli.app import main

__all__ = ["main"]
