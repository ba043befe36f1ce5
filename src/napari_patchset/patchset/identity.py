"""The identity of an opened patch set: the digest of its manifest.

An export with overwrite puts another set under the name of one that is open, here or in another
process, such as a worker with a pickled split. Each time that a file of the set is opened, the
manifest under that name must still be the one that was opened.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from napari_patchset.errors import UnreadableFileError
from napari_patchset.patchset.layout import DESCRIPTION, MANIFEST
from napari_patchset.patchset.manifest import digest_bytes, read_attributes
from napari_patchset.stacks.cache import FileStat


class SetIdentity:
    """The identity of an opened set; it pickles, and threads may share it.

    Parameters
    ----------
    path : Path
        The set.
    stats : dict of str to FileStat
        Size and time of each file that may hold the manifest, when it was opened.
    digest : str
        Of the manifest.
    """

    def __init__(self, path: Path, stats: dict[str, FileStat], digest: str) -> None:
        self._path, self._stats, self._digest = path, stats, digest

    @classmethod
    def from_path(cls, path: Path) -> Self:
        """Return the identity of the set that is at a path now."""
        stats = _find_stats(path)
        return cls(path, stats, _manifest_digest(path))

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Open a file of the set: its pixels, or an error of opening it, are of the opened set.

        Raise what `check_unchanged` raises.
        """
        try:
            yield
        finally:
            self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise UnreadableFileError if another set, or none, is at the path now.

        The manifest is read only if the size or time of its file differs.
        """
        stats = _find_stats(self._path)
        if stats == self._stats:
            return
        if _manifest_digest(self._path) != self._digest:
            what = "replaced by another patch set" if stats else "removed"
            raise UnreadableFileError(
                f"{self._path} was {what} after it was opened; open the patch set again."
            )
        self._stats = stats


def _find_stats(path: Path) -> dict[str, FileStat]:
    files = {name: path / name for name in ("zarr.json", DESCRIPTION)}
    return {name: FileStat.from_file(file) for name, file in files.items() if file.is_file()}


def _manifest_digest(path: Path) -> str:
    manifest = (read_attributes(path) or {}).get(MANIFEST)
    return digest_bytes(json.dumps(manifest, sort_keys=True).encode())
