"""One contract for every format: what was cut comes back. A further one is a line in FORMATS."""

import pickle
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, PatchSet, Tiled, export, open_stack
from napari_patchset.errors import (
    ArgumentError,
    ExportError,
    MissingArrayError,
    UnreadableFileError,
)
from napari_patchset.exporting.plans.image_refs import ImageRef
from napari_patchset.patching.splits.split import Split
from napari_patchset.patchset import layout
from napari_patchset.patchset.writers import FORMATS, npz
from napari_patchset.plugin.reader import get_reader
from support.czi_maker import MakeCzi, metadata_xml
from support.export_makers import SCENES, digests, plan_for

WITH_PIXELS = [name for name, form in FORMATS.items() if form.has_pixels]
SIZES = {"none": (16, 16), "Z": (2, 16, 16)}
XML = metadata_xml({"X": 2.5e-7, "Y": 5e-7, "Z": 2e-6}, {"Channel:0": "DAPI", "Channel:1": "µGFP"})

every_format = pytest.mark.parametrize("form", WITH_PIXELS)
every_depth = pytest.mark.parametrize("depth_axis", SIZES)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every array have several shards."""
    monkeypatch.setattr(layout, "SHARD_BYTES", 12 * 2 * 16 * 16 * 2)


@pytest.fixture
def plan(czi: MakeCzi, tmp_path: Path) -> Any:
    """Plan a set with targets and a split: `plan("tiff", "Z")`."""
    image = czi(*SCENES, name="image.czi", xml=XML)
    deeper = (replace(s, z=range(s.z.start + 10, s.z.stop + 10)) for s in SCENES)
    target = ImageRef(path=str(czi(*deeper, name="target.czi", xml=XML)))

    def made(form: str, depth_axis: str = "none", name: str = "a", **more: Any) -> ExportPlan:
        out = tmp_path / f"{name}{FORMATS[form].suffix}"
        fields = {"strategy": Tiled(size=SIZES[depth_axis]), "split": Split(val=0.4, by="scene")}
        found = plan_for(image, out, format=form, depth_axis=depth_axis, **fields | more)
        paired = [ref.model_copy(update={"target": target}) for ref in found.sources]
        return found.model_copy(update={"sources": tuple(paired)})

    return made


class Sources:
    """Cut patches from their sources by what their rows say."""

    def __init__(self, depth_axis: str) -> None:
        self.depth_axis, self.axes = depth_axis, "yx" if depth_axis == "none" else "zyx"
        self._files = ExitStack()
        self._open = cache(lambda *source: self._files.enter_context(open_stack(*source)))

    def cut(self, path: str, row: dict[str, Any]) -> np.ndarray:
        stack = self._open(path, int(row["scene"]), self.depth_axis)
        start, size = ([row[f"{axis}_{what}"] for axis in self.axes] for what in ("start", "size"))
        return stack.extract_patch(row["sample"], None, start, size)

    def close(self) -> None:
        self._files.close()


@every_format
@every_depth
def test_what_was_cut_comes_back(plan: Any, form: str, depth_axis: str) -> None:
    exported = plan(form, depth_axis)
    with closing(export(exported)) as made, closing(Sources(depth_axis)) as sources:
        assert list(made) == ["train", "train/target", "val", "val/target"]
        for split in made.splits:
            pairs = made.pairs(split)
            assert len(pairs) == len(made[split]) == made.manifest.counts[split] > 6
            for i, found in enumerate(pairs):
                source, row = made.locate(i, split)
                assert (row["array"], row["index"]) == (f"{split}/image", i)
                assert str(source.scene) == row["scene"]
                ref = exported.sources[row["source_index"]]
                for patch, image in zip(found, (ref, ref.target), strict=True):
                    np.testing.assert_array_equal(patch, sources.cut(image.path, row))
                    assert patch.dtype == np.uint16


@every_format
def test_it_is_a_sequence_of_copies_that_pickles(plan: Any, form: str) -> None:
    with closing(export(plan(form))) as made:
        patches = made["val"]
        everything = patches[:]
        np.testing.assert_array_equal(np.stack(list(patches)), everything)
        np.testing.assert_array_equal(patches[-1], everything[len(patches) - 1])
        assert patches[3:3].shape == (0, 2, 16, 16)
        with pytest.raises(IndexError, match="out of bounds"):
            patches[len(patches)]
        patch = patches[2]
        patch[:] = 0
        copies = pickle.loads(pickle.dumps(made.pairs("val")))
        np.testing.assert_array_equal(copies[2][0], everything[2])
        copies.arrays[0].close()


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_plan_gives_the_same_bytes(plan: Any, form: str) -> None:
    first, second = (export(plan(form, name=name, codec="zstd")) for name in "ab")
    assert first.manifest == second.manifest
    with closing(first), closing(second):
        found = digests(first.path)
        assert found == digests(second.path)
        assert "patches.parquet" in found
        assert not [name for name in found if Path(name).name.startswith(".")]


@pytest.mark.parametrize("form", FORMATS)
def test_table_and_manifest_do_not_depend_on_the_format(plan: Any, form: str) -> None:
    with closing(export(plan("zarr", name="zarr"))) as first, closing(export(plan(form))) as other:
        differ = {"array", "index", "checksum"} if form == "coordinates" else set()
        names = [name for name in first.table.column_names if name not in differ]
        assert other.table.select(names).equals(first.table.select(names))
        assert other.manifest.counts == first.manifest.counts
        if form != "coordinates":
            assert other.statistics == first.statistics
            assert other.manifest.arrays == first.manifest.arrays


def test_coordinates_are_located_without_pixels(plan: Any) -> None:
    made = export(plan("coordinates"))
    assert list(made) == []
    assert not made.table["index"].is_valid().to_numpy().any()
    _, row = made.locate(0, "val")
    assert row["split"] == "val"
    with pytest.raises(MissingArrayError, match="no 'val'; it holds no pixels"):
        made.pairs("val")
    assert {path.name for path in made.path.iterdir()} == {"patchset.json", "patches.parquet"}


@every_format
def test_a_file_that_is_missing_is_named(plan: Any, form: str) -> None:
    made = export(plan(form))
    made.close()
    (first, *_) = FORMATS[form].files(made.path, made["val"].layout)
    first.unlink()
    with pytest.raises(UnreadableFileError, match=str(first.relative_to(made.path))):
        PatchSet(made.path)


@every_format
def test_a_file_of_another_length_is_refused(plan: Any, form: str) -> None:
    made = export(plan(form))
    made.close()
    (first, *_) = FORMATS[form].files(made.path, made["val"].layout)
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    with (
        closing(PatchSet(made.path)) as again,
        pytest.raises(UnreadableFileError, match=first.name),
    ):
        again["val"][0]


@every_depth
def test_a_tiff_contains_pixel_size_channels_and_axes(plan: Any, depth_axis: str) -> None:
    with closing(export(plan("tiff", depth_axis))) as made:
        path = made.path / "val" / "image" / "000001.ome.tif"
        with tifffile.TiffFile(path) as tiff:
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
            assert tiff.series[0].axes == ("CYX" if depth_axis == "none" else "CZYX")
            assert [channel["Name"] for channel in pixels["Channel"]] == ["DAPI", "µGFP"]
            assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.5)
            assert pixels["PhysicalSizeXUnit"] == "µm"
            assert pixels.get("PhysicalSizeZ") == (None if depth_axis == "none" else 2)
            tag = tiff.pages[0].tags["XResolution"].value
            assert tag[0] / tag[1] == pytest.approx(4e4)
            np.testing.assert_array_equal(tiff.asarray(), made["val"][1])


def test_napari_shows_a_tiff_at_its_size(plan: Any) -> None:
    made = export(plan("tiff", "Z"))
    path = str(made.path / "val" / "image" / "000001.ome.tif")
    for data, options, kind in get_reader(path)(path):
        assert kind == "image"
        assert options["name"] in ("DAPI", "µGFP")
        assert options["scale"] == [2.0, 0.5, 0.25]
        assert options["units"] == ["um"] * 3
        assert np.asarray(data).shape == (2, 16, 16)


def load_training_data(file: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Hold a file to what CSBDeep 0.8 asserts of it (io, utils.axes_check_and_normalize)."""
    with np.load(file) as f:
        x, y, axes = f["X"], f["Y"], str(f["axes"]).upper()
    assert x.shape == y.shape
    assert len(axes) == x.ndim
    assert set(axes) <= set("STCZYX")
    assert len(set(axes)) == len(axes)
    assert "C" in axes
    assert axes[0] == "S"
    assert len(x) > 0
    return x, y, axes


@every_depth
def test_csbdeep_reads_an_npz(plan: Any, depth_axis: str) -> None:
    with closing(export(plan("npz", depth_axis))) as made:
        for split in made.splits:
            x, y, axes = load_training_data(made.path / f"{split}.npz")
            np.testing.assert_array_equal(x, made[split][:])
            np.testing.assert_array_equal(y, made[f"{split}/target"][:])
            assert axes == ("SCYX" if depth_axis == "none" else "SCZYX")


def test_an_npz_larger_than_memory_is_refused(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "_memory", lambda: 10_000)
    with pytest.raises(ExportError, match=r"GB do not fit .* export a zarr"):
        export(plan("npz", split=None))
    assert not list(tmp_path.glob("*.patches"))


def test_an_npz_of_unlike_pairs_is_refused(plan: Any) -> None:
    with pytest.raises(ExportError, match="X and Y of one shape"):
        export(plan("npz", channels=(1,)))


def test_a_set_is_named_for_its_format(tmp_path: Path) -> None:
    fields = {"sources": ["a.czi"], "strategy": Tiled(size=(8, 8)), "out": tmp_path / "a.zarr"}
    with pytest.raises(ValueError, match=r"must end in \.patches\."):
        ExportPlan(**fields, format="tiff")
    with pytest.raises(ValueError, match="no format 'png'; choose one of zarr, tiff"):
        ExportPlan(**fields, format="png")


@pytest.mark.parametrize("form", FORMATS)
def test_napari_opens_the_set(plan: Any, form: str) -> None:
    made = export(plan(form))
    made.close()
    read = get_reader(str(made.path))
    if form == "coordinates":
        with pytest.raises(ArgumentError, match="no pixels"):
            read(str(made.path))
        return
    layers = read(str(made.path))
    assert [options["name"] for _, options, _ in layers][:2] == ["DAPI (train)", "µGFP (train)"]
    np.testing.assert_array_equal(layers[0][0][1], made["train"][1][0])
    assert layers[0][1]["scale"] == [1.0, 0.5, 0.25]
    made.close()
