"""The split in the window: shares, folds, the samples sheet, and what is wrong with them."""

import csv
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QSlider

from napari_patchset import ExportPlan, SourceRef, Tiled, export, verify
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.splits.split import Split
from napari_patchset.plugin.canvas.summary import summarize
from napari_patchset.plugin.captions import patch_lines
from napari_patchset.plugin.form.form import RecipeForm
from napari_patchset.plugin.form.split import SplitSection
from napari_patchset.plugin.planning import plan_form
from napari_patchset.plugin.state import FormState
from napari_patchset.preview.categories import PatchCategory
from support.export_makers import digests
from support.window import Window
from support.zarr_maker import write_plate

ANIMALS = {"a0.tif": "1", "a1.tif": "1", "b0.tif": "2", "c0.tif": "3"}
DRUGS = {"1": "drug", "2": "none", "3": "none"}


@pytest.fixture
def section(qtbot: QtBot) -> SplitSection:
    section = SplitSection()
    qtbot.addWidget(section.native)
    return section


def write_sheet(path: Path, **columns: Sequence[str]) -> Path:
    """Write a sheet with a line for each image, and columns for them in their order."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", *columns])
        writer.writerows(zip(ANIMALS, *columns.values(), strict=True))
    return path


def animals(path: Path) -> Path:
    drugs = [DRUGS[animal] for animal in ANIMALS.values()]
    return write_sheet(path, animal=[*ANIMALS.values()], treatment=drugs)


def choose(section: SplitSection, path: Path, qtbot: QtBot, monkeypatch: object) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    section.samples.ask.native.click()
    qtbot.waitUntil(lambda: section.samples.reading.at_rest)


def visible(section: SplitSection) -> set[str]:
    names = ("val", "test", "folds", "by", "samples", "stratify", "seed", "fold", "problem")
    section.native.show()
    return {name for name in names if getattr(section, name).visible}


@pytest.mark.parametrize(
    "split",
    [
        Split(folds=3, test=0.1, by="animal", seed=2, stratify="treatment"),
        Split(val=0.25, test=0.1, by="well"),
        Split(test=0.2),
        Split(by="part", seed=3),
        Split(by="split"),
        Split(val=0.125, by="annotation"),
    ],
)
def test_a_loaded_split_is_that_of_the_form(split: Split, section: SplitSection) -> None:
    section.load(Split(folds=5, stratify="other"))
    section.load(split)
    assert section.value == split
    section.load(None)
    assert (section.value, section.summary) == (None, "none")


def test_a_newcomer_sees_shares_folds_and_the_sheet(section: SplitSection) -> None:
    assert visible(section) == {"val", "test", "folds", "samples"}
    assert (section.value, section.summary) == (None, "none")
    section.val.value = 20
    assert visible(section) == {"val", "test", "folds", "by", "samples", "seed"}
    assert list(section.by.choices) == ["auto", "file", "scene", "block"]
    section.offer("annotation", is_there=True)
    section.offer("well", is_there=True)
    assert {*section.by.choices[4:]} == {"well", "annotation"}
    section.by.value = "annotation"
    section.offer("annotation", is_there=False)  # which is an error, and no other split
    section.offer("well", is_there=False)
    assert section.by.choices[-1] == "annotation"


def test_folds_take_the_place_of_a_share_and_give_it_back(section: SplitSection) -> None:
    section.val.value, section.test.value = 20, 10
    assert section.value == Split(val=0.2, test=0.1)
    section.folds.value = 5
    assert section.value == Split(folds=5, test=0.1)
    assert visible(section) == {"val", "test", "folds", "by", "samples", "seed", "fold"}
    assert not section.val.enabled
    assert (section.fold.min, section.fold.max, section.shown_fold) == (0, 4, 0)
    section.fold.value = 4
    section.folds.value = 3
    assert section.shown_fold == 2
    section.folds.value = 0
    assert section.value == Split(val=0.2, test=0.1)


def test_shares_that_leave_nothing_to_train_are_an_error(section: SplitSection) -> None:
    section.val.value, section.test.value = 60, 50
    with pytest.raises(
        ArgumentError, match=r"0.6 of the patches for validation and 0.5 for a test"
    ):
        _ = section.value


@pytest.mark.parametrize(("fraction", "shown"), [(0.125, 12.5), (0.0012345, 0.12), (0.2, 20)])
def test_a_loaded_share_stays_exact(section: SplitSection, fraction: float, shown: float) -> None:
    for name in ("val", "test"):
        section.load(Split(**{name: fraction}))
        field = getattr(section, name)
        assert field.value == shown
        assert section.value == Split(**{name: fraction})
        field.value = 30
        assert section.value == Split(**{name: 0.3})


def test_a_sheet_offers_its_columns(
    section: SplitSection, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(section, animals(tmp_path / "animals.csv"), qtbot, monkeypatch)
    assert section.samples.choice.current_choice == "animals.csv"
    assert section.samples.path == str(tmp_path / "animals.csv")
    assert section.value is None
    section.by.value = "animal"
    assert section.summary == "by animal"
    with pytest.raises(ArgumentError, match=r"set a share .*, or folds, to split by animal"):
        _ = section.value
    section.val.value, section.stratify.value = 30, "treatment"
    assert section.value == Split(val=0.3, by="animal", stratify="treatment")
    assert section.summary == "30 % for validation, by animal"
    refs = [SourceRef(path=str(tmp_path / name)) for name in ANIMALS]
    assigned = section.samples.assign(tuple(refs), lambda: list(ANIMALS))
    assert dict(assigned[2].columns) == {"animal": "2", "treatment": "none"}
    section.samples.choice.value = None  # which changes nothing else: that would be another split
    assert section.value == Split(val=0.3, by="animal", stratify="treatment")
    assert section.samples.assign(assigned, lambda: list(ANIMALS)) == tuple(refs)


def test_a_sheet_that_states_the_split_needs_no_shares(
    section: SplitSection, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    section.val.value, section.by.value = 20, "file"
    parts = ["train", "val", "test", "Training"]
    choose(section, write_sheet(tmp_path / "parts.csv", part=parts), qtbot, monkeypatch)
    assert section.value == Split(val=0.2, by="file")
    section.by.value = "part"
    assert visible(section) == {"val", "test", "folds", "by", "samples"}
    assert not any(field.enabled for field in (section.val, section.test, section.folds))
    assert (section.value, section.summary) == (Split(by="part"), "as the column part states")
    section.by.value = "file"
    assert section.value == Split(val=0.2, by="file")
    choose(section, write_sheet(tmp_path / "split.csv", split=parts), qtbot, monkeypatch)
    assert (section.value, section.by.choices) == (Split(by="split"), ("split",))
    section.samples.choice.value = None
    assert section.value == Split(val=0.2, by="file")


def test_a_form_that_hears_of_a_sheet_reads_the_split_that_it_states(
    tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = RecipeForm()
    qtbot.addWidget(form.more)
    qtbot.addWidget(form.patches.native)
    section, title, heard = form.split, form.folds["Split"].button, list[object]()
    section.test.value = 10
    form.changed.connect(lambda: heard.append((form.recipe(None).split, title.text())))
    parts = ["train", "val", "test", "train"]
    choose(section, write_sheet(tmp_path / "split.csv", split=parts), qtbot, monkeypatch)
    stated = (Split(by="split"), "Split: as the column split states")
    assert heard[-1] == stated
    qtbot.keyClick(section.samples.choice.native, Qt.Key.Key_Home)
    assert heard[-1] == (Split(test=0.1), "Split: 10 % for a test")
    qtbot.keyClick(section.samples.choice.native, Qt.Key.Key_Down)
    assert heard[-1] == stated


def test_a_column_that_is_called_as_a_unit_is_no_choice(section: SplitSection) -> None:
    refs = tuple(
        SourceRef(path=part, columns={"file": part, "well": part}) for part in ("train", "val")
    )
    section.samples.load(refs)
    assert list(section.by.choices) == ["auto", "file", "scene", "block", "well"]
    section.by.value = "file"
    assert section.value is None
    section.val.value, section.by.value = 20, "well"
    assert section.value == Split(val=0.2, by="well")


def test_a_file_that_is_no_sheet_is_told_in_place(
    section: SplitSection, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("file,animal\na.tif,1\n")
    choose(section, bad, qtbot, monkeypatch)
    assert "bad.csv: a samples sheet has a column source" in section.problem.value
    assert "problem" in visible(section)
    assert section.samples.path == ""
    bad.write_text("source,animal\na.tif,1\n")
    choose(section, bad, qtbot, monkeypatch)
    assert "problem" not in visible(section)
    assert [*section.samples.columns] == ["animal"]
    choose(section, tmp_path / "absent.csv", qtbot, monkeypatch)
    assert "absent.csv: no such file" in section.problem.value
    section.samples.choice.value = None
    assert "problem" not in visible(section)


def test_the_values_of_a_loaded_plan_are_a_choice(section: SplitSection) -> None:
    refs = (SourceRef(path="a", columns={"animal": "1", "split": "train"}),)
    section.load(Split(by="split"))
    section.samples.load(refs)
    assert section.samples.choice.current_choice == "as in the loaded plan"
    assert (section.value, section.samples.path) == (Split(by="split"), "")
    assert section.samples.assign(refs, lambda: ["a"]) == refs
    section.samples.choice.value = None
    assert (section.value, section.samples.assign(refs, lambda: ["a"])[0].columns) == (None, ())


def test_each_fold_validates_in_the_preview(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
    refs = (SourceRef(path=str(tmp_path / "a.tif")),)
    split = Split(folds=3, test=0.2, by="block")
    recipe = {"strategy": Tiled(size=(8, 8)), "split": split}
    plan = ExportPlan(sources=refs, out=tmp_path / "a.patches.zarr", **recipe)
    planned = plan_form(FormState(refs, 0, plan.recipe))
    with export(plan) as patches:
        for number in range(3):
            planned = plan_form(FormState(refs, 0, plan.recipe, shown_fold=number), planned)
            fold = patches.fold(number)
            n = np.bincount(planned.category, minlength=len(PatchCategory)).tolist()
            assert n[: PatchCategory.REJECTED] == [*map(len, fold.values()), len(patches["test"])]
            rows = np.flatnonzero(planned.category == PatchCategory.VAL)
            assert f": train, fold {number}" in patch_lines(planned, int(rows[0]))[0]
            assert f"{n[PatchCategory.VAL]}&nbsp;val of fold {number}" in summarize(planned)


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    for name in ANIMALS:
        tifffile.imwrite(tmp_path / name, random.integers(0, 999, (96, 64), np.uint16))
    return [tmp_path / name for name in ANIMALS]


Choose = Callable[[Any, Path], str]


@pytest.fixture
def choose_file(window: Window, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Click a button, choose a file in the dialog that it opens, and return where that began."""

    def choose_file(button: Any, path: Path) -> str:
        asked = ""

        def answer(parent: object, title: str, start: str, kinds: str) -> tuple[str, str]:
            nonlocal asked
            asked = start
            return str(path), ""

        for name in ("getOpenFileName", "getSaveFileName"):
            monkeypatch.setattr(QFileDialog, name, answer)
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([str(path)], ""))
        trigger = getattr(button, "trigger", None) or (lambda: window.click(button))
        trigger()
        window.settle()
        return asked

    return choose_file


@pytest.mark.gui
def test_a_sheet_is_mended_split_by_shown_in_folds_exported_copied_and_loaded(
    window: Window, study: list[Path], tmp_path: Path, choose_file: Choose, run: Any
) -> None:
    first, *others = study
    window.open(first)
    split, export_section = window.widget.form.split, window.widget.export
    window.unfold("Split")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("source,animal\nother.tif,1\n")
    assert choose_file(split.samples.ask, sheet) == str(first.parent)
    assert "sheet.csv: there is no line for a0.tif (1 of 1" in window.summary
    sheet.write_text("source,animal\na0.tif,1\n")
    choose_file(split.samples.ask, sheet)
    assert dict(window.state.source.columns) == {"animal": "1"}

    for other in others:
        choose_file(window.widget.source_control.extra_files.add, other)
    sheet = animals(tmp_path / "animals.csv")
    choose_file(split.samples.ask, sheet)
    window.choose(split.by, "animal")
    assert "Split: set a share for validation or a test, or folds" in window.summary
    assert not export_section.start.enabled
    window.choose(split.folds, 4)
    assert "into 4 folds needs patches in at least 4 groups" in window.summary
    assert split.problem.value == window.summary  # and in its place
    assert split.problem.visible
    window.choose(split.folds, 3)
    assert not split.problem.visible
    assert "val of fold 0" in window.summary
    drawn = np.asarray(window.grid.edge_color).tobytes()
    window.qtbot.keyClick(split.fold.native.findChild(QSlider), Qt.Key.Key_Right)
    window.settle()
    assert "val of fold 1" in window.summary
    assert np.asarray(window.grid.edge_color).tobytes() != drawn
    made = tmp_path / "window.patches.zarr"
    window.export_to(made).close()
    split.fold.value = 2
    window.settle()
    assert export_section.status.value == "Saved window.patches.zarr"
    assert not list(verify(made))
    plan = window.state.plan()
    export_section.copy_command.trigger()
    window.settle()
    words = shlex.split(QApplication.clipboard().text())
    assert words[-2:] == ["--samples", str(sheet)]
    copied = tmp_path / "command.patches.zarr"
    words[words.index("--out") + 1] = str(copied)
    assert run(*words[1:])[0] == 0
    assert digests(copied) == digests(made)
    saved = tmp_path / "plan.json"
    choose_file(export_section.save_plan, saved)
    choose_file(export_section.load_plan, saved)
    assert window.state.plan() == plan.resolved()
    assert split.samples.choice.current_choice == "as in the loaded plan"
    assert "val of fold 2" in window.summary
    export_section.copy_command.trigger()
    window.settle()
    assert export_section.status.value.startswith("A command can't say: the samples sheet. Save")


@pytest.mark.gui
def test_a_plate_is_split_by_well(window: Window, tmp_path: Path) -> None:
    wells = [f"{row}/{column}" for row in "AB" for column in (1, 2, 3)]
    plate = write_plate(tmp_path / "plate.zarr", "0.5", wells, 2)
    window.open(plate)
    window.tick(window.widget.source_control.extra_files.all_scenes.native)
    window.type_size(10, 10)
    window.unfold("Split")
    split = window.widget.form.split
    window.choose(split.folds, 3)
    hint = "Fields of one well are in several folds"
    assert hint in window.summary
    window.choose(split.by, "well")
    assert "val of fold 0" in window.summary
    assert hint not in window.summary
    made = tmp_path / "a.patches.zarr"
    with window.export_to(made) as patches:
        rows = patches.table.select(["well", "fold"]).to_pylist()
        assert len({(row["well"], row["fold"]) for row in rows}) == 6
    assert not list(verify(made))
