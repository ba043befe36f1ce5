"""Which files in a folder are ours: only these are ever removed or replaced.

Every file that we write has a name that nothing else has there. A folder that holds anything else
is refused as a whole. Files that the system puts into any folder (litter) do not count, and go with
their folder.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_patchset.errors import ArgumentError, ExportError

_LITTER = re.compile(
    r"(.*/)?([.]DS_Store|Thumbs[.]db|desktop[.]ini|[.]nfs[0-9a-f]+)", re.IGNORECASE
)
"""Files of macOS's Finder, of Windows' Explorer, and of NFS for deleted files that are open."""


def is_litter(name: str) -> bool:
    """Return whether a file, by its name or path, is one that the system puts into any folder."""
    return _LITTER.fullmatch(name) is not None


@dataclass(frozen=True)
class OwnFiles:
    """What we write into a folder, by its path below that folder, with slashes."""

    kind: str
    """What the files are part of, like "an unfinished export"."""
    is_file: Callable[[str], object]
    """Returns whether a path is that of a file of ours; see `re.Pattern.fullmatch`."""
    is_folder: Callable[[str], object]
    """The same of a folder; only empty ones are removed."""

    def check_only(self, root: Path) -> None:
        """Raise ExportError if a folder holds anything that is not ours; a link never is."""
        if (name := self.find_other(root)) is not None:
            raise ExportError(
                f"{root} holds {name}, which is not part of {self.kind}: move it away, or "
                "choose another name."
            )

    def find_other(self, root: Path) -> str | None:
        """Return the path below a folder of something there that is not ours, or None."""
        for name, entry in _entries(root):
            if entry.is_symlink():
                is_own: object = False
            elif entry.is_dir():
                is_own = self.is_folder(name)
            else:
                is_own = self.is_file(name) or is_litter(name)
            if not is_own:
                return name
        return None

    def remove(self, root: Path, but: Collection[str]) -> None:
        """Remove our files from a folder, litter, and folders empty then, `but` some files."""
        if root.is_dir():
            self._remove(root, "", but)

    def _remove(self, folder: Path | str, prefix: str, but: Collection[str]) -> None:
        with os.scandir(folder) as scanned:
            entries = list(scanned)
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink():
                continue
            if entry.is_dir():
                self._remove(entry.path, f"{name}/", but)
                if self.is_folder(name) and not os.listdir(entry.path):
                    os.rmdir(entry.path)
            elif is_litter(name) and (not prefix or self.is_folder(prefix[:-1])):
                with suppress(OSError):  # the system may be using it, or have removed it itself
                    os.unlink(entry.path)
            elif self.is_file(name) and name not in but:
                with suppress(FileNotFoundError):  # a job that is dying may just have named a draft
                    os.unlink(entry.path)


def _entries(folder: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything below a folder, with its path below it; links are not followed.

    Another process may be working there, or have just ended.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")


def check_apart(folders: Collection[Path], inputs: Collection[str], kind: str = "") -> None:
    """Raise ArgumentError, naming both, if a folder is, holds or lies in an input of some kind.

    Links are resolved.
    """
    located = [(folder, real) for folder in folders for real in _locations(folder)]
    for path in dict.fromkeys(inputs):
        real_input = _resolved(path)
        for folder, real in located:
            if relation := _relation(real, real_input):
                raise ArgumentError(f"{folder} {relation} {kind}{path}; choose another name.")


def _relation(folder: str, other: str) -> str | None:
    if folder == other:
        return "is"
    if other.startswith(os.path.join(folder, "")):
        return "holds"
    return "lies in" if folder.startswith(os.path.join(other, "")) else None


def _locations(path: Path) -> set[str]:
    """Return the path of a name, and its target if it is a link."""
    own = os.path.join(_resolved(path.parent), os.path.normcase(path.name))
    return {own, _resolved(path)}


def _resolved(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))
