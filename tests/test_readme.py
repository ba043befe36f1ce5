"""The code on the pages runs as it stands, and their links lead somewhere."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_patchset import Tiled
from napari_patchset.patching.verdicts import judge
from napari_patchset.patchset.manifest import ArrayEntry, Manifest, Provenance
from napari_patchset.patchset.statistics import ChannelStatistics
from napari_patchset.patchset.table import patch_table
from support.czi_maker import SceneSpec, make_czi, metadata_xml
from support.documents import REPOSITORY, blocks, commands, run_page
from support.strategy_makers import source

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)#]*)#?([^)]*)\)")

RUN = [page for page in PAGES if page.name != "extending.md"]
"""tests/test_contributing.py runs the additions of docs/extending.md."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture
def _cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file like the sample into the current folder, where the pages expect it."""
    scenes = [
        SceneSpec(id=i, rect=(900 * i, 0, 320, 260), t=2, z=5, c=2, stamped=True) for i in (0, 1)
    ]
    xml = metadata_xml(
        {"X": 3.25e-7, "Y": 3.25e-7, "Z": 1e-6}, {"Channel:0": "DAPI", "Channel:1": "EGFP"}
    )
    make_czi(tmp_path / "cells.czi", scenes, xml=xml)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
@pytest.mark.usefixtures("_cells")
def test_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, monkeypatch)


@pytest.mark.usefixtures("_cells")
def test_the_summary_and_the_status_that_are_shown_are_what_the_command_prints(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    shown = [(kind, text) for kind, _, text in blocks(DOCS / "cluster.md")]
    at = next(i for i, (_, text) in enumerate(shown) if "patchset status" in text)
    plan, status = commands(shown[at][1])
    event = json.loads(run(*plan[1:], "--json")[1].splitlines()[-1])
    (summary,) = (json.loads(text) for kind, text in shown if kind == "json")
    assert {**summary, **dict.fromkeys(("time", "seconds", "path"))} == {
        **event,
        **dict.fromkeys(("time", "seconds", "path")),
    }
    _, out, _ = run(*status[1:])
    volatile = r", [\d.]+ kB, last written \S+"  # of the folder, which holds paths and dates
    found, expected = (re.sub(volatile, "", text) for text in (out, shown[at + 1][1]))
    assert found == expected
    assert re.search(volatile, out)
    assert re.search(volatile, shown[at + 1][1])


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, heading in LINK.findall(page.read_text("utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        if heading:
            assert heading in headings(target), f"{path}#{heading}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_readme_shows_commands_and_python() -> None:
    shown = list(blocks(PAGES[0]))
    assert sum(len(list(commands(text))) for kind, _, text in shown if kind == "sh") >= 4
    assert any(kind == "python" for kind, _, _ in shown)


def test_the_pictures_are_what_the_library_draws() -> None:
    for name, picture in runpy.run_path(str(DOCS / "pictures.py"))["pictures"]().items():
        shown = imagecodecs.png_decode((DOCS / "images" / f"{name}.png").read_bytes())
        assert np.array_equal(shown, picture), f"{name}.png: run docs/pictures.py"


def test_the_format_of_a_set_is_described_in_full() -> None:
    text = (DOCS / "patchset-format.md").read_text("utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    models = (Manifest, ArrayEntry, ChannelStatistics, Provenance)
    fields = {
        name for model in models for name, field in model.model_fields.items() if not field.exclude
    }
    assert fields <= documented
    one = source(1, 1, 3, 8, 8, axes="TCZYX", depth_axis="Z")
    grid = Tiled(size=(3, 8, 8)).plan([one])
    verdicts, nothing = judge(grid, [one]), np.zeros(1, np.int64)
    columns = patch_table([one], grid, verdicts, nothing, nothing.astype(np.uint32)).column_names
    repeated = {name for name in columns if re.fullmatch("[yx]_size|[yx]_.*_um", name)}
    assert set(columns) - repeated <= documented


def test_no_figure_of_performance_is_typed_by_hand() -> None:
    page, module = DOCS / "performance.md", runpy.run_path(str(DOCS / "performance.py"))
    measured = json.loads(module["MEASURED"].read_text("utf-8"))
    assert page.read_text("utf-8") == module["filled"](page.read_text("utf-8"), measured)
    assert len(measured["rows"]) == module["table"](measured).count("\n| ") - 1
