"""Every example runs."""

import runpy
import warnings
from pathlib import Path

import pytest

from support.documents import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))

WARNING = ("careamics_prediction", "csbdeep_npz", "many_files", "n2v_torch")
"""The examples that warn: by what they import, or of a file that is skipped."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if path.stem in WARNING:
            warnings.simplefilter("ignore")
        runpy.run_path(str(path))
    assert list(tmp_path.glob("*.patches*"))
