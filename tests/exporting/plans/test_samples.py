"""The samples sheet: which line is for which source, and what it does to a set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, PatchSet, SampleSheet, Split, Tiled, export, verify
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from support.zarr_maker import write_plate

FILES = tuple(f"{animal}_{i}.tif" for animal in "abcdef" for i in (0, 1))
SHEET = "source,scene,animal,treatment\n" + "".join(
    f"{name},,mouse {name[0]},{'drug' if name[0] in 'abc' else 'none'}\n" for name in FILES
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a file for each of two sections of six animals, and a sheet."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in FILES:
        tifffile.imwrite(name, random.integers(0, 999, (64, 48), np.uint16))
    Path("sheet.csv").write_text(SHEET)
    return tmp_path


def assigned(text: str, *sources: str, folder: Path | None = None) -> list[dict[str, str]]:
    path = (folder or Path()) / "sheet.csv"
    path.write_text(text, "utf-8")
    refs = [SourceRef.from_path(each) for each in sources]
    return [dict(ref.columns) for ref in SampleSheet.from_file(path).assign(refs)]


def test_a_line_names_a_source_by_path_or_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    for text in ("a.tif", "there/a.tif", str(there / "a.tif")):
        sheet = f"source,n\n{text},1\nother.tif,2\n"
        assert assigned(sheet, "there/a.tif") == [{"n": "1"}]
        assert assigned(sheet, str(there / "a.tif")) == [{"n": "1"}]
    assert assigned("source,n\na.tif,1\n", "there/a.tif", folder=there) == [{"n": "1"}]
    url = "https://host/plate.zarr"
    assert assigned(f"source,n\n{url},1\n", url) == [{"n": "1"}]


def test_a_line_may_name_a_source_as_the_window_does(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("source,animal\ncells,1\n")
    sheet, refs = SampleSheet.from_file(path), (SourceRef(path="layer:0f"),)
    assert dict(sheet.assign(refs, ["cells"])[0].columns) == {"animal": "1"}
    with pytest.raises(ArgumentError, match="no line for nuclei"):
        sheet.assign(refs, ["nuclei"])


def test_scenes_have_lines_of_their_own(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sheet = "source;scene;animal\na.czi;0;x\na.czi;1;\nb.czi@2;;z\n"
    expected = [{"animal": "x"}, {}, {"animal": "z"}]
    assert assigned(sheet, "a.czi@0", "a.czi@1", "b.czi@2") == expected
    assert assigned("source,animal\na.czi,x\n", "a.czi@0", "a.czi@1") == [{"animal": "x"}] * 2


def test_cells_are_read_as_spreadsheets_write_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    sheet = '\ufeff source , animal\r\na.tif,"mouse, ""old""\nand grey"\r\n\r\n,\r\n'
    assert assigned(sheet, "a.tif") == [{"animal": 'mouse, "old"\nand grey'}]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("source,animal\nb.tif,x\n", r"no line for a.tif \(1 of 1 sources lack one\)"),
        ("source,animal\na.tif,x\na.tif,y\n", "lines 2 and 3 are both for a.tif"),
        ("file,animal\na.tif,x\n", "has a column source.*its columns are file, animal"),
        ("", "its columns are none"),
        ("source,animal\n", "no line below the header"),
        ("source,animal,animal\na.tif,x,y\n", "two columns 'animal'"),
        ("source,,animal\na.tif,x,y\n", "column 2 has no name"),
        ("source,animal\na.tif\n", "line 2 has 1 cells, not 2"),
        ("source,animal\na.tif,x,y\n", "line 2 has 3 cells"),
        ("source,animal\n,x\n", "line 2 names no source"),
        ('source,animal\na.tif,"x\n', "line 2 is not CSV"),
    ],
)
def test_what_is_wrong_in_a_sheet_is_named(
    tmp_path: Path, monkeypatch: Any, text: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=error):
        assigned(text, "a.tif")


def test_columns_that_have_a_meaning_may_have_capitals(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("Source,SCENE,Split,Animal\na.czi,1,Train,x\n")
    sheet = SampleSheet.from_file(path)
    assert sheet.columns == ("split", "Animal")
    (row,) = sheet.rows
    assert (row.source, row.scene) == ("a.czi", "1")
    assert row.values == {"split": "Train", "Animal": "x"}


def test_a_sheet_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ArgumentError, match="not a CSV in UTF-8"):
        SampleSheet.from_file(tmp_path / "sheet.xlsx")
    with pytest.raises(FileNotFoundError):
        SampleSheet.from_file(tmp_path / "absent.csv")


def test_a_name_of_two_files_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"a.tif in line 2 is the name of .* and of .*b/a.tif"):
        assigned("source,animal\na.tif,x\n", "a/a.tif", "b/a.tif")


def test_values_stand_in_plan_table_and_manifest(study: Path) -> None:
    sheet = SampleSheet.from_file("sheet.csv")
    assert sheet.columns == ("animal", "treatment")
    plan = ExportPlan(
        sources=sheet.assign(map(SourceRef.from_path, FILES)),
        out="a.patches.zarr",
        strategy=Tiled(size=(16, 16)),
        split=Split(val=0.25, test=0.25, by="animal"),
    )
    assert ExportPlan.model_validate_json(plan.model_dump_json()) == plan
    with export(plan) as patches:
        rows = patches.table.select(["animal", "treatment", "split", "source_index"]).to_pylist()
        assert patches.manifest.schema_version == 2
        assert patches.manifest.sources[0].columns == {"animal": "mouse a", "treatment": "drug"}
        assert patches.splits == ("train", "val", "test")
    assert all(row["animal"] == f"mouse {FILES[row['source_index']][0]}" for row in rows)
    of_animal = {(row["animal"], row["split"]) for row in rows}
    assert len(of_animal) == 6
    assert {split for _, split in of_animal} == {"train", "val", "test"}
    assert not list(verify(plan.out))


def test_folds_are_views_of_the_training_patches(study: Path) -> None:
    sources = SampleSheet.from_file("sheet.csv").assign(map(SourceRef.from_path, FILES))
    plan = ExportPlan(
        sources=sources,
        out="a.patches.zarr",
        strategy=Tiled(size=(16, 16), overlap=(4, 4)),
        filters="std>p5",
        split=Split(folds=2, test=0.3, by="animal", stratify="treatment"),
    )
    with export(plan) as patches:
        table, manifest = patches.table.to_pylist(), patches.manifest
        assert set(patches) == {"train", "test"}
        trained = [row for row in table if row["split"] == "train"]
        for number in range(2):
            fold = patches.fold(number)
            assert set(fold) == {"train", "val"}
            inside = [row["fold"] == number for row in trained]
            np.testing.assert_array_equal(fold["val"][:], patches["train"][:][inside])
            np.testing.assert_array_equal(fold["train"][:], patches["train"][:][~np.array(inside)])
            assert len(fold["val"]) == manifest.folds[number]
            statistics = fold.statistics["image"][0]
            assert statistics.mean == pytest.approx(fold["train"][:].mean())
            (pair,) = fold.pairs("val")[0]
            np.testing.assert_array_equal(pair, fold["val"][0])
        for number in (-1, 2):
            with pytest.raises(ArgumentError, match=f"no fold {number}; its folds are 0 to 1"):
                patches.fold(number)
    assert all((row["fold"] is None) == (row["split"] != "train") for row in table)
    treated = {(row["treatment"], row["fold"]) for row in trained}
    assert treated == {(treatment, fold) for treatment in ("drug", "none") for fold in range(2)}
    assert not list(verify(plan.out))


def test_without_folds_there_is_none(study: Path) -> None:
    plan = ExportPlan(sources=FILES[0], out="a.patches.zarr", strategy=Tiled(size=(16, 16)))
    with export(plan) as patches, pytest.raises(ArgumentError, match="it has no folds"):
        patches.fold(0)


def test_a_column_with_a_name_of_the_table_is_refused_early(study: Path) -> None:
    for name in ("y_start", "std_Channel 0", "fold"):
        text = SHEET.replace("treatment", name, 1)
        Path("bad.csv").write_text(text)
        sources = SampleSheet.from_file("bad.csv").assign(map(SourceRef.from_path, FILES))
        plan = ExportPlan(
            sources=sources, out="a.patches.zarr", strategy=Tiled(size=(16, 16)), filters="std>5"
        )
        with pytest.raises(ArgumentError, match=f"has a column '{name}', as the table"):
            export(plan)


def test_a_plate_knows_its_wells(tmp_path: Path) -> None:
    wells = [f"{row}/{column}" for row in "AB" for column in (1, 2, 3)]
    plate = write_plate(tmp_path / "plate.zarr", "0.5", wells, 2)
    plan = ExportPlan(
        sources=[f"{plate}@{well}/{field}" for well in wells for field in (0, 1)],
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(16, 16)),
        split=Split(folds=3, by="well"),
    )
    with export(plan) as patches:
        rows = patches.table.select(["scene", "well", "fold"]).to_pylist()
        assert {row["well"] for row in rows} == {"A1", "A2", "A3", "B1", "B2", "B3"}
        assert all(row["scene"].replace("/", "").startswith(row["well"]) for row in rows)
        assert len({(row["well"], row["fold"]) for row in rows}) == 6
    assert not list(verify(plan.out))
    unsplit = plan.model_copy(update={"split": None, "out": str(tmp_path / "b.patches.zarr")})
    with export(unsplit) as patches:
        assert "well" not in patches.table.column_names


def test_the_command_takes_a_sheet(run: Any, study: Path) -> None:
    options = ("--samples", "sheet.csv", "--split-by", "animal", "--patch-size", "16,16")
    folds = ("--folds", 2, "--test", 0.3, "--stratify", "treatment", "--out", "a.patches.zarr")
    code, out, err = run("export", *FILES, *options, *folds)
    assert (code, err) == (0, "")
    assert "train in 2 folds" in out
    with PatchSet("a.patches.zarr") as patches:
        assert patches.n_folds == 2
        assert patches.manifest.sources[3].columns["animal"] == "mouse b"
    assert run("verify", "a.patches.zarr")[0] == 0
    code, _, err = run("export", *FILES, *options, "--out", "b.patches.zarr")
    assert code != 0
    assert "The split by animal needs a share" in err
    assert "animal is mouse a, mouse b" in err


STATED = dict(
    zip(FILES, ["Train", " VALID ", "test", "training", "Validation", "val"] * 2, strict=True)
)
PARTS = "source,part,animal\n" + "".join(f"{name},{part},x\n" for name, part in STATED.items())


@pytest.mark.parametrize("column", ["part", "split"])
def test_a_stated_split_is_taken_as_it_is(run: Any, study: Path, column: str) -> None:
    Path("sheet.csv").write_text(PARTS.replace("part", column))
    named = ("--split-by", "part") if column == "part" else ()
    options = ("--samples", "sheet.csv", *named, "--patch-size", "16,16")
    assert run("export", *FILES, *options, "--seed", 3, "--out", "a.patches.zarr")[0] == 0
    sheet = SampleSheet.from_file("sheet.csv")
    plan = ExportPlan(
        sources=sheet.assign(map(SourceRef.from_path, FILES)),
        out="b.patches.zarr",
        strategy=Tiled(size=(16, 16)),
        split=Split(by=column),
    )
    again = ExportPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    export(again).close()
    expected = ("train", "val", "test", "train", "val", "val") * 2
    for name in ("a.patches.zarr", "b.patches.zarr"):
        with PatchSet(name) as patches:
            rows = patches.table.select(["split", "source_index"]).to_pylist()
            assert patches.splits == ("train", "val", "test")
            assert patches.manifest.sources[1].columns[column] == "VALID"
        assert all(row["split"] == expected[row["source_index"]] for row in rows)
        assert run("verify", name)[0] == 0
    assert run("export", *FILES[1:3], *options, "--out", "c.patches.zarr")[0] != 0  # no train


def test_a_column_split_always_states_the_split(run: Any, study: Path) -> None:
    Path("sheet.csv").write_text(PARTS.replace("part", "split"))
    options = ("--samples", "sheet.csv", "--patch-size", "16,16", "--out", "a.patches.zarr")
    for more, error in (
        (("--val", 0.25), "so val (0.25) can't go with it; leave that out, or give the column"),
        (("--val", 0.25, "--split-by", "animal"), "which states the split: split by it, or give"),
    ):
        code, _, err = run("export", *FILES, *options, *more)
        assert code != 0
        assert error in err
    sources = SampleSheet.from_file("sheet.csv").assign(map(SourceRef.from_path, FILES))
    plan = ExportPlan(sources=sources, out="a.patches.zarr", strategy=Tiled(size=(16, 16)))
    with pytest.raises(ArgumentError, match="which states the split: split by it"):
        export(plan)
    assert run("export", *FILES, *options, "--for-prediction")[0] == 0
    with PatchSet("a.patches.zarr") as patches:
        assert patches.splits == ("all",)
        assert patches.manifest.sources[0].columns == {"animal": "x"}


@pytest.mark.parametrize(
    "more", [("--val", 0.25), ("--test", 0.25), ("--folds", 2), ("--stratify", "animal")]
)
def test_nothing_else_goes_with_a_stated_split(run: Any, study: Path, more: Any) -> None:
    Path("sheet.csv").write_text(PARTS)
    options = ("--samples", "sheet.csv", "--split-by", "part", "--patch-size", "16,16")
    code, _, err = run("export", *FILES, *options, *more, "--out", "a.patches.zarr")
    assert code != 0
    assert f"so {more[0][2:]} ({more[1]}) can't go with it" in err
    assert not Path("a.patches.zarr").exists()


def test_equal_pixels_stated_for_two_splits_are_refused_or_found(run: Any, study: Path) -> None:
    one, file_copy, pixel_copy, test = FILES[:4]
    Path(file_copy).write_bytes(Path(one).read_bytes())
    tifffile.imwrite(pixel_copy, tifffile.imread(one), compression="zlib")
    parts = f"source,part\n{one},train\n{file_copy},val\n{pixel_copy},val\n{test},test\n"
    Path("sheet.csv").write_text(parts)
    options = ("--samples", "sheet.csv", "--split-by", "part", "--patch-size", "16,16")
    code, _, err = run("export", *FILES[:4], *options, "--out", "a.patches.zarr")
    assert code != 0
    assert "for val, but they have the same pixels. Give both the same value" in err
    assert run("export", one, pixel_copy, test, *options, "--out", "a.patches.zarr")[0] == 0
    assert {each.name for each in verify("a.patches.zarr")} == {"same pixels in two splits"}
