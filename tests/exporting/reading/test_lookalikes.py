"""Files that differ in bytes that no fingerprint samples: masks, dark frames, sparse images."""

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_patchset import (
    ExportPlan,
    PatchSet,
    Random,
    Tiled,
    export,
    finalize_export,
    iter_export,
    plan_export,
    score_job,
    verify,
    write_job,
)
from napari_patchset.errors import ExportError, SkippedSourcesWarning
from napari_patchset.exporting.plans.source_files import sequence_source
from napari_patchset.exporting.reading.sources import describe_sources
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.verdicts import Override
from napari_patchset.stacks import fingerprint
from napari_patchset.stacks.fingerprint import fingerprint_of, is_detailed
from napari_patchset.training.lazy import LazyPatchSet
from support.counting import Reads
from support.czi_maker import SceneSpec, blocks_of, write_blocks
from support.web import serve

SIZE = 512
"""Of an image; so few of its bytes are sampled that a pixel is likely to be none of them."""

AT = 150, 40
"""A pixel that is not sampled, whatever the format is."""


def pixels(*bright: tuple[int, int]) -> NDArray[np.uint16]:
    image = np.zeros((SIZE, SIZE), np.uint16)
    for i, at in enumerate(bright):
        image[at] = i + 1
    return image


def write_tiff(path: Path, image: NDArray[np.uint16]) -> Path:
    tifffile.imwrite(path.with_suffix(".tif"), image, metadata=None)
    return path.with_suffix(".tif")


def write_czi(path: Path, image: NDArray[np.uint16]) -> Path:
    path, scene = path.with_suffix(".czi"), SceneSpec(rect=(0, 0, SIZE, SIZE))
    write_blocks(path, [replace(block, pixels=image) for block in blocks_of([scene])], None)
    return path


def write_zarr(path: Path, image: NDArray[np.uint16]) -> Path:
    path = path.with_suffix(".zarr")
    zarr.create_array(
        path,
        data=image,
        chunks=image.shape,
        dimension_names=["y", "x"],
        compressors=None,
        config={"write_empty_chunks": True},
    )
    return path


WRITERS: dict[str, Callable[[Path, NDArray[np.uint16]], Path]] = {
    "tiff": write_tiff, "czi": write_czi, "zarr": write_zarr,
}  # fmt: skip


def write_three(folder: Path, kind: str = "tiff") -> tuple[Path, Path, Path]:
    """Write an image, one that looks like it, and a copy of the first."""
    folder.mkdir(exist_ok=True)
    first = WRITERS[kind](folder / "a", pixels())
    other = WRITERS[kind](folder / "b", pixels(AT))
    copy = first.with_name(f"c{first.suffix}")
    (shutil.copytree if first.is_dir() else shutil.copy)(first, copy)
    return first, other, copy


def plan_of(sources: Sequence[object], out: Path, **fields: object) -> ExportPlan:
    fields = {"strategy": Tiled(size=(256, 256)), **fields}
    return ExportPlan.model_validate({"sources": sources, "out": out, **fields})


def names_in(made: PatchSet) -> list[str]:
    return [Path(str(ref["path"])).stem for ref in made.provenance.sources]


def planning_stages(plan: ExportPlan) -> list[str]:
    """Plan an export, and return the stages that it tells of."""
    stages: list[str] = []
    with closing(iter_export(plan)) as events:
        while "plan" not in stages:
            stages.append(next(events).stage)
    return stages


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, SIZE * SIZE - 1), min_size=2, max_size=6))
def test_every_image_with_other_pixels_is_exported(
    tmp_path_factory: pytest.TempPathFactory, places: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("sparse")
    paths = [write_tiff(folder / str(i), pixels(divmod(at, SIZE))) for i, at in enumerate(places)]
    plan = plan_of(paths, folder / "set.patches.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with closing(export(plan)) as made:
            assert len(made.manifest.sources) == len(set(places))
            assert len({source.key for source in made.manifest.sources}) == len(set(places))
            assert made["all"][:].astype(bool).sum() == len(set(places))
    assert list(verify(plan.out)) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_copy_is_cut_once_and_what_looks_like_one_is_cut(tmp_path: Path, kind: str) -> None:
    first, other, copy = write_three(tmp_path / "images", kind)
    (alone,) = {
        describe_sources(plan_of([path], tmp_path / "x.patches.zarr"))[0].key
        for path in (first, other)
    }
    plan = plan_of(
        [first, other, copy], tmp_path / "a.patches.zarr",
        strategy=Random(size=(64, 64), count=5), split=Split(val=0.5, by="file"),
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"c\.\w+ holds pixels of .*a\.\w+; the same pixels"):
        made = export(plan)
    with closing(made):
        assert names_in(made) == ["a", "b"]
        keys = [source.key for source in made.manifest.sources]
        assert all(map(is_detailed, keys))
        assert len(set(keys)) == 2
        assert {fingerprint_of(key) for key in keys} == {alone}
        assert {str(row["source"]) for row in made.table.to_pylist()} == set(keys)
        starts: dict[str, list[int]] = {key: [] for key in keys}
        for row in made.table.to_pylist():
            starts[row["source"]].append(row["y_start"])
        assert starts[keys[0]] != starts[keys[1]]
    assert list(verify(plan.out)) == []


def test_the_order_of_the_sources_changes_no_patch(tmp_path: Path) -> None:
    first, other, _ = write_three(tmp_path / "images")
    starts, strategy = [], Random(size=(64, 64), count=5)
    for name, paths in (("a", [first, other]), ("b", [other, first])):
        plan = plan_of(paths, tmp_path / f"{name}.patches.zarr", strategy=strategy)
        with closing(export(plan)) as made:
            rows = made.table.to_pylist()
        starts.append({(row["source"], row["y_start"], row["x_start"]) for row in rows})
    assert starts[0] == starts[1]


def test_only_files_that_look_alike_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, _ = write_three(tmp_path / "images")
    third = write_tiff(tmp_path / "images" / "d", pixels((0, 0)))
    reads = Reads(tmp_path, monkeypatch)
    stages = planning_stages(plan_of([first, third], tmp_path / "a.patches.zarr"))
    assert "compare" not in stages
    sampled = dict(reads)
    reads.clear()
    stages = planning_stages(plan_of([first, other, third], tmp_path / "b.patches.zarr"))
    assert "compare" in stages
    assert reads["a.tif"] > sampled["a.tif"]
    assert reads["d.tif"] == sampled["d.tif"]


def test_comparing_can_be_cancelled(tmp_path: Path) -> None:
    first, other, _ = write_three(tmp_path / "images")
    events = iter_export(plan_of([first, other], tmp_path / "a.patches.zarr"))
    for event in events:
        if event.stage == "compare":
            break
    events.close()
    with closing(export(plan_of([first, other], tmp_path / "a.patches.zarr"))) as made:
        assert names_in(made) == ["a", "b"]


def test_sequences_and_remote_images_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sequences = []
    for name, places in (("a", []), ("b", [AT])):
        paths = [write_tiff(tmp_path / name / "t0", pixels((0, 0)))]
        paths.append(write_tiff(tmp_path / name / "t1", pixels(*places)))
        sequences.append(sequence_source(paths, "T"))
    with pytest.raises(ExportError, match="have files in common"):  # the first one of each
        export(plan_of(sequences, tmp_path / "a.patches.zarr"))
    write_tiff(tmp_path / "b" / "t0", pixels((0, 1)))
    with closing(export(plan_of(sequences, tmp_path / "a.patches.zarr"))) as made:
        assert len(made.manifest.sources) == 2
        assert len({source.key for source in made.manifest.sources}) == 2
    assert list(verify(tmp_path / "a.patches.zarr")) == []
    write_three(tmp_path / "www", "zarr")
    with serve(tmp_path / "www") as server:
        urls = [f"{server.url}/{name}.zarr" for name in "abc"]
        plan = plan_of(urls, tmp_path / "b.patches.zarr")
        with pytest.warns(UserWarning, match="the same pixels"), closing(export(plan)) as made:
            assert names_in(made) == ["a", "b"]
        assert list(verify(plan.out)) == []


def test_a_change_of_what_no_fingerprint_samples_is_seen_where_sources_were_told_apart(
    tmp_path: Path,
) -> None:
    first, other, _ = write_three(tmp_path / "images")
    plan = plan_of([first, other], tmp_path / "a.patches.zarr")
    planning_stages(plan)
    os.utime(other, (1, 1))  # a copy has another time, too
    lazy = LazyPatchSet(plan.model_copy(update={"out": str(tmp_path / "l.patches.zarr")}))
    assert len(lazy["all"]) == 8
    assert lazy["all"][:].any()
    lazy.close()
    shutil.copyfile(write_tiff(tmp_path / "new", pixels((200, 60))), other)
    with pytest.warns(SkippedSourcesWarning, match=r"b\.tif has changed"):
        export(plan).close()
    export(plan, overwrite=True).close()
    shutil.copyfile(first, other)
    assert {finding.name for finding in verify(plan.out)} == {"changed source"}


def test_choices_made_by_hand_before_are_refused(tmp_path: Path) -> None:
    first, other, _ = write_three(tmp_path / "images")
    (alone,) = describe_sources(plan_of([first], tmp_path / "x.patches.zarr"))
    chosen = Override(source=alone.key, sample=0, start=(0, 0), keep=False)
    plan = plan_of([first, other], tmp_path / "a.patches.zarr", overrides=[chosen])
    with pytest.raises(ExportError, match=r"a\.tif has the fingerprint of another .* choose them"):
        export(plan)
    with closing(export(plan_of([first, other], tmp_path / "b.patches.zarr"))) as made:
        told = [source.key for source in made.manifest.sources]
    chosen = chosen.model_copy(update={"source": told[0]})
    plan = plan.model_copy(update={"overrides": (chosen,)})
    with closing(export(plan)) as made:
        kept = [row["source"] for row in made.table.to_pylist() if row["kept"]]
        assert [kept.count(key) for key in told] == [3, 4]


def test_a_source_that_can_not_be_compared_is_skipped_like_one_that_can_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, _ = write_three(tmp_path / "images")
    read = fingerprint._read_digest

    def failing(path: Path, advance: fingerprint.Advance) -> str:
        if path.name == "b.tif":
            raise PermissionError(13, "no", str(path))
        return read(path, advance)

    monkeypatch.setattr(fingerprint, "_read_digest", failing)
    with pytest.warns(SkippedSourcesWarning, match=r"b\.tif"):
        made = export(plan_of([first, other], tmp_path / "a.patches.zarr"))
    with closing(made):
        assert names_in(made) == ["a"]
        assert not is_detailed(made.manifest.sources[0].key)


def score_then_write(plan: ExportPlan, replace: Callable[[], object]) -> None:
    plan_export(plan, overwrite=True)
    assert score_job(plan.out, 0, 1) == ()
    replace()
    assert write_job(plan.out, 0, 1) == ()


def test_a_file_that_is_replaced_between_scoring_and_the_end_is_seen_by_its_metrics(
    tmp_path: Path,
) -> None:
    first, other, copy = write_three(tmp_path / "images")

    def replace_by(path: Path, time: int) -> None:
        shutil.copyfile(path, first)
        os.utime(first, (time, time))

    plan = plan_of([first], tmp_path / "a.patches.zarr", filters=["std<5"])
    score_then_write(plan, lambda: replace_by(copy, 1))
    finalize_export(plan.out)
    assert list(verify(plan.out)) == []
    plan = plan.model_copy(update={"out": str(tmp_path / "b.patches.zarr")})
    score_then_write(plan, lambda: replace_by(other, 2))
    with pytest.raises(ExportError, match=r"a\.tif has changed since the export began"):
        finalize_export(plan.out)


def test_a_chunk_that_is_replaced_after_scoring_is_seen_by_verify(tmp_path: Path) -> None:
    """A folder has no time of its own, so that nothing tells the export of it."""
    first, other, _ = write_three(tmp_path / "images", "zarr")
    plan = plan_of([first], tmp_path / "a.patches.zarr", filters=["std<5"])
    score_then_write(plan, lambda: shutil.copytree(other, first, dirs_exist_ok=True))
    finalize_export(plan.out)
    (found,) = verify(plan.out)
    assert found.name == "differs from source"
    assert "std_Channel 0 of patches of" in found.message
    assert "are not those of its pixels" in found.message
