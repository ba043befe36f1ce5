"""The command, as it is run."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Generator
from contextlib import nullcontext, suppress
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_patchset import PatchSet, __version__
from napari_patchset.cli import signals
from napari_patchset.cli.app import COMMANDS
from napari_patchset.errors import PatchsetError
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.zarr_maker import drawn, put_in_memory, write_array, write_image

SCENES = (
    SceneSpec(id=0, rect=(0, 0, 64, 48), t=2, c=2),
    SceneSpec(id=1, rect=(300, 0, 40, 40), t=2, c=2),
)


PLANS = {
    "big.json": {"sources": ["image.czi"], "strategy": {"size": "big"}},
    "flat.json": {"strategy": "tiled"},
    "typo.json": {"sources": [{"pth": "image.czi"}]},
    "later.json": {"sources": ["image.czi"], "gamma": 2},
}
FILES = sorted(["circle.json", "empty.json", "float.tif", "image.czi", "text.czi", *PLANS])


def test_info_shows_what_is_in_a_file(run, czi: MakeCzi) -> None:
    sizes = {"X": 3e-7, "Y": 2e-7, "Z": 2e-6}
    xml = metadata_xml(sizes, {"Channel:0": "DAPI", "Channel:1": "EGFP"})
    code, out, _ = run("info", czi(*SCENES, xml=xml))
    assert code == 0
    for word in ("uint16", "DAPI, EGFP", "0.2 x 0.3, Z 2", "T2 C2 Y48 X64", "T2 C2 Y40 X40"):
        assert word in out


def test_info_of_a_folder_lists_the_images_that_an_export_of_it_takes(
    run, czi: MakeCzi, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    czi(*SCENES).rename(folder / "b.czi")
    tifffile.imwrite(folder / "a.tif", np.zeros((16, 24), np.uint8))
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.tif").write_text("no image either")
    code, out, err = run("info", folder)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines() if ".tif" in line or ".czi" in line] == [
        *("a.tif", "b.czi", "b.czi")
    ]
    assert "notes" not in out
    assert "broken.tif" in err
    rows = json.loads(run("info", folder, "--json")[1])
    assert [row["file"] for row in rows] == ["a.tif", "b.czi", "b.czi", "broken.tif"]
    assert [row.get("id") for row in rows] == [None, 0, 1, None]
    assert "error" in rows[-1]
    (tmp_path / "empty").mkdir()
    assert "there is no image in this folder" in run("info", tmp_path / "empty")[2]


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_url_is_named_like_a_file(run, tmp_path: Path, scheme: str) -> None:
    path = write_image(tmp_path / "x.zarr", "YX", drawn("YX", (32, 48)))
    url = put_in_memory(path) if scheme == "memory" else path.as_uri()
    code, out, err = run("info", url)
    assert (code, err) == (0, "")
    assert "Y32 X48" in out
    code, out, _ = run("export", url, "--patch-size", "16,16", "--out", "a.patches.zarr")
    assert (code, out) == (0, f"6 patches in {tmp_path / 'a.patches.zarr'}\n")


def test_info_as_json_is_one_object_a_scene(run, czi: MakeCzi) -> None:
    code, out, _ = run("info", czi(*SCENES), "--json")
    first, second = json.loads(out)
    assert code == 0
    assert (first["id"], second["id"]) == (0, 1)
    assert second["shape"] == [2, 1, 2, 40, 40]
    assert second["rect"] == [300, 0, 40, 40]


def test_info_of_a_patch_set_shows_its_arrays(run, czi: MakeCzi) -> None:
    xml = metadata_xml({"X": 3e-7, "Y": 2e-7}, {"Channel:0": "DAPI", "Channel:1": "EGFP"})
    for form, suffix in (("zarr", ".patches.zarr"), ("npz", ".patches")):
        options = ("--patch-size", "8,8", "--val", 0.2, "--format", form, "--out", f"a{suffix}")
        assert run("export", czi(*SCENES, xml=xml), *options)[0] == 0
        code, out, _ = run("info", f"a{suffix}")
        assert code == 0
        for word in ("train/image", "val/image", "C2 Y8 X8", "DAPI, EGFP", "0.2 x 0.3", "uint16"):
            assert word in out
        assert ("array" in out, "scene" in out) == (True, False)
        n = PatchSet(f"a{suffix}").manifest.counts["val"]
        assert json.loads(run("info", f"a{suffix}", "--json")[1])[1]["shape"] == [n, 2, 8, 8]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_file_among_others_is_named_and_the_exit_code_says_so(
    run, czi: MakeCzi, as_json: bool
) -> None:
    paths = [
        czi(SceneSpec(rect=(0, 0, 64, 64), t=range(i, i + 1)), name=f"{i}.czi") for i in (0, 1)
    ]
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    code, out, err = run(
        "export", *paths, "--out", "a.patches.zarr", *(["--json"] if as_json else [])
    )
    assert (code, len(PatchSet("a.patches.zarr")["all"])) == (1, 1)
    if as_json:
        events = [json.loads(line) for line in out.splitlines()]
        (skipped,) = [event for event in events if event["event"] == "skipped"]
        assert (skipped["source"], events[-1]["skipped"], err) == (str(paths[0]), 1, "")
    else:
        assert err == f"skipped: {paths[0]}: damaged or cut short" + err.partition("cut short")[2]
        assert err.count("skipped: ") == 1


def test_export_writes_the_patches_that_its_options_describe(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    options = ("--scene", 1, "--patch-size", "16,20", "--overlap", "4", "--channels", "1")
    code, out, _ = run("export", path, "--out", "a.patches.zarr", *options)
    assert (code, out) == (0, f"18 patches in {Path('a.patches.zarr').absolute()}\n")
    made = PatchSet("a.patches.zarr")
    row = made.table.to_pylist()[5]
    window = (row["y_start"], row["x_start"], 16, 20)
    expected = SCENES[1].pixels({"T": row["t"], "Z": 0, "C": 1}, window)
    np.testing.assert_array_equal(made["all"][5][0], expected)
    made.close()


def test_a_warning_is_one_line(run, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(file: str) -> list[object]:
        warnings.warn(f"{file}: no valid OME-Zarr", UserWarning, stacklevel=2)
        return []

    monkeypatch.setattr("napari_patchset.cli.info.list_scenes", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        path = czi(SCENES[0])
        assert run("info", path)[2] == f"patchset: {path}: no valid OME-Zarr\n"


def test_export_reports_positions_that_are_no_candidates(run, czi: MakeCzi) -> None:
    path = czi(SceneSpec(id=0, rect=(0, 0, 64, 48), t=2, z=2, missing=[{"T": 1, "Z": 1}]))
    shown = run("export", path, "--out", "a.patches.zarr", "--patch-size", "16,16")[1]
    out = Path("a.patches.zarr").absolute()
    assert shown == f"36 patches in {out}: 12 excluded (missing plane)\n"


def test_the_file_that_lacks_planes_is_named(run, czi: MakeCzi) -> None:
    whole = czi(SceneSpec(rect=(0, 0, 64, 48), t=2, z=2), name="whole.czi")
    path = czi(SceneSpec(rect=(0, 0, 64, 48), t=2, z=2, missing=[{"T": 1, "Z": 0}]))
    options = ("--out", "a.patches.zarr", "--patch-size", "16,16")
    shown = run("export", whole, path, *options)[1]
    assert f"12 excluded (missing plane in {path})" in shown.replace(", scene 0", "")
    assert "absent: 1 plane of scene 0" in run("info", path)[1]


def test_export_reports_splits_and_rejected_patches(run, czi: MakeCzi) -> None:
    options = ("--patch-size", "8,8", "--filter", "std>p20", "--val", "0.2")
    shown = run("export", czi(*SCENES), "--out", "a.patches.zarr", *options)[1]
    made = PatchSet("a.patches.zarr")
    n_train, n_val = len(made["train"]), len(made["val"])
    rejected = made.table.num_rows - n_train - n_val
    assert shown == (
        f"{n_train + n_val} patches in {Path('a.patches.zarr').absolute()}: "
        f"{n_train} train, {n_val} val, split by block, {rejected} rejected (std>p20: {rejected})\n"
    )


def test_export_tells_what_an_automatic_split_goes_by(run, czi: MakeCzi) -> None:
    scenes = [SceneSpec(id=i, rect=(500 * i, 0, 64, 64)) for i in range(4)]
    files = [czi(scene, name=f"{scene.id}.czi") for scene in scenes]
    options = ("--patch-size", "16", "--val", "0.25", "--overwrite", "--out", "a.patches.zarr")
    for sources, more, by in (
        (files, (), "file"),
        ([czi(*scenes)], (), "scene"),
        ([files[0]], (), "block"),
        (files, ("--split-by", "block"), ""),
    ):
        shown = run("export", *sources, *options, *more)[1]
        assert shown.partition("split by ")[2].rstrip() == by


def test_numbered_files_that_are_split_apart_are_told(run) -> None:
    rng = np.random.default_rng(0)
    Path("tl").mkdir()
    for i in (1, 2, 10):
        tifffile.imwrite(f"tl/t{i}.tif", rng.integers(0, 99, (32, 32), np.uint8))
    words = ("export", "tl", "--patch-size", "8", "--overwrite", "--out", "a.patches.zarr")
    err = run(*words, "--val", "0.3")[2]
    assert "t1.tif to t10.tif are split as files of different images. If they are frames" in err
    for more in ((), ("--val", "0.3", "--sequence", "T")):
        assert "are split as files" not in run(*words, *more)[2]


def test_a_dry_run_tells_what_the_split_rejects(run, czi: MakeCzi) -> None:
    words = ("export", czi(SCENES[0]), "--out", "a.patches.zarr", "--patch-size", "8,8")
    words += ("--overlap", "4", "--val", "0.2")
    first = run(*words, "--dry-run")[1].splitlines()[0]
    run(*words)
    (reason, n), *none = PatchSet("a.patches.zarr").manifest.rejected.items()
    assert not none
    assert first.endswith(f": {n} rejected ({reason}: {n})")


def test_export_takes_every_scene_and_a_scene_in_the_name(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    size = ("--patch-size", "8,8")
    assert run("export", path, "--out", "all.patches.zarr", *size)[0] == 0
    assert run("export", f"{path}@1", "--out", "one.patches.zarr", *size)[0] == 0
    assert set(PatchSet("all.patches.zarr").table["scene"].to_pylist()) == {"0", "1"}
    assert set(PatchSet("one.patches.zarr").table["scene"].to_pylist()) == {"1"}


def test_events_come_as_json_lines(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    args = ("--out", "a.patches.zarr", "--patch-size", "8,8", "--json")
    code, out, _ = run("export", path, *args)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    *progress, summary = events
    stages = dict.fromkeys(event["stage"] for event in progress)
    assert list(stages) == ["open", "plan", "write", "finalize", "done"]
    assert progress[-1]["done"] == progress[-1]["total"] == 2 * (8 * 6 + 5 * 5)
    assert (summary["event"], summary["splits"]) == ("summary", {"all": 2 * (8 * 6 + 5 * 5)})
    assert summary["bytes"] > 2 * (8 * 6 + 5 * 5) * 2 * 64 * 2
    assert summary["seconds"] > 0


@pytest.mark.parametrize("command", ["export", "verify"])
@pytest.mark.parametrize(("options", "n"), [((), 184 * 2**20), (("--memory", "1.5MiB"), 3 * 2**19)])
def test_the_memory_limit_is_passed_on(
    run,
    czi: MakeCzi,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: tuple[str, ...],
    n: int,
) -> None:
    taken = []

    def take(*_: object, memory: int, **__: object) -> None:
        taken.append(memory)
        raise PatchsetError("seen")

    monkeypatch.setattr("napari_patchset.cli.export.iter_export", take)
    monkeypatch.setattr("napari_patchset.cli.inspect.find_differences", take)
    words = {"export": (czi(*SCENES), "--out", "a.patches.zarr"), "verify": ("a.patches.zarr",)}
    assert run(command, *words[command], *options)[2] == "patchset: seen.\n"
    assert taken == [n]


@pytest.mark.parametrize("command", ["score", "write"])
def test_a_job_takes_its_threads_and_memory(
    run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    taken = []
    target = f"napari_patchset.cli.export.{command}_job"
    monkeypatch.setattr(target, lambda *args, **more: taken.append((args, more)) or ())
    words = (command, "a.patches.zarr", "--job", 1, "--of", 3)
    assert run(*words)[0] == run(*words, "--workers", 4, "--memory", "1GiB")[0] == 0
    where = ("a.patches.zarr", 1, 3)
    assert [each for each, _ in taken] == [where, where]
    options = [{name: more[name] for name in ("threads", "memory")} for _, more in taken]
    assert options == [
        {"threads": 1, "memory": 184 * 2**20},
        {"threads": 4, "memory": 2**30},
    ]


def test_a_set_is_the_same_with_little_memory(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    for name, options in (("a", ()), ("b", ("--memory", "1kB"))):
        args = ("export", path, "--patch-size", "8,8", "--out", f"{name}.patches.zarr", *options)
        assert run(*args)[0] == 0
    assert PatchSet("a.patches.zarr").manifest == PatchSet("b.patches.zarr").manifest


def test_processes_write_the_same_set(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    run("export", path, "--out", "a.patches.zarr", "--patch-size", "8,8")
    code, *_ = run(
        *("export", path, "--out", "b.patches.zarr", "--patch-size", "8,8"),
        *("--executor", "processes", "--workers", 2),
    )
    assert code == 0
    assert PatchSet("a.patches.zarr").manifest == PatchSet("b.patches.zarr").manifest


def test_jobs_write_the_same_set(run, czi: MakeCzi) -> None:
    args = ("--patch-size", "8,8", "--filter", "std>p20", "--val", "0.2")
    path = czi(*SCENES)
    run("export", path, "--out", "a.patches.zarr", *args)
    steps = [
        ("plan", path, "--out", "b.patches.zarr", *args),
        *(("score", "b.patches.zarr", "--job", job, "--of", 2) for job in (1, 0)),
        *(("write", "b.patches.zarr", "--job", i, "--of", 2, "--memory", "1MB") for i in (1, 0)),
        ("finalize", "b.patches.zarr"),
    ]
    assert [run(*step)[0] for step in steps] == [0] * len(steps)
    assert PatchSet("a.patches.zarr").manifest == PatchSet("b.patches.zarr").manifest


def test_a_job_without_a_plan_or_out_of_range_is_one_line(run, czi: MakeCzi) -> None:
    assert run("write", "b.patches.zarr", "--job", 0, "--of", 1)[0] == 1
    run("plan", czi(*SCENES), "--out", "b.patches.zarr", "--patch-size", "8,8")
    code, _, err = run("write", "b.patches.zarr", "--job", 2, "--of", 2)
    assert (code, err.count("\n")) == (1, 1)
    assert "There is no job 2 of 2" in err


def test_every_step_reports_as_json(run, czi: MakeCzi) -> None:
    path, name = czi(*SCENES), "a.patches.zarr"
    job = ("--job", 0, "--of", 1, "--json")
    steps = [
        run("plan", path, "--patch-size", "8,8", "--filter", "std>p20", "--out", name, "--json"),
        run("score", name, *job),
        run("write", name, *job),
        run("finalize", name, "--json"),
        run("preview", f"{path}@0", "--patch-size", "8,8", "--out", "a.png", "--json"),
    ]
    plan, score, write, done, preview = (json.loads(out.splitlines()[-1]) for _, out, _ in steps)
    assert [code for code, *_ in steps] == [0] * 5
    n = 2 * (8 * 6 + 5 * 5)
    whole = str(Path(name).absolute())
    assert (plan["command"], plan["path"], plan["candidates"]) == ("plan", whole, n)
    assert (score["command"], score["path"], score["job"], score["of"]) == ("score", whole, 0, 1)
    assert (write["command"], write["job"], write["of"]) == ("write", 0, 1)
    assert (done["command"], done["path"], done["skipped"]) == ("finalize", whole, 0)
    assert 0 < done["splits"]["all"] < n
    assert preview["path"] == str(Path("a.png").absolute())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_its_summary_and_has_an_example(run, name: str) -> None:
    module, summary = COMMANDS[name]
    doc = getattr(import_module(f"napari_patchset.cli.{module}"), name).__doc__
    assert doc.splitlines()[0] == summary
    assert f"Example: patchset {name} " in doc
    code, out, _ = run(name, "--help")
    assert code == 0
    assert summary in out
    assert "[default: None]" not in out


def test_the_options_of_a_plan_are_in_groups(run) -> None:
    panels = re.findall("─ (\\w+) ─", run("export", "--help")[1])
    groups = ["Source", "Patches", "Filters", "Split", "Output", "Running"]
    assert panels == ["Arguments", "Options", *groups]


def test_help_and_completion_import_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; from napari_patchset.cli import main; sys.argv[0] = 'patchset'\n"
        "try: main()\n"
        "finally: print({'numpy'} & set(sys.modules))"
    )
    completing = {
        "_PATCHSET_COMPLETE": "complete_bash",
        "_TYPER_COMPLETE_ARGS": "patchset ve",
        "COMP_WORDS": "patchset ve",
        "COMP_CWORD": "1",
    }
    for words, variables, shown in ((["--help"], {}, "finalize"), ([], completing, "verify")):
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=os.environ | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown in ended.stdout
        assert ended.stdout.endswith("set()\n")


def test_preview_draws_the_grid_on_the_image(run, czi: MakeCzi) -> None:
    path = czi(*SCENES)
    args = ("--scene", 1, "--patch-size", "20,20", "--out", "p.png")
    code, out, _ = run("preview", path, *args)
    picture = imagecodecs.png_decode(Path("p.png").read_bytes())
    assert (code, out) == (0, "p.png\n")
    assert picture.shape == (1000, 1000, 3)
    yellow = (picture == (255, 214, 10)).all(axis=-1)
    assert yellow[[0, 499, 500, 999]].all()
    assert not yellow[250, 250]


CLASSES = ("--classes", "7=1,background=2", "--labels", "labels.tif")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--strategy", "random", "--count", "7", "--seed", "3"), 2 * 7),
        (("--strategy", "stratified"), 2 * 4 * 3),
        (("--strategy", "balanced", "--count", "9", *CLASSES), 9),
        (("--strategy", "whole"), 2),
        (("--select", "T=1:2"), 4 * 3),
        (("--region", "region.json"), 2 * 2),
    ],
)
def test_every_strategy_and_limit_is_reached(
    run, czi: MakeCzi, tmp_path: Path, options: tuple[str, ...], count: int
) -> None:
    region = {"kind": "rectangle", "x": 0, "y": 0, "w": 32, "h": 16}
    (tmp_path / "region.json").write_text(json.dumps(region))
    path = czi(*SCENES)
    size = () if "whole" in options else ("--patch-size", "16,16")
    tifffile.imwrite("labels.tif", np.eye(48, 64, dtype="u1") * 7 + np.zeros((2, 1, 1), "u1"))
    code, _, err = run("export", path, "--scene", 0, "--out", "a.patches.zarr", *size, *options)
    assert (code, err) == (0, err)
    made = PatchSet("a.patches.zarr")
    assert len(made["all"]) == count
    row = made.table.to_pylist()[-1]
    window = (row["y_start"], row["x_start"], row["y_size"], row["x_size"])
    expected = [SCENES[0].pixels({"T": row["t"], "Z": 0, "C": c}, window) for c in (0, 1)]
    np.testing.assert_array_equal(made["all"][-1], expected)
    made.close()


def test_the_version_is_printed(run) -> None:
    assert run("--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info none.czi", "none.czi: No such file or directory"),
        ("export none.czi", "none.czi: No such file"),
        ("export text.czi", "text.czi: not a CZI file"),
        ("export image.czi --scene 99", "no scene 99"),
        ("export image.czi@99", "no scene 99"),
        ("export image.czi --patch-size 64,64", "64 x 64 is larger than"),
        ("export image.czi --depth-axis Z", "does not contain a Z axis"),
        ("export image.czi --out a.zarr", "must end in .patches.zarr"),
        ("export image.czi --patch-size 8;8", "'8;8'"),
        (
            "export image.czi --overlap 64",
            "the overlap along Y is 64; it must be at least 0 and less than the size there, 64",
        ),
        ("export image.czi --channels Cy5", "'Cy5'"),
        ("export image.czi --strategy random", "need --count"),
        (
            "export image.czi --strategy balanced --count 9",
            "need --count, the number of patches in",
        ),
        (
            "export image.czi --strategy balanced --count 9 --classes mito",
            "'mito' is not a class and its share; write mito=0.5",
        ),
        (
            "export image.czi --strategy balanced --count 9 --classes 1=1 --patch-size 8,8",
            "image.czi@0 has none; name those of every source",
        ),
        ("export image.czi --strategy fixed", "name it with --plan"),
        ("export image.czi --count 9", "--count is for random or balanced patches, not for tiled"),
        (
            "export image.czi --edge none",
            "--edge is 'none'; it must be 'shift', 'drop', 'pad' or 'balance'",
        ),
        ("export image.czi --depth-axis Q", "--depth-axis is 'Q'; it must be 'none', 'Z' or 'T'"),
        ("export image.czi --val 2", "--val is 2.0; it must be less than 1"),
        ("export image.czi --dtype uint9", "there is no pixel type 'uint9'"),
        ("export image.czi --memory 512", "--memory is '512'; give a number and one of kB, MB"),
        ("export image.czi --format png", "there is no format 'png'; choose one of zarr"),
        ("export image.czi --filter sharp>5", "there is no kind 'sharp'; it is one of max, mean"),
        ("export image.czi --patch-size 8,8 --filter std[Cy5]>5", "There is no channel 'Cy5'"),
        ("export image.czi --labels image.czi@9", "there is no scene 9; its scenes are 0, 1"),
        (
            "export float.tif --filter shannon>5",
            "float32 has no range of grey values; set it, as in shannon(",
        ),
        (
            "export float.tif --val 0.1 --split-by scene",
            "Splitting by scene needs patches in at least two scenes",
        ),
        ("info image.czi@9", "there is no scene 9; its scenes are 0, 1"),
        ("verify none.patches.zarr", "none.patches.zarr: no such patch set"),
        ("export image.czi --select T", "'T' is not a selection; write ranges"),
        ("export image.czi --select T=7:9", "has T 0 to 1"),
        (
            "preview image.czi --out p.png",
            "There are 2 images, the first is image.czi, scene 0; choose one: --scene",
        ),
        ("export image.czi --patch-size 64", "64 x 64 is larger than"),
        (
            "export image.czi --patch-size 0,8",
            "patch size 0, 8 must be 2 or 3 numbers of at least 1: along Y, X",
        ),
        (
            "export image.czi --patch-size 8,8 --filter max>99999",
            "No patches left: max",
        ),
        (
            "export image.czi --patch-size 8,8 --filter share[Tumor]>0.1",
            "no class 'Tumor', as there are no annotations; add those of every source, with "
            "--annotations.",
        ),
        ("export image.czi --select Q=3:5", "image.czi@0 has no axis Q (only the number 0)"),
        (
            "export image.czi --region circle.json",
            "circle.json: not a region: there is no kind 'circle'",
        ),
        (
            "export image.czi --region empty.json",
            "empty.json: not a region; a region is GeoJSON, a mask image, or a JSON object such as",
        ),
        ("export image.czi --scene 9", "there is no scene 9; its scenes are 0"),
        (
            "export --plan later.json",
            "later.json: gamma is not a field of a plan; save",
        ),
        ("export --plan typo.json", "With typo.json: path is missing; there is no pth here"),
        ("export --plan flat.json", "flat.json: strategy is 'tiled'; save the plan again"),
        (
            "export --plan big.json",
            "With big.json: 'big' is not a number of pixels",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    run, czi: MakeCzi, tmp_path: Path, words: str, message: str
) -> None:
    czi(*SCENES)
    (tmp_path / "text.czi").write_text("this is no image\n")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((70, 80), np.float32))
    (tmp_path / "circle.json").write_text('{"kind": "circle"}')
    (tmp_path / "empty.json").write_text("{}")
    for name, plan in PLANS.items():
        (tmp_path / name).write_text(json.dumps(plan))
    command, *options = words.split()
    if command == "export" and "--out" not in options:
        options += ["--out", "a.patches.zarr"]
    code, out, err = run(command, *options)
    assert (code, out) == (1, "")
    assert err.startswith("patchset: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize(
    "option", [("--region-class", "Stroma, fibrous"), ("--filter", "share[Stroma, fibrous]>0.1")]
)
def test_a_class_with_a_comma_is_shown_in_the_quotes_that_it_needs(
    run, czi: MakeCzi, option: tuple[str, str]
) -> None:
    path = czi(SCENES[0])
    properties = [{"classification": {"name": name}} for name in ("Nest", "Stroma, fibrous")]
    corners = [[[0, 0], [40, 0], [40, 40], [0, 0]]]
    outline = {"type": "Polygon", "coordinates": corners}
    features = [{"type": "Feature", "geometry": outline, "properties": p} for p in properties]
    Path("a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    words = "export", path, "--annotations", "a.geojson", "--patch-size", "8,8", "--out"
    code, _, err = run(*words, "a.patches.zarr", *option)
    assert code == 1
    assert 'the annotations have Nest, "Stroma, fibrous". Write "Stroma, fibrous" with its ' in err
    assert "quotes, and the text in quotes of the shell." in err
    quoted = option[1].replace("Stroma, fibrous", '"Stroma, fibrous"')
    assert run(*words, "b.patches.zarr", option[0], quoted)[0] == 0


def test_an_export_writes_where_its_patches_lie(run, czi: MakeCzi) -> None:
    words = "export", czi(SCENES[0]), "--patch-size", "8,8", "--geojson", "places", "--out"
    code, out, _ = run(*words, "a.patches.zarr")
    assert code == 0
    assert "their places in places" in out
    (file,) = Path("places").iterdir()
    features = json.loads(file.read_text())["features"]
    assert {each["properties"]["objectType"] for each in features} == {"tile"}
    code, _, err = run(*words, "b.patches.zarr")
    assert code == 1
    assert f"{file} exists" in err
    assert not Path("b.patches.zarr").exists()
    assert run(*words, "b.patches.zarr", "--overwrite")[0] == 0


def test_a_set_without_a_shard_is_not_finalized(run, czi: MakeCzi) -> None:
    run("plan", czi(*SCENES), "--patch-size", "8,8", "--out", "a.patches.zarr")
    code, _, err = run("finalize", "a.patches.zarr")
    assert code == 1
    assert "nothing is written yet. Run `write` for every job" in err


def test_lists_of_files_are_joined(run, czi: MakeCzi) -> None:
    scenes = [SceneSpec(rect=(0, 0, 64, 16 * i), c=2) for i in (1, 2, 3)]
    names = [czi(scene, name=f"{i}.czi").name for i, scene in enumerate(scenes)]
    Path("1.txt").write_bytes(b"\xef\xbb\xbf" + f"{names[0]}\r\n\r\n".encode())
    Path("2.txt").write_text(f"# of the second day\n{names[1]}\n")
    lists = ("--files-from", "1.txt", "--files-from", "2.txt")
    words = ("export", names[2], *lists, "--patch-size", "8,8", "--out", "a.patches.zarr")
    code, _, err = run(*words)
    assert (code, err.count("skipped")) == (0, 0)
    with PatchSet("a.patches.zarr") as made:
        assert {Path(source["path"]).name for source in made.provenance.sources} == set(names)


def test_a_list_may_come_from_standard_input(
    run, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    czi(*SCENES)
    lines = BytesIO(b"# of the first day\nimage.czi@1\n")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(lines))
    words = ("--patch-size", "8,8", "--format", "coordinates", "--out", "a.patches")
    assert run("export", "--files-from", "-", *words)[0] == 0
    with PatchSet("a.patches") as made:
        assert [source["scene"] for source in made.provenance.sources] == [1]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), {PatchCategory.TRAIN}),
        (("--filter", "mean[0]>p50"), {PatchCategory.TRAIN, PatchCategory.REJECTED}),
        (("--val", "0.4"), {PatchCategory.TRAIN, PatchCategory.VAL}),
    ],
)
def test_preview_draws_what_filters_and_split_decide(
    run, czi: MakeCzi, options: tuple[str, ...], shown: set[PatchCategory]
) -> None:
    path = czi(*SCENES)
    words = ("preview", path, "--scene", 1, "--patch-size", "20,20", "--out", "p.png")
    assert run(*words, *options)[0] == 0
    picture = imagecodecs.png_decode(Path("p.png").read_bytes())
    drawn = {bytes(color).hex() for color in np.unique(picture.reshape(-1, 3), axis=0)}
    assert {each for each in PatchCategory if CATEGORY_COLORS[each][1:] in drawn} == shown


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("command", ["export", "plan"])
def test_a_set_whose_name_is_not_utf8_is_one_line(run, czi: MakeCzi, command: str) -> None:
    path = czi(SCENES[0])
    before = set(Path().iterdir())
    code, _, err = run(command, path, "--patch-size", "8", "--out", "o\udcff.patches.zarr")
    assert (code, err.count("\n")) == (1, 1)
    assert "is not UTF-8" in err
    assert set(Path().iterdir()) == before


def test_wrong_usage_is_exit_code_2(run) -> None:
    for args in (["export"], ["export", "image.czi"], ["export", "image.czi", "--no-such", "1"]):
        code, _, err = run(*args)
        assert code == 2
        assert err.startswith("patchset: ")
        assert err.endswith("; see `patchset export --help`.\n")
        assert err.count("\n") == 1


def test_the_command_loads_no_window() -> None:
    code = (
        "import sys, napari_patchset.cli\n"
        "gui = {'napari', 'qtpy', 'magicgui', 'vispy', 'PyQt6', 'PySide6'}\n"
        "print(sorted(gui & {name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize(("stage", "stops"), [("write", True), ("done", False)])
def test_ctrl_c_stops_where_python_drops_it(stage: str, stops: bool) -> None:
    def dropping() -> Generator[SimpleNamespace, None, None]:
        yield SimpleNamespace(stage="plan")
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        yield SimpleNamespace(stage=stage)

    before, events = signal.getsignal(signal.SIGINT), dropping()
    with pytest.raises(KeyboardInterrupt) if stops else nullcontext(), signals.handled():
        signals.interrupt_from_now()
        assert [event.stage for event in signals.until_interrupted(events)] == ["plan", stage]
    assert not list(events)
    assert signal.getsignal(signal.SIGINT) is before


def test_info_says_which_axes_are_guessed(run, tmp_path: Path) -> None:
    tifffile.imwrite("pages.tif", np.zeros((4, 32, 48), np.uint16), photometric="minisblack")
    write_array(tmp_path / "plain.zarr", np.zeros((2, 1, 3, 32, 48), np.uint16))
    said = "state them with --axes"
    for file, axes, guessed in (("pages.tif", "SYX", "S"), ("plain.zarr", "TCZYX", "TCZYX")):
        (row,) = json.loads(run("info", file, "--json")[1])
        assert row["guessed_axes"] == guessed
        code, out, err = run("info", file)
        assert (code, err) == (0, "")
        assert f"does not name all of {axes}; if you know better, {said}" in out
    tifffile.imwrite("named.tif", np.zeros((4, 32, 48), np.uint16), imagej=True)
    write_image(tmp_path / "named.zarr", "ZYX", np.zeros((3, 32, 48), np.uint16))
    for file in ("named.tif", "named.zarr"):
        assert said not in run("info", file)[1]
        (row,) = json.loads(run("info", file, "--json")[1])
        assert row["guessed_axes"] == ""
