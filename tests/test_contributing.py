"""CONTRIBUTING.md and docs/extending.md are true: modules exist, and the additions work."""

import importlib
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from support.documents import REPOSITORY

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
EXTENDING = (REPOSITORY / "docs" / "extending.md").read_text("utf-8")
PACKAGE = REPOSITORY / "src" / "napari_patchset"
OURS = ("napari_patchset", "support")


def steps() -> Iterator[tuple[str, str, str]]:
    """Yield each addition: the path of a file, "python" for the whole file or "diff", the text."""
    path = ""
    for name, language, text in re.findall(
        r"^`((?:src|tests)/[\w/.]+)`|^```(python|diff)\n(.*?)^```",
        EXTENDING,
        re.DOTALL | re.MULTILINE,
    ):
        path = name or path
        if language:
            yield path, language, text


def apply(path: Path, diff: str) -> None:
    """Change one place of a file."""
    lines = diff.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+")
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{path}: no such place, or several:\n{old}"
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copy the package and its tests, make the additions, and import from the copy."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("src", "tests"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "plugin")
        )
    for name, language, text in steps():
        path = folder / name
        if language == "python":
            assert not path.exists(), name
            path.write_text(text, "utf-8")
        else:
            apply(path, text)
    originals = {name: sys.modules.pop(name) for name in list(sys.modules) if is_ours(name)}
    sys.path[:0] = [str(folder / "src"), str(folder / "tests")]
    yield folder
    del sys.path[:2]
    for name in filter(is_ours, list(sys.modules)):
        del sys.modules[name]
    sys.modules.update(originals)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in OURS


def load(path: Path) -> ModuleType:
    """Import a module of the copy's tests."""
    spec = importlib.util.spec_from_file_location(f"copied_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_contract(path: Path, **arguments: Any) -> int:
    """Call the tests of a module that run over these arguments; return their number."""
    tests = [test for name, test in vars(load(path)).items() if name.startswith("test_")]
    tests = [test for test in tests if runs_over(test, arguments)]
    for test in tests:
        test(**arguments)
    return len(tests)


def runs_over(test: Any, arguments: dict[str, Any]) -> bool:
    marks = (mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize")
    values = dict(mark.args for mark in marks)
    is_among = (arguments[name] in values.get(name, (arguments[name],)) for name in arguments)
    return set(inspect.signature(test).parameters) == set(arguments) and all(is_among)


def test_the_contract_of_stacks_holds_for_the_added_one(copy: Path, tmp_path: Path) -> None:
    case = importlib.import_module("support.stack_makers").npy(tmp_path)
    with case.stack:
        assert run_contract(copy / "tests/stacks/test_contract.py", case=case) >= 8


def test_the_contract_of_strategies_holds_for_the_added_one(copy: Path) -> None:
    path = copy / "tests/patching/strategies/test_contract.py"
    assert run_contract(path, name="checkerboard") >= 8


def test_the_contract_of_filters_holds_for_the_added_one(copy: Path) -> None:
    assert run_contract(copy / "tests/patching/filters/test_patch_filters.py", text="range>5") >= 4


@pytest.mark.usefixtures("copy")
def test_the_added_format_holds_the_same_patches_as_a_zarr(tmp_path: Path) -> None:
    package = importlib.import_module("napari_patchset")
    image = np.random.default_rng(0).integers(0, 4000, (2, 3, 70, 80), np.uint16)
    np.save(tmp_path / "image.npy", image)
    sets = {}
    for form, suffix in (("zarr", ".patches.zarr"), ("npy", ".patches")):
        source = package.SourceRef(
            path=str(tmp_path / "image.npy"),
            target=package.ImageRef(path=str(tmp_path / "image.npy")),
        )
        plan = package.ExportPlan(
            sources=[source],
            strategy=package.Tiled(size=(16, 16)),
            split=package.Split(val=0.3, by="block"),
            format=form,
            out=tmp_path / f"{form}{suffix}",
        )
        sets[form] = package.export(plan)
    with closing(sets["zarr"]) as expected, closing(sets["npy"]) as made:
        assert list(made) == list(expected)
        for name in made:
            np.testing.assert_array_equal(made[name][:], expected[name][:])
    assert not list(package.verify(tmp_path / "npy.patches"))


@pytest.mark.usefixtures("copy")
def test_the_command_takes_everything_that_was_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.arange(2 * 32 * 40, dtype=np.uint16).reshape(2, 32, 40)
    np.save("image.npy", image)
    words = ["--strategy", "checkerboard", "--patch-size", "8,8", "--filter", "range>20"]
    words += ["--format", "npy", "--out", "a.patches"]
    documents = importlib.import_module("support.documents")
    documents.run_command(["patchset", "export", "image.npy", *words], monkeypatch)
    patches = importlib.import_module("napari_patchset").PatchSet("a.patches")["all"]
    np.testing.assert_array_equal(patches[1], image[:1, :8, 16:24])
    assert len(patches) == 2 * 10


def test_each_addition_is_one_class_and_one_table() -> None:
    package = [(path, kind) for path, kind, _ in steps() if path.startswith("src")]
    files = [path for path, kind in package if kind == "python"]
    tables = {path for path, kind in package if kind == "diff"}
    assert (len(files), len(tables)) == (3, 4)


def test_every_command_of_make_is_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^make (\w+)", CONTRIBUTING, re.MULTILINE))
    assert targets
    assert targets <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_every_module_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", CONTRIBUTING))
    assert len(named) > 30
    assert [n for n in named if not (PACKAGE / n).exists() and not (REPOSITORY / n).exists()] == []


def test_every_package_is_described() -> None:
    packages = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    undescribed = [str(p) for p in packages if p.parts and f"`{p.as_posix()}/`" not in CONTRIBUTING]
    assert not undescribed
