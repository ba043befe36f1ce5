"""The real files, and what is known of them by unrelated readers."""

import json
import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.documents import REPOSITORY

MISSING = "the real files are not here: set PATCHSET_DATA or put them into ../shared/data"

REFUSED_CZI = {
    "czi_synth/no_subblocks.czi": "no subblocks",
    "czi_synth/truncated_subblock_data.czi": "past the end of the file",
}
"""Which CZIs must not be shown as whole, and why."""


def find_data() -> Path | None:
    """Find the folder of real files."""
    folder = Path(os.environ.get("PATCHSET_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if (folder / "truth.json").is_file() else None


def truths(kind: str, but: Container[str]) -> Sequence[Any]:
    """Return the entries of truth.json of one format ("czi", "tiff", ...) as parameters."""
    folder = find_data()
    if folder is None:
        return [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))]
    files = json.loads((folder / "truth.json").read_text())["files"]
    files = [entry for entry in files if entry["format"] == kind and entry["file"] not in but]
    return [pytest.param(entry, id=entry["file"]) for entry in files]
