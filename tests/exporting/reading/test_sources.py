"""Sets of files are one source, however named; the mask that is a region is named by content."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import ExportPlan, Tiled, expand_sources, export, iter_export, verify
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.plans.region_files import file_region
from napari_patchset.patching.splits.split import Split
from napari_patchset.stacks.opening import list_scenes
from support.czi_maker import MakeCzi, SceneSpec
from support.set_makers import SET_KINDS, names_of, write_sets
from support.tiff_maker import write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


def cut(paths: Sequence[Path], out: Path, **fields: Any) -> dict[str, set[int]]:
    """Export images, verify the set, and return the checksums in each split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = ExportPlan(
            sources=expand_sources(paths), strategy=Tiled(size=(16, 16)), out=out, **fields
        )
        export(plan, overwrite=True)
        assert list(verify(out)) == []
    table = pq.read_table(out / "patches.parquet").to_pylist()
    splits: dict[str, list[int]] = {}
    for row in table:
        if row["kept"]:
            splits.setdefault(row["split"], []).append(row["checksum"])
    checksums = [checksum for each in splits.values() for checksum in each]
    assert len(set(checksums)) == len(checksums)
    return {split: set(each) for split, each in splits.items()}


@pytest.fixture(scope="module")
def cut_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], set[int]]:
    """Return the checksums of a set of a kind, named by one of its files."""

    @cache
    def cut_once(kind: str) -> set[int]:
        first = min(path for path in (folder / kind).iterdir() if path.is_file())
        return cut([first], tmp_path_factory.mktemp("once") / "set.patches.zarr")["all"]

    return cut_once


@pytest.mark.parametrize("kind", SET_KINDS)
@settings(max_examples=settings.default.max_examples // 4)  # each exports twice
@given(data=st.data())
def test_a_set_is_cut_once_however_it_is_named(
    kind: str,
    data: st.DataObject,
    folder: Path,
    cut_once: Callable[[str], set[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    named = data.draw(names_of(folder, kind))
    out = tmp_path_factory.mktemp("out") / "set.patches.zarr"
    assert cut(named, out) == {"all": cut_once(kind)}
    split = cut(named, out, split=Split(val=0.3))
    assert split["train"] | split["val"] == cut_once(kind)
    assert not split["train"] & split["val"]


def test_files_of_a_set_are_one_source_and_nothing_is_said(folder: Path) -> None:
    paths = sorted((folder / "position").glob("*.tif"))
    first, *others = paths
    refs = expand_sources([others[1], first, others[0]])
    assert [(ref.path, ref.scene) for ref in refs] == [(str(others[1]), i) for i in range(3)]
    assert expand_sources([f"{others[1]}@1", f"{first}@1"]) == [refs[1]]


def test_the_scene_in_a_file_comes_first(folder: Path) -> None:
    for i, path in enumerate(sorted((folder / "position").glob("*.tif"))):
        scenes = list_scenes(path)
        assert scenes[0].id == i
        assert sorted(str(scene.name) for scene in scenes) == ["image 0", "image 1", "image 2"]


def test_a_file_that_is_named_twice_is_cut_once_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((40, 40), np.uint8))
    link = tmp_path / "b.tif"
    link.symlink_to(path)
    for again in (path, link):
        with pytest.warns(UserWarning, match=f"{again} is named twice; its patches are cut once"):
            assert len(expand_sources([path, again])) == 1


def test_a_copy_is_cut_once_with_a_warning(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (32, 32), np.uint8)
    paths = [write(tmp_path / name, pixels) for name in ("a.tif", "b.tif")]
    plan = ExportPlan(
        sources=paths, strategy=Tiled(size=(16, 16)), out=tmp_path / "set.patches.zarr"
    )
    with pytest.warns(
        UserWarning, match=r"b\.tif holds pixels of .*a\.tif; the same pixels are cut"
    ):
        patches = export(plan)
    assert len(patches["all"]) == 4
    assert len(patches.manifest.sources) == 1


def test_copies_of_different_parts_of_a_set_are_refused(folder: Path, tmp_path: Path) -> None:
    paths = sorted((folder / "time").glob("*.tif"))
    for name, part in (("a", paths[:2]), ("b", paths[1:])):
        (tmp_path / name).mkdir()
        for path in part:
            shutil.copy(path, tmp_path / name)
    with pytest.raises(ExportError, match="have files in common, but neither has all"):
        cut(
            [tmp_path / "a" / paths[0].name, tmp_path / "b" / paths[2].name],
            tmp_path / "s.patches.zarr",
        )


def test_the_same_pixels_in_other_files_are_found_by_verify(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 255, (48, 48), np.uint8)
    pixels[:16, :16] = 7  # one value is no repetition
    paths = [
        write(tmp_path / "a.tif", pixels),
        write(tmp_path / "b.tif", pixels, compression="zlib"),
    ]
    plan = ExportPlan(
        sources=paths,
        strategy=Tiled(size=(16, 16)),
        split=Split(val=0.5, by="file"),
        out=tmp_path / "set.patches.zarr",
    )
    export(plan)
    (finding,) = verify(plan.out)
    assert finding.name == "same pixels in two splits"
    assert "8 patches of val/image hold the same pixels as one of train/image" in finding.message
    assert "patch 1 of train/image and patch 1 of val/image" in finding.message


def test_a_folder_stands_for_the_images_in_it(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "10.tif", np.zeros((20, 20), np.uint8))
    write(tmp_path / "9.tif", np.ones((20, 20), np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "old.patches.zarr").mkdir()
    names = [Path(ref.path).name for ref in expand_sources([tmp_path])]
    assert names == ["9.tif", "10.tif"]
    assert len(expand_sources([folder / "position"])) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="there is no image in this folder"):
        expand_sources([tmp_path / "empty"])


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Write a mask of which the left half is not zero."""
    pixels = np.zeros((50, 70), np.uint8)
    pixels[:, :32] = 7
    tifffile.imwrite(tmp_path / "mask.tif", pixels)
    return tmp_path / "mask.tif"


def masked(image: Path, mask: Path, name: str) -> ExportPlan:
    strategy = Tiled(size=(16, 16), region=file_region(str(mask)))
    return ExportPlan(sources=[image], strategy=strategy, out=mask.parent / name)


def test_a_mask_elsewhere_gives_the_same_set(czi: MakeCzi, mask: Path) -> None:
    image, sets = czi(SceneSpec(rect=(0, 0, 70, 50))), []
    for i in range(2):
        plan = masked(image, mask, f"{i}.patches.zarr")
        with closing(export(plan)) as made:
            assert {row["x_start"] for row in made.table.to_pylist()} == {0, 16}
            sets.append(made.manifest)
        mask = mask.rename(mask.parent / "moved.tif")
    assert sets[0] == sets[1]


def test_a_mask_that_has_changed_is_refused(czi: MakeCzi, mask: Path) -> None:
    plan = masked(czi(SceneSpec(rect=(0, 0, 70, 50))), mask, "a.patches.zarr")
    tifffile.imwrite(mask, np.ones((50, 70), np.uint8))
    with pytest.raises(ExportError, match=r"mask\.tif has changed"):
        next(iter_export(plan))


def test_a_recipe_alone_does_not_know_where_the_mask_lies(czi: MakeCzi, mask: Path) -> None:
    plan = masked(czi(SceneSpec(rect=(0, 0, 70, 50))), mask, "a.patches.zarr")
    there = plan.model_copy(update={"strategy": plan.recipe.strategy})
    with pytest.raises(ExportError, match="does not say where the file of its region"):
        next(iter_export(there))
    assert there.recipe.hash == plan.recipe.hash
