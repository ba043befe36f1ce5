"""Sets of OME-TIFFs of every kind, with copies and links of their files, and ways to name them."""

import os
import shutil
from pathlib import Path

from hypothesis import strategies as st

from support.tiff_maker import write_ome_set

SET_KINDS = ("position", "channel", "time", "companion")


def write_sets(folder: Path, size: int = 32) -> Path:
    """Write a set of each kind, its copy, and links and lone copies of each of its files."""
    for kind in SET_KINDS:
        for i, path in enumerate(write_ome_set(folder / kind, kind, size=size)):
            links = folder / kind / "links"
            links.mkdir(exist_ok=True)
            (links / f"link {i}{path.suffix}").symlink_to(path)
            if kind != "channel" and path.suffix == ".tif":
                for name, put in (("lone", shutil.copy), ("hard", os.link)):
                    lone = folder / kind / f"{name} {i}"
                    lone.mkdir()
                    put(path, lone / path.name)
        copy = folder / kind / "copy"
        copy.mkdir()
        for path in (folder / kind).glob("*.*"):
            shutil.copy(path, copy)
    return folder


def whole_set(folder: Path, kind: str) -> list[Path]:
    """Return the files of a set."""
    return sorted(path for path in (folder / kind).iterdir() if path.is_file())


@st.composite
def names_of(draw: st.DrawFn, folder: Path, kind: str) -> list[Path]:
    """Name a set by one of its files, and more of them, copies and links, in any order."""
    whole = whole_set(folder, kind)
    others = sorted(path for path in (folder / kind).rglob("*.*") if path.parent.name != kind)
    more = st.lists(st.sampled_from([*whole, *others]), max_size=5)
    named: list[Path] = draw(st.permutations([draw(st.sampled_from(whole)), *draw(more)]))
    return named
