"""`patchset stitch`, as it is typed."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from napari_patchset import PatchSet, open_stack
from napari_patchset.cli.app import app
from support.czi_maker import SceneSpec, blocks_of, make_czi, write_blocks
from support.tiff_maker import write

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(1, 2**16, (90, 70), np.uint16)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write an image into the current folder."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.tif", IMAGE)
    return tmp_path


def run(*words: str, fails: bool = False) -> str:
    result = CliRunner().invoke(app, list(words))
    assert (result.exit_code != 0) == fails, result.output + repr(result.exception)
    return result.output + str(result.exception or "")


def test_an_export_for_prediction_is_stitched_whole(folder: Path) -> None:
    options = "--overlap", "16", "--edge", "pad"
    run("export", "a.tif", "--for-prediction", *options, "--out", "a.patches.zarr")
    said = run("stitch", "a.patches.zarr", "--predictions", "a.patches.zarr", "--out", "a.ome.zarr")
    assert said == f"{folder / 'a.ome.zarr'}: patches cover 100 % of it\n"
    assert np.array_equal(zarr.open_group("a.ome.zarr", mode="r")["0"][0], IMAGE)


def test_an_image_smaller_than_a_patch_is_padded(folder: Path) -> None:
    size = "--patch-size", "128,96"
    run("export", "a.tif", "--for-prediction", *size, "--out", "a.patches.zarr")
    run("stitch", "a.patches.zarr", "--predictions", "a.patches.zarr", "--out", "a.ome.zarr")
    assert np.array_equal(zarr.open_group("a.ome.zarr", mode="r")["0"][0], IMAGE)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--val", "0.1"], "--val can't go with it"),
        (["--filter", "std>5"], "--filter can't go with it"),
        (["--strategy", "random", "--count", "4"], "--count can't go with it"),
        (["--strategy", "whole"], "tiled patches, not whole"),
        (["--edge", "drop"], "edge drop does not"),
    ],
)
def test_what_leaves_pixels_out_is_refused(folder: Path, options: list[str], remedy: str) -> None:
    words = "export", "a.tif", "--for-prediction", *options, "--out", "a.patches.zarr"
    assert remedy in run(*words, fails=True)


def test_splits_are_named_and_progress_is_json(folder: Path) -> None:
    run("export", "a.tif", "--patch-size", "16,16", "--val", "0.3", "--out", "a.patches.zarr")
    words = "stitch", "a.patches.zarr", "--out", "a.ome.zarr"
    parts = "--predictions", "train=a.patches.zarr", "--predictions", "val=a.patches.zarr"
    lines = run(*words, *parts, "--json").splitlines()
    last = json.loads(lines[-1])
    assert last["event"] == "summary"
    assert last["covered"] == 1  # the split leaves nothing out where patches do not overlap
    twice = "--predictions", "val=a.patches.zarr", "--predictions", "val=b.patches.zarr"
    assert "val has two, a.patches.zarr and b.patches.zarr" in run(*words, *twice, fails=True)


def test_what_is_not_covered_is_said_with_the_remedy(folder: Path) -> None:
    run("export", "a.tif", "--edge", "drop", "--out", "a.patches.zarr")
    said = run("stitch", "a.patches.zarr", "--predictions", "a.patches.zarr", "--out", "a.ome.zarr")
    assert "patches cover 65.02 % of it" in said
    assert "export --for-prediction" in said


def test_a_resampled_set_goes_back_to_the_size_of_its_source(folder: Path) -> None:
    options = "--source-pixel-size", "0.2", "--pixel-size", "0.4", "--patch-size", "16,16"
    run("export", "a.tif", "--for-prediction", *options, "--out", "a.patches.zarr")
    words = "stitch", "a.patches.zarr", "--predictions", "a.patches.zarr", "--out", "a.ome.zarr"
    assert "may be labels" in run(*words, "--full-resolution", "linear", fails=True)
    run(*words, "--full-resolution", "nearest", "--codec", "zstd")
    image = zarr.open_group("a.ome.zarr", mode="r")["0"]
    assert image.shape[1:] == IMAGE.shape
    assert image.compressors[0].to_dict()["configuration"]["cname"] == "zstd"
    assert np.array_equal(image[0, ::2], image[0, 1::2])


def test_a_set_for_prediction_has_every_pixel_of_a_mosaic_with_gaps(folder: Path) -> None:
    blocks = list(blocks_of([SceneSpec(0, (0, 0, 160, 64))], tile=(32, 32)))
    write_blocks(folder / "gap.czi", blocks[:1] + blocks[-1:])  # tiles in two corners
    size = "--patch-size", "40,40", "--overlap", "8"
    run("export", "gap.czi", "--for-prediction", *size, "--out", "g.patches.zarr")
    said = run("stitch", "g.patches.zarr", "--predictions", "g.patches.zarr", "--out", "g.ome.zarr")
    with open_stack(folder / "gap.czi") as stack:
        truth = stack.extract_patch(0, None, (0, 0), (64, 160))
    assert np.count_nonzero(truth) == 2 * 32 * 32
    back = zarr.open_group("g.ome.zarr", mode="r")["0"][:]
    assert np.array_equal(np.squeeze(back), truth[0])
    assert "the rest, of which the files have no pixels, has the fill value" in said
    assert "--for-prediction" not in said


def test_names_of_channels_are_in_quotes_as_in_an_export(folder: Path) -> None:
    run("export", "a.tif", "--for-prediction", "--out", "a.patches.zarr")
    with PatchSet("a.patches.zarr") as patches:
        np.save("p.npy", np.repeat(patches["all"][:], 2, axis=1))
    words = "stitch", "a.patches.zarr", "--predictions", "p.npy", "--out", "a.ome.zarr"
    assert '3 channel names ("a, b",c,d)' in run(
        *words, "--channel-names", '"a, b",c,d', fails=True
    )
    run(*words, "--channel-names", '"a, b", 405')
    with open_stack("a.ome.zarr") as stack:
        assert [each.name for each in stack.metadata.channels] == ["a, b", "405"]


def test_the_selection_that_a_set_was_made_with_is_named_as_the_cause(folder: Path) -> None:
    write(folder / "t.tif", np.stack([IMAGE] * 6), metadata={"axes": "TYX"})
    run("export", "t.tif", "--for-prediction", "--select", "T=2:3", "--out", "t.patches.zarr")
    said = run("stitch", "t.patches.zarr", "--predictions", "t.patches.zarr", "--out", "t.ome.zarr")
    assert "patches cover 16.67 % of it" in said
    assert "the set has only --select T=2:3; a set of all pixels" in said
    assert "export --for-prediction, without that." in said


def test_an_axis_of_one_index_does_not_name_an_image(folder: Path) -> None:
    make_czi(folder / "b.czi", [SceneSpec(None, (0, 0, 64, 64), more={"B": 1})])
    run("export", "b.czi", "--for-prediction", "--out", "b.patches.zarr")
    run("stitch", "b.patches.zarr", "--predictions", "b.patches.zarr", "--out", "s.ome.zarr")
    assert "B0" not in json.dumps(dict(zarr.open_group("s.ome.zarr", mode="r").attrs))
    make_czi(folder / "b.czi", [SceneSpec(None, (0, 0, 64, 64), more={"B": 2})])
    run("export", "b.czi", "--for-prediction", "--out", "c.patches.zarr")
    run("stitch", "c.patches.zarr", "--predictions", "c.patches.zarr", "--out", "c.ome.zarr")
    images = (zarr.open_group(f"c.ome.zarr/{i}", mode="r").attrs["ome"] for i in range(2))
    assert [each["multiscales"][0]["name"] for each in images] == ["B0", "B1"]
