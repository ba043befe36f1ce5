"""A CZI in several files: one source by any of its files, and what is absent is named."""

import os
import pickle
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset import (
    CziImageStack,
    ExportPlan,
    Tiled,
    expand_sources,
    export,
    list_scenes,
    open_stack,
)
from napari_patchset.errors import MissingAxisError, UnreadableFileError
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_absent, list_files
from support.czi_maker import (
    Block,
    SceneSpec,
    blocks_of,
    jpegxr,
    metadata_xml,
    write_blocks,
    write_parts,
)

SCENES = (
    SceneSpec(0, (-20, 7, 64, 48), z=3, c=2),
    SceneSpec(1, (100, 0, 40, 40), z=3, c=2, kind="Gray8"),
)
XML = metadata_xml({"X": 1e-7}, {"Channel:0": "DAPI", "Channel:1": "GFP"})


def in_parts(n: int = 3) -> list[Block]:
    """Deal the subblocks of the scenes out to files, each plane to one."""
    blocks = blocks_of(SCENES, (24, 32))
    return [replace(block, part=block.plane["Z"] % n) for block in blocks]


@pytest.fixture
def whole_file(tmp_path: Path) -> Path:
    path = tmp_path / "whole.czi"
    write_blocks(path, list(blocks_of(SCENES, (24, 32))), XML)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "set").mkdir()
    return write_parts(tmp_path / "set" / "image.czi", in_parts(), XML)


def images(path: Path) -> list[NDArray[Any]]:
    """Read every scene, SCZYX."""
    read = []
    for scene in list_scenes(path):
        with CziImageStack(path, scene.id, "Z") as stack:
            samples = range(stack.data_shape[0])
            size = stack.data_shape[2:]
            read.append(np.stack([stack.extract_patch(s, None, (0, 0, 0), size) for s in samples]))
    return read


def assert_equal(read: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]) -> None:
    assert len(read) == len(wanted)
    for one, other in zip(read, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("directories", ["master", "each", "scan"])
@pytest.mark.parametrize("member", range(3))
def test_it_is_the_same_image_as_in_one_file_by_any_member(
    tmp_path: Path, whole_file: Path, directories: Any, member: int
) -> None:
    paths = write_parts(tmp_path / "image.czi", in_parts(), XML, directories)
    assert [path.name for path in paths] == ["image.czi", "image (1).czi", "image (2).czi"]
    assert_equal(images(paths[member]), images(whole_file))
    assert list(list_files(paths[member])) == paths
    assert not list_absent(paths[member])
    with open_stack(paths[member], 0) as one, open_stack(whole_file, 0) as other:
        assert one.metadata == other.metadata
        assert one.missing_planes == other.missing_planes == frozenset()


def test_its_key_is_that_of_its_content_whichever_member_is_named(
    files: list[Path], tmp_path: Path
) -> None:
    copies = shutil.copytree(files[0].parent, tmp_path / "copy")
    keys = set()
    for path in (*files, *copies.iterdir()):
        with open_stack(path, 0) as stack:
            keys.add(describe(stack).key)
    assert len(keys) == 1


def test_a_set_of_patches_of_all_its_files_has_each_patch_once(
    files: list[Path], whole_file: Path, tmp_path: Path
) -> None:
    def patches(paths: Sequence[Path], name: str) -> NDArray[Any]:
        sources = expand_sources(paths, scene=0)
        plan = ExportPlan(sources=sources, out=tmp_path / name, strategy=Tiled(size=(16, 16)))
        with export(plan) as made:
            return np.asarray(made["all"][:])

    split = patches([files[1], files[0], files[2]], "a.patches.zarr")
    np.testing.assert_array_equal(split, patches([whole_file], "b.patches.zarr"))


def test_an_absent_part_is_named_and_the_rest_opens(files: list[Path], whole_file: Path) -> None:
    files[1].unlink()
    for path in (files[0], files[2]):
        assert list_absent(path) == ("image (1).czi",)
        with pytest.warns(UserWarning, match=r"'image \(1\)\.czi' of this CZI is not in its"):
            read = images(path)
        wanted = images(whole_file)
        for each in wanted:
            each[:, :, 1] = 0
        assert_equal(read, wanted)
        with pytest.warns(UserWarning, match="is missing"), CziImageStack(path, 0, "Z") as stack:
            assert (0, 0, 1) in stack.missing_planes


@pytest.mark.filterwarnings("ignore:.*is not in its folder")
@pytest.mark.parametrize("directories", ["each", "scan"])
def test_without_the_master_the_parts_are_read(
    tmp_path: Path, whole_file: Path, directories: Any
) -> None:
    paths = write_parts(tmp_path / "image.czi", in_parts(), XML, directories)
    paths[0].unlink()
    wanted = [each[:, :, 1:] for each in images(whole_file)]
    for path in paths[1:]:
        assert list_absent(path) == ("image.czi",)
        assert_equal(images(path), wanted)


def test_a_part_that_has_another_name_is_read_alone(files: list[Path]) -> None:
    alone = files[1].rename(files[1].with_name("renamed.czi"))
    with CziImageStack(alone, 0) as stack:
        assert stack.data_shape == [1, 2, 48, 64]
        assert stack.starts["Z"] == 1


def test_a_copy_with_a_number_is_no_part(whole_file: Path) -> None:
    """As browsers name the second download of a file."""
    copy = shutil.copy(whole_file, whole_file.with_name("whole (1).czi"))
    assert list(list_files(whole_file)) == [whole_file]
    assert list(list_files(copy)) == [copy]
    assert_equal(images(copy), images(whole_file))


@pytest.mark.filterwarnings("ignore:.*is not in its folder")
def test_a_part_of_another_image_is_not_taken(files: list[Path]) -> None:
    data = bytearray(files[1].read_bytes())
    data[32 + 16] ^= 255
    files[1].write_bytes(data)
    assert list_absent(files[0]) == ("image (1).czi",)


def test_a_damaged_part_is_one_named_error(files: list[Path]) -> None:
    data = files[2].read_bytes()
    files[2].write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableFileError, match=r"cut short|reaches past the end"):
        CziImageStack(files[0])


def test_pixels_that_are_all_absent_are_refused(tmp_path: Path) -> None:
    blocks = [replace(block, part=1) for block in blocks_of(SCENES)]
    master, part = write_parts(tmp_path / "image.czi", blocks)
    part.unlink()
    with pytest.raises(UnreadableFileError, match=r"all of its pixels are in image \(1\)\.czi"):
        CziImageStack(master)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_to_any_member_opens_all(files: list[Path], tmp_path: Path) -> None:
    for number, path in enumerate(files):
        link = tmp_path / f"link{number}.czi"
        link.symlink_to(path)
        assert_equal(images(link), images(files[0]))


def test_it_pickles_with_relative_names(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(files[0].parent)
    size = (3, 48, 64)
    with CziImageStack(files[1].name, 0, "Z") as stack:
        wanted = stack.extract_patch(0, None, (0, 0, 0), size)
        monkeypatch.chdir(tmp_path)
        with pickle.loads(pickle.dumps(stack)) as copy:
            np.testing.assert_array_equal(copy.extract_patch(0, None, (0, 0, 0), size), wanted)


def test_lower_resolutions_are_of_all_files(tmp_path: Path) -> None:
    scene = SceneSpec(0, (0, 0, 1100, 70), kind="Gray8", pyramid=True)
    blocks = [jpegxr(block) for block in blocks_of([scene], (70, 300))]
    blocks = [replace(block, part=(block.m or 0) % 2) for block in blocks]
    path, *_ = write_parts(tmp_path / "image.czi", blocks)
    with CziImageStack(path) as stack:
        for level in stack.levels:
            assert level.extract_patch(0, None, (0, 0), level.data_shape[-2:]).all()


@pytest.mark.parametrize("directories", ["master", "each", "scan"])
def test_a_damaged_file_of_a_set_is_read_or_refused(tmp_path: Path, directories: Any) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    paths = write_parts(sound / "image.czi", in_parts(), XML, directories)
    outcomes = set()
    for number in range(40):
        random = Random(number)
        folder = shutil.copytree(sound, tmp_path / str(number))
        damaged, opened = (folder / random.choice(paths).name for _ in range(2))
        data = bytearray(damaged.read_bytes())
        for _ in range(4):
            data[random.choice([random.randrange(len(data)), random.randrange(600)])] ^= 255
        damaged.write_bytes(data[: random.choice([len(data), random.randrange(len(data))])])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                images(opened)
            outcomes.add("read")
        except (UnreadableFileError, MissingAxisError):
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
