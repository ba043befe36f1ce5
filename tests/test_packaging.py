"""The package as it is installed."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_patchset
from napari_patchset import ExportPlan, Tiled, export
from support.czi_maker import MakeCzi

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_manifest_is_valid_and_every_command_resolves() -> None:
    manifest = PluginManifest.from_distribution("napari-patchset")
    manifest.validate_imports()
    assert {reader.command for reader in manifest.contributions.readers} == {
        "napari-patchset.get_reader"
    }
    assert manifest.contributions.widgets[0].display_name == "Patches"


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = REPOSITORY / "napari.yaml"
    if not top.is_symlink():
        pytest.skip("git has written the link as a file")
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
        "tools/display",
    }
    needed |= {"tests/support/czi_maker.py", "docs/patching.md", "examples/in_memory.py"}
    assert needed <= names


def test_the_readme_of_an_index_links_to_this_version_on_the_web(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = message_from_bytes(archive.read(name))
    links = re.findall(r"\]\((?!#)([^)]+)\)", metadata.get_payload())
    here = re.compile(f"{PROJECT['urls']['Repository']}/(raw|blob)/v{napari_patchset.__version__}/")
    paths = [here.sub("", link) for link in links if here.match(link)]
    assert len(paths) > 10
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [link for link in links if not link.startswith("https://")] == []
    assert {link.split("/")[5] for link in links if link.endswith(".png")} == {"raw"}


def test_the_version_is_that_of_the_changelog_and_of_the_citation() -> None:
    newest = re.search(
        r"^## (\S+) \((.+)\)", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert newest is not None
    expected = newest[1] + (".dev0" if newest[2] == "unreleased" else "")
    assert napari_patchset.__version__ == expected
    assert f"\nversion: {newest[1]}\n" in (REPOSITORY / "CITATION.cff").read_text("utf-8")


def test_the_home_of_the_project_is_the_same_everywhere() -> None:
    home = PROJECT["urls"]["Repository"]
    assert all(home in url for url in PROJECT["urls"].values() if "github.com" in url)
    for name in ("pyproject.toml", "mkdocs.yml", "README.md", "CONTRIBUTING.md"):
        text = (REPOSITORY / name).read_text("utf-8")
        assert set(re.findall(r"https://github\.com/[\w-]+/napari-patchset", text)) <= {home}, name


def test_public_names_are_documented() -> None:
    page = (REPOSITORY / "docs" / "reference" / "python.md").read_text("utf-8")
    assert sorted(re.findall(r"::: napari_patchset\.(\w+)", page)) == sorted(
        napari_patchset.__all__
    )
    for name in napari_patchset.__all__:
        assert getattr(napari_patchset, name).__doc__, name


def test_a_slide_is_opened_without_what_takes_long_to_import(czi: MakeCzi) -> None:
    opens = (
        "import sys; from napari_patchset.stacks.opening import list_scenes, open_stack; "
        "open_stack(sys.argv[1], list_scenes(sys.argv[1])[0].id).close(); "
        "print(*sys.modules)"
    )
    imported = subprocess.check_output([sys.executable, "-c", opens, str(czi())], text=True).split()
    assert "napari_patchset.stacks.opening" in imported
    unneeded = {"zarr", "pyarrow", "pylibCZIrw", "napari_patchset.exporting"}
    assert not unneeded & set(imported)


def test_a_set_is_opened_and_stitched_without_pandas(czi: MakeCzi, tmp_path: Path) -> None:
    """Arrow imports it on the least occasion: 35 MB, and a third of a second in each process."""
    plan = ExportPlan(sources=czi(), strategy=Tiled(size=32), out=tmp_path / "a.patches.zarr")
    made = export(plan)
    does = (
        "import sys; from napari_patchset import PatchSet, stitch; "
        "PatchSet(sys.argv[1])['all'][0]; stitch(sys.argv[1], sys.argv[1], sys.argv[2]); "
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", does, str(made.path), str(tmp_path / "a.ome.zarr")]
    imported = subprocess.check_output(command, text=True).split()
    assert {"pyarrow", "zarr"} <= set(imported)
    assert "pandas" not in imported


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    assert set(napari_patchset.__all__) <= set(dir(napari_patchset))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = napari_patchset.nothing
    with pytest.raises(AttributeError, match="attribute __nothing__"):
        _ = napari_patchset.__nothing__
