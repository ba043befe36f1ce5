"""The package as it is installed."""

import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_patchset
from support.czi_maker import MakeCzi

REPOSITORY = Path(__file__).parents[1]


def test_the_manifest_is_valid_and_every_command_resolves() -> None:
    manifest = PluginManifest.from_distribution("napari-patchset")
    manifest.validate_imports()
    assert {reader.command for reader in manifest.contributions.readers} == {
        "napari-patchset.get_reader"
    }
    assert manifest.contributions.widgets[0].display_name == "Patches"


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = REPOSITORY / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve() == REPOSITORY / "src" / "napari_patchset" / "napari.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(REPOSITORY)], check=True, capture_output=True)
    return out


def test_the_wheel_holds_manifest_types_and_entry_points(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (n for n in names if n.endswith("entry_points.txt"))
        text = archive.read(entry_points).decode()
    assert {"napari_patchset/napari.yaml", "napari_patchset/py.typed"} <= set(names)
    assert "napari-patchset = napari_patchset:napari.yaml" in text
    assert "patchset = napari_patchset.cli:main" in text
    assert not any(name.startswith("tests") for name in names)


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "CONTRIBUTING.md",
        "tools/setup",
    }
    needed |= {"tests/support/czi_maker.py", "docs/patching.md", "examples/in_memory.py"}
    assert needed <= names


def test_a_release_links_to_the_web(tmp_path: Path) -> None:
    for name in ("README.md", "pyproject.toml", "src/napari_patchset/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    url = "https://example.org/a/b"
    runpy.run_path(str(REPOSITORY / "tools" / "release"))["prepare"](tmp_path, url)
    links = re.findall(r"\]\(([^)]+)\)", (tmp_path / "README.md").read_text("utf-8"))
    at = f"{url}/(raw|blob)/v{napari_patchset.__version__}/"
    paths = [re.sub(at, "", link) for link in links]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert {link.split("/")[5] for link in links if link.endswith(".png")} == {"raw"}
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["urls"]["Repository"] == url
    assert project["scripts"]


def test_public_names_are_documented() -> None:
    for name in napari_patchset.__all__:
        assert getattr(napari_patchset, name).__doc__, name


@pytest.mark.parametrize("unneeded", ["zarr", "pyarrow", "pylibCZIrw", "napari_patchset.api"])
def test_a_slide_is_opened_without_what_takes_long_to_import(czi: MakeCzi, unneeded: str) -> None:
    opens = (
        "import sys; from napari_patchset.stacks.opening import list_scenes, open_stack; "
        "open_stack(sys.argv[1], list_scenes(sys.argv[1])[0].id).close(); "
        "sys.exit(sys.argv[2] in sys.modules)"
    )
    command = [sys.executable, "-c", opens, str(czi()), unneeded]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_name_that_is_not_there_is_said_so() -> None:
    assert set(napari_patchset.__all__) <= set(dir(napari_patchset))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = napari_patchset.nothing
    with pytest.raises(AttributeError, match="no attribute '__nothing__'"):
        _ = napari_patchset.__nothing__
