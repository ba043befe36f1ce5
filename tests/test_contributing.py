"""CONTRIBUTING.md does what it says: its additions are made to a copy of the package, and hold."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documents import REPOSITORY

PAGE = REPOSITORY / "CONTRIBUTING.md"

CONTRACTS = (
    *("stack_contract.py", "strategies.py", "filters.py", "added.py"),
    "formats.py::test_what_was_cut_comes_back",  # the others take as long as all of this
)

ADDED = """
import numpy as np
import pytest

from support.documents import run_command
from napari_patchset import PatchSet


def test_the_command_takes_all_that_was_added(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.arange(2 * 32 * 40, dtype=np.uint16).reshape(2, 32, 40)
    np.save("image.npy", image)
    words = ["--strategy", "checkerboard", "--patch-size", "8,8", "--filter", "range>20"]
    words += ["--format", "npy", "--out", "a.patches"]
    run_command(["patchset", "export", "image.npy", *words], monkeypatch)
    patches = PatchSet("a.patches")["all"]
    np.testing.assert_array_equal(patches[1], image[:1, :8, 16:24])
    assert len(patches) == 2 * 10
"""

FEWER = """-    deadline=None,
+    deadline=None, max_examples=10,
"""


def steps() -> Iterator[tuple[str, str, str]]:
    """Give what the page adds: the path of a file, "python" for all of it or "diff", the text."""
    path = ""
    for name, language, text in re.findall(
        r"^`((?:src|tests)/[\w/.]+)`|^```(python|diff)\n(.*?)^```",
        PAGE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    ):
        path = name or path
        if language:
            yield path, language, text


def apply(path: Path, diff: str) -> None:
    """Change a file as a diff of one place says."""
    lines = diff.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+")
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{path}: there is no such place, or several:\n{old}"
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package and its tests, and make the additions."""
    leave_out = shutil.ignore_patterns("__pycache__")
    for name in ("src", "tests"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=leave_out)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_added.py").write_text(ADDED)
    apply(tmp_path / "tests" / "conftest.py", FEWER)
    for name, language, text in steps():
        path = tmp_path / name
        if language == "python":
            assert not path.exists(), name
            path.write_text(text, "utf-8")
        else:
            apply(path, text)
    return tmp_path


def test_the_contracts_hold_for_what_the_page_adds(copy: Path) -> None:
    files = [f"tests/test_{name}" for name in CONTRACTS]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-W", "default::DeprecationWarning"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(
        [*command, "-k", "npy or checkerboard or range or texts or command"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 40


def test_each_addition_is_one_file_or_class_and_one_table() -> None:
    package = [(path, kind) for path, kind, _ in steps() if path.startswith("src")]
    files = [path for path, kind in package if kind == "python"]
    tables = {path for path, kind in package if kind == "diff"}
    assert (len(files), len(tables)) == (3, 4)


def test_the_house_is_drawn_as_it_stands() -> None:
    page = PAGE.read_text("utf-8")
    drawn = runpy.run_path(str(REPOSITORY / "docs" / "house.py"))["filled"](page)
    assert drawn == page, "what imports what has changed: run docs/house.py"


def test_every_command_of_make_is_there() -> None:
    targets = set(re.findall(r"^make (\w+)", PAGE.read_text("utf-8"), re.MULTILINE))
    assert targets <= set(
        re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    )
