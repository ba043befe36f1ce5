"""Every example runs."""

import runpy
import warnings
from pathlib import Path

import pytest

from support.documents import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if path.stem in ("csbdeep_npz", "n2v_torch"):  # what these import has warnings of its own
            warnings.simplefilter("default")
        runpy.run_path(str(path))
    assert list(tmp_path.glob("*.patches*"))
