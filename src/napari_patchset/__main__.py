"""`python -m napari_patchset` is the command `patchset`."""

from napari_patchset.cli import main

if __name__ == "__main__":
    main()
