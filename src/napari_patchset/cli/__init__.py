"""The command `patchset`: every subcommand builds a plan and passes it on."""

from napari_patchset.cli.signals import handled

__all__ = ["main"]


def main() -> None:
    """Run the command.

    Exit code 0, 1 for bad input, 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM.
    """
    with handled():
        from napari_patchset.cli.app import run  # what it imports takes a third of a second

        run()
