"""open_stack and list_scenes: content before suffix, scenes by id, one clear error."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset import CziImageStack, ImageStack, list_scenes, open_stack
from napari_patchset.errors import ArgumentError, MissingAxisError, UnreadableFileError
from napari_patchset.stacks import cache
from napari_patchset.stacks.czi import scenes
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml

LEFT = SceneSpec(3, (-50, 4, 20, 10), t=2, z=3)
RIGHT = SceneSpec(7, (80, -6, 12, 14), c=2, kind="Gray8")


def test_the_only_scene_needs_no_choice(czi: MakeCzi) -> None:
    with open_stack(czi(LEFT)) as stack:
        assert isinstance(stack, ImageStack)
        assert stack.source.name == "image.czi@3"
        assert list(stack.data_shape) == [6, 1, 10, 20]


def test_a_file_without_scenes_needs_no_choice(czi: MakeCzi) -> None:
    path = czi(SceneSpec(None))
    with open_stack(str(path)) as stack:
        assert stack.source == path


def test_several_scenes_without_a_choice_are_listed(czi: MakeCzi) -> None:
    path = czi(LEFT, RIGHT, xml=metadata_xml(scenes={3: "Liver"}))
    with pytest.raises(ValueError, match=r"2 scenes; choose one: 3 \(Liver\), 7 \(Scene 7\)"):
        open_stack(path)


@pytest.mark.parametrize("suffix", ["", "@7"])
def test_a_scene_is_chosen_by_id_or_in_the_name(czi: MakeCzi, suffix: str) -> None:
    path = czi(LEFT, RIGHT)
    with open_stack(f"{path}{suffix}", scene=None if suffix else 7) as stack:
        patch = stack.extract_patch(0, [1], (0, 0), (14, 12))[0]
    np.testing.assert_array_equal(patch, RIGHT.pixels({"T": 0, "Z": 0, "C": 1}))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"scene": 4}, "no scene 4; its scenes are 3, 7"),
        ({"scene": "Liver"}, "no scene '?Liver"),
        ({"scene": 7, "depth_axis": "H"}, "depth_axis is 'H'"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(
    czi: MakeCzi, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ArgumentError, match=reason):
        open_stack(czi(LEFT, RIGHT), **arguments)


def test_a_scene_named_twice_is_refused(czi: MakeCzi) -> None:
    with pytest.raises(ValueError, match="name it once"):
        open_stack(f"{czi(LEFT, RIGHT)}@3", scene=3)


def test_a_file_with_an_at_in_its_whole_name_is_that_file(czi: MakeCzi) -> None:
    czi(LEFT, RIGHT)
    path = czi(SceneSpec(0, (0, 0, 9, 8)), name="image.czi@3")
    with open_stack(path) as stack:
        assert list(stack.data_shape) == [1, 1, 8, 9]


def test_the_depth_axis_reaches_the_stack(czi: MakeCzi) -> None:
    path = czi(LEFT, RIGHT)
    with open_stack(path, 3, "Z") as stack:
        assert list(stack.data_shape) == [2, 1, 3, 10, 20]
    with pytest.raises(MissingAxisError, match=r"image\.czi@7 does not contain a Z axis"):
        open_stack(path, 7, "Z")


@pytest.mark.parametrize("name", ["image.dat", "image", "image.tif", "IMAGE.CZI"])
def test_content_comes_before_the_suffix(czi: MakeCzi, name: str) -> None:
    with open_stack(czi(name=name)) as stack:
        assert isinstance(stack, CziImageStack)


def test_a_file_of_no_known_kind_is_refused_with_what_can_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    for call in (open_stack, list_scenes):
        with pytest.raises(
            UnreadableFileError,
            match=r"\.txt files can.t be read; CZI, TIFF, zarr can\. .*to OME-TIFF",
        ):
            call(path)


def test_a_known_suffix_on_other_content_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.czi"
    path.write_text("no image")
    with pytest.raises(UnreadableFileError, match=r"notes\.czi: not a CZI file"):
        open_stack(path)


@pytest.mark.parametrize("name", ["nowhere.czi", "nowhere.czi@2", "no/where"])
def test_a_missing_file_is_file_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="where"):
        open_stack(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="the system has no such permissions")
def test_a_file_that_may_not_be_read_is_permission_error(czi: MakeCzi) -> None:
    path = czi()
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything
    try:
        with pytest.raises(PermissionError, match=r"image\.czi"):
            open_stack(path)
    finally:
        os.seteuid(user)


def test_scenes_are_listed_with_id_name_position_and_size(czi: MakeCzi) -> None:
    path = czi(LEFT, RIGHT, tile=(8, 8), xml=metadata_xml(scenes={3: "Liver & <lung>"}))
    left, right = list_scenes(path)
    assert (left.id, left.name, left.rect) == (3, "Liver & <lung>", (-50, 4, 20, 10))
    assert (left.axes, left.shape, left.dtype) == ("TZCYX", (2, 3, 1, 10, 20), "uint16")
    assert (right.id, right.name, right.rect) == (7, "Scene 7", (80, -6, 12, 14))
    assert (right.axes, right.shape, right.dtype) == ("TZCYX", (1, 1, 2, 14, 12), "uint8")


def test_a_file_without_scenes_lists_the_one_that_has_no_id(czi: MakeCzi) -> None:
    (only,) = list_scenes(str(czi(SceneSpec(None, (5, 6, 20, 10)), name="plain.czi")))
    assert (only.id, only.name, only.rect) == (None, "plain", (5, 6, 20, 10))


def test_every_listed_scene_opens_with_the_shape_that_was_listed(czi: MakeCzi) -> None:
    path = czi(LEFT, RIGHT)
    for scene in list_scenes(path):
        with open_stack(path, scene.id) as stack:
            assert (stack.original_axes, stack.original_data_shape) == (scene.axes, scene.shape)


def test_the_same_file_has_the_same_answer_after_hundreds_of_openings(czi: MakeCzi) -> None:
    path = czi(LEFT)
    for _ in range(200):
        open_stack(path).close()
        with pytest.raises(ArgumentError):
            open_stack(path, 9)
    assert [scene.id for scene in list_scenes(path)] == [3]


def test_a_structure_is_read_once_until_the_file_changes(
    czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = czi(LEFT), []
    read = scenes.read_parts
    monkeypatch.setattr(scenes, "read_parts", lambda path: reads.append(path) or read(path))
    list_scenes(path)
    list_scenes(path)
    assert len(reads) == 2, "a file just written may change without a change of its timestamps"
    monkeypatch.setattr(cache, "time", lambda: path.stat().st_mtime + 60)
    list_scenes(path)
    open_stack(path).close()
    assert len(reads) == 3
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError):
        list_scenes(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list_scenes(path)
