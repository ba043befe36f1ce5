"""A plan as words: options make a plan, override a saved one, and can be written back."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from napari_patchset import ExportPlan, Fixed, Random, Tiled, Whole
from napari_patchset.cli.app import app
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.plans.command_line import command_line, make_plan, without_option
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.options import (
    OPTIONS,
    format_bytes,
    format_values,
    parse_bytes,
)
from napari_patchset.patching.axis_ranges import format_ranges
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.lengths import LengthPerAxis, Micrometres
from napari_patchset.patching.regions import Rectangle
from napari_patchset.patching.splits.split import Split
from napari_patchset.source import SourceInfo
from support.czi_maker import MakeCzi, SceneSpec

SCENES = (SceneSpec(id=0, rect=(0, 0, 64, 48), c=2), SceneSpec(id=1, rect=(300, 0, 40, 40), c=2))
OUT = "a.patches.zarr"

ends = st.one_of(st.none(), st.integers(-5, 40))
names = st.text("abcXYZ 0123-", min_size=1).map(str.strip).filter(bool)


lengths = st.integers(1, 4096) | st.integers(1, 999).map(lambda n: Micrometres.parse(f"{n / 8}um"))


@given(st.lists(lengths, min_size=1).map(tuple))
def test_lengths_come_back(numbers: tuple[int | Micrometres, ...]) -> None:
    found = TypeAdapter(LengthPerAxis).validate_python(format_values(numbers))
    assert found == numbers
    assert list(map(type, found)) == list(map(type, numbers))


@given(st.integers(0, 2**20))
def test_sizes_come_back(n: int) -> None:
    assert parse_bytes(format_bytes(n * 2**20)) == n * 2**20


@pytest.mark.parametrize(
    ("text", "n"),
    [("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("2gib", 2**31), ("64 kB", 64_000)],
)
def test_sizes_have_units(text: str, n: int) -> None:
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["512", "-1MB", "1TB", "much", "1e3MB", "", "1..5GB"])
def test_no_size_without_a_unit(text: str) -> None:
    with pytest.raises(ArgumentError, match=f"--memory is '{text}'; give a number and one of kB, "):
        parse_bytes(text)


@given(st.lists(st.one_of(st.integers(0, 9), names.filter(lambda n: not n.isdecimal()))))
def test_channels_come_back(channels: list[int | str]) -> None:
    if channels:
        text = format_values(channels)
        plan = ExportPlan(sources="a.czi", strategy=Whole(), out=OUT, channels=text)
        assert plan.channels == tuple(channels)


@given(st.dictionaries(st.sampled_from("ZTSRI"), st.tuples(ends, ends), min_size=1))
def test_ranges_come_back(ranges: dict[str, tuple[int | None, int | None]]) -> None:
    ranges = {axis: pair for axis, pair in ranges.items() if None in pair or pair[0] < pair[1]}
    assert not ranges or Whole(select=format_ranges(ranges)).select == ranges


def test_a_value_may_be_its_text() -> None:
    text = ExportPlan(
        sources="a.czi",
        strategy=Tiled(size=64, overlap="16", select="Z=5:25,t=:10"),
        channels="0,DAPI",
        filters=["std>5", parse_filter("mean<otsu")],
        split=0.2,
        out=OUT,
    )
    assert text == ExportPlan(
        sources=[SourceRef(path="a.czi")],
        strategy=Tiled(size=(64, 64), overlap=(16, 16), select={"Z": (5, 25), "T": (None, 10)}),
        channels=(0, "DAPI"),
        filters=(parse_filter("std>5"), parse_filter("mean<otsu")),
        split=Split(val=0.2),
        out=OUT,
    )
    assert ExportPlan.model_validate_json(text.model_dump_json()) == text
    one = text.model_copy(update={"filters": text.filters[:1]})
    assert ExportPlan(**{**dict(text), "filters": "std>5"}) == one


def test_one_number_is_for_y_and_x() -> None:
    assert Tiled(size="8,64,64", overlap=16).overlap == (0, 16, 16)
    assert Random(size="32", count=1).size == (32, 32)
    info = SourceInfo(
        key="", axes="ZYX", shape=(9, 99, 99), depth_axis="Z", dtype="uint8", channels=("",)
    )
    with pytest.raises(ArgumentError, match="has 2 dimensions, but the image is ZYX; give 3"):
        Tiled(size=64).plan([info])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"strategy": {"kind": "tiled", "size": "8;8"}},
            "'8;8' is not a number of pixels; write one",
        ),
        ({"strategy": {"kind": "whole", "select": "T"}}, "'T' is not a selection; write ranges"),
        ({"filters": "sharp"}, "'sharp' is not a filter; write it like std>5"),
        ({"split": 2}, "less than 1"),
        ({"strategy": Tiled(size=8), "format": "png"}, "there is no format 'png'"),
    ],
)
def test_a_text_that_means_nothing_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ExportPlan(**{"sources": "a.czi", "strategy": Whole(), "out": OUT} | fields)


def test_every_option_says_what_it_is() -> None:
    for option in OPTIONS:
        assert len(option.help) > 10
        assert option.metavar or option.choices or option.type is bool, option.name
        assert option.help_text.endswith(".")
        assert f"({option.default})" in option.help_text or not option.default


PLANS: list[dict[str, Any]] = [
    {"strategy": Tiled(size=(64, 64))},
    {"strategy": Tiled(size=(16, 24), overlap=(4, 0), edge="balance"), "channels": (1, "EGFP 2")},
    {"strategy": Random(size=(8, 8), count=5, seed=3), "codec": "zstd", "dtype": "float32"},
    {"strategy": {"kind": "stratified", "size": (8, 8), "select": {"T": (None, 3), "Z": (1, 2)}}},
    {
        "strategy": {
            "kind": "balanced",
            "size": (8, 8),
            "count": 9,
            "classes": {"3": 0.5, "a, b = c": 2, 'the "d"': 1e-9},
        }
    },
    {"strategy": {"kind": "whole"}, "format": "tiff", "out": "a.patches", "keep_fraction": 0.25},
    {"strategy": Tiled(size=(4, 8, 8)), "depth_axis": "Z", "split": Split(val=0.2, by="block")},
    {"strategy": Random(size=(8, 8), count=5, seed=3), "split": Split(val=0.1, seed=3)},
    {
        "strategy": Tiled(size=(8, 8)),
        "filters": (parse_filter("std[DAPI,1]>p10"), parse_filter("5<max<otsu")),
        "dedupe": 0,
    },
]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ExportPlan]:
    """Read a command line as the command does, up to the plan."""
    plans = []

    def stop(plan: ExportPlan, *_: object, **__: object) -> None:
        plans.append(plan)
        raise ExportError

    def parsed(line: str) -> ExportPlan:
        with pytest.raises(ExportError):
            app(shlex.split(line)[1:])
        return plans.pop()

    monkeypatch.setattr("napari_patchset.cli.export.iter_export", stop)
    return parsed


@pytest.mark.parametrize("fields", PLANS)
def test_the_command_of_a_plan_makes_that_plan(
    czi: MakeCzi, parsed: Callable[[str], ExportPlan], fields: dict[str, Any]
) -> None:
    path = czi(*SCENES, name="two cells.czi")
    plan = ExportPlan(sources=[f"{path}@0", f"{path}@1"], **{"out": OUT, **fields})
    line = command_line(plan)
    assert line is not None
    assert parsed(line) == plan
    assert command_line(plan, memory=2**29) == f"{line} --memory 512MiB"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": Fixed(size=(8, 8), patches=())}, ["the listed patches"]),
        ({"strategy": Tiled(size=(8, 8), region=Rectangle(x=0, y=0, w=8, h=8))}, ["the region"]),
        ({"strategy": Tiled(size=(8, 8), pad="edge")}, ["how patches are padded"]),
        (
            {"strategy": Random(size=(8, 8), count=1, seed=1), "split": Split(val=0.5, seed=2)},
            ["two random seeds"],
        ),
        (
            {
                "strategy": Tiled(size=(8, 8), small="pad"),
                "sources": [SourceRef(path="a.zarr", scene=name) for name in ("A/1", "A/2")],
            },
            ["what becomes of small images", "scenes of several names"],
        ),
    ],
)
def test_what_has_no_words_has_no_command_and_is_named(
    fields: dict[str, Any], words: list[str]
) -> None:
    plan = ExportPlan(**{"sources": ["a.czi"], "out": OUT} | fields)
    assert command_line(plan) is None
    assert without_option(plan) == words


def test_a_named_scene_is_one_option_for_all_files() -> None:
    refs = [SourceRef(path=name, scene="A/1") for name in ("a.zarr", "b.zarr")]
    line = command_line(ExportPlan(sources=refs, strategy=Tiled(size=(64, 64)), out=OUT))
    assert line is not None
    assert line.startswith("patchset export a.zarr b.zarr --scene A/1 --out")


@pytest.fixture
def saved(czi: MakeCzi, tmp_path: Path) -> Path:
    """Save a plan for scene 1 of a file of two."""
    strategy = Tiled(size=(16, 16), overlap=(4, 4), edge="drop", select={"T": (0, 1)})
    sources = [f"{czi(*SCENES)}@1"]
    plan = ExportPlan(sources=sources, strategy=strategy, out=OUT, channels=[1])
    path = tmp_path / "plan.json"
    path.write_text(plan.model_dump_json())
    return path


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"edge": "pad"}, {"strategy": {"edge": "pad"}}),
        ({"patch_size": "8,8"}, {"strategy": {"size": [8, 8]}}),
        ({"channels": "0"}, {"channels": [0]}),
        ({"val": 0.5, "seed": 7}, {"split": {"val": 0.5, "by": "auto", "seed": 7}}),
        ({"codec": "lz4"}, {"codec": "lz4"}),
        ({"filter": ["std>5"]}, {"filters": [parse_filter("std>5").model_dump(mode="json")]}),
    ],
)
def test_an_option_overrides_the_saved_plan(
    saved: Path, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    expected = json.loads(saved.read_text())
    for name, change in changes.items():
        is_part = isinstance(change, dict) and isinstance(expected[name], dict)
        expected[name] = expected[name] | change if is_part else change
    plan = make_plan([], None, plan=saved, **options)
    assert plan.model_dump(mode="json") == expected


def test_files_scene_and_out_override_the_saved_plan(saved: Path, czi: MakeCzi) -> None:
    other = czi(*SCENES, name="other.czi")
    plan = make_plan([str(other)], "b.patches.zarr", plan=saved)
    assert [str(ref) for ref in plan.sources] == [f"{other}, scene 0", f"{other}, scene 1"]
    assert plan.out == "b.patches.zarr"
    plan = make_plan([], None, plan=saved, scene="0")
    assert [ref.scene for ref in plan.sources] == [0]


def test_a_target_is_cut_from_the_same_scene(
    czi: MakeCzi, parsed: Callable[[str], ExportPlan]
) -> None:
    path, target = czi(*SCENES), czi(*SCENES, name="target.czi")
    plan = make_plan([str(path)], OUT, target=str(target))
    assert [str(ref.target) for ref in plan.sources] == [f"{target}, scene {i}" for i in (0, 1)]
    line = command_line(plan)
    assert line is not None
    assert parsed(line) == plan


def test_a_folder_holds_the_labels_of_many_files(czi: MakeCzi, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    names = ["a.czi", "b.czi"]
    files = [str(czi(SCENES[0], name=name)) for name in names]
    for name in names:
        czi(SCENES[1], name=f"labels/{name}")
    plan = make_plan(files, OUT, labels=str(tmp_path / "labels"))
    assert [str(ref.labels) for ref in plan.sources] == [
        f"{tmp_path / 'labels' / name}, scene 1" for name in names
    ]
    with pytest.raises(ArgumentError, match="one image for 2 files; name a folder"):
        make_plan(files, OUT, labels=files[0])


def test_another_strategy_keeps_what_the_two_have_in_common(saved: Path) -> None:
    plan = make_plan([], None, plan=saved, strategy="random", count=4)
    assert plan.strategy == Random(size=(16, 16), count=4, select={"T": (0, 1)})


def test_the_plan_of_an_export_under_way_is_taken(saved: Path) -> None:
    plan = json.loads(saved.read_text())
    saved.write_text(json.dumps({"plan": plan, "sources": [], "n_patches": 3}))
    assert make_plan([], None, plan=saved).model_dump(mode="json") == plan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "spiral"}, "choose one of tiled, random"),
        (
            {"strategy": "whole", "overlap": "4"},
            "--overlap is for tiled patches, not for whole ones",
        ),
        ({"count": 4}, "--count is for random or balanced patches, not for tiled ones"),
        ({"split_by": "file"}, "--split-by needs --val"),
        ({"val": 0.2, "folds": 3}, "omit --val or --folds"),
    ],
)
def test_options_that_do_not_fit_are_named(
    saved: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_plan([str(saved.with_name("image.czi"))], OUT, **options)


def test_a_codec_is_refused_where_it_would_do_nothing(saved: Path) -> None:
    image = [str(saved.with_name("image.czi"))]
    with pytest.raises(ArgumentError, match="--codec is for the format zarr, not for tiff"):
        make_plan(image, "a.patches", format="tiff", codec="zstd")
    assert make_plan(image, "a.patches", format="tiff", codec="none").format == "tiff"


def test_a_message_ends_with_one_full_stop() -> None:
    with pytest.raises(ArgumentError, match=r"\(Z,Y,X\)\.$"):
        make_plan(["a.tif"], "a.patches.zarr", source_pixel_size="x")
