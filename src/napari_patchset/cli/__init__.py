"""The command `patchset`: thin, every subcommand builds a plan and hands it on."""

from napari_patchset.cli.app import main

__all__ = ["main"]
