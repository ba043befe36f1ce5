"""Real CZI files, and what unrelated readers agree that they hold."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset import CziImageStack, list_scenes
from napari_patchset.errors import UnreadableFileError
from support.realdata import REFUSED_CZI

pytestmark = pytest.mark.realdata

REFUSED = REFUSED_CZI


@pytest.fixture
def path(data_dir: Path, czi_truth: dict[str, Any]) -> Path:
    return data_dir / czi_truth["file"]


def scenes(path: Path, truth: dict[str, Any]) -> Iterator[tuple[CziImageStack, dict[str, Any]]]:
    for scene in truth["scenes"]:
        with CziImageStack(path, scene["id"]) as stack:
            yield stack, scene


def colours(scene: dict[str, Any], channel: int) -> int:
    """Return the number of stack channels of a file's channel: 3 for colour."""
    (kind,) = scene["pixel_type_by_channel"][str(channel)]
    return 3 if kind.startswith("Bgr") else 1


def probed(stack: CziImageStack, scene: dict[str, Any], probe: dict[str, Any]) -> NDArray[Any]:
    """Cut a probe out of a stack: YX, or YX and R, G, B."""
    plane = dict(probe["plane"])
    channel, first = plane.pop("C", 0), stack.starts["C"]
    before = sum(colours(scene, c) for c in range(first, channel))
    channels = range(before, before + colours(scene, channel))
    index = [plane.get(a, stack.starts[a]) - stack.starts[a] for a in stack.original_axes[:-3]]
    sample = int(np.ravel_multi_index(index, stack.original_data_shape[:-3])) if index else 0
    patch = stack.extract_patch(
        sample, channels, (probe["y"], probe["x"]), (probe["h"], probe["w"])
    )
    return patch[0] if len(patch) == 1 else np.moveaxis(patch, 0, -1)


def test_every_probe_is_exact(path: Path, czi_truth: dict[str, Any]) -> None:
    for stack, scene in scenes(path, czi_truth):
        for probe in scene["probes"]:
            pixels = probed(stack, scene, probe)
            where = f"scene {scene['id']}, {probe}"
            assert list(pixels.shape) == probe["shape"], where
            if len(scene["dtype"]) == 1:
                assert pixels.dtype == probe["dtype"], where
            native = np.ascontiguousarray(pixels.astype(probe["dtype"]))
            np.testing.assert_array_equal(native, pixels, err_msg=where)
            assert hashlib.sha256(native.tobytes()).hexdigest() == probe["sha256"], where


def test_a_missing_plane_is_known_and_one_that_is_there_is_not_missing(
    path: Path, czi_truth: dict[str, Any]
) -> None:
    for stack, scene in scenes(path, czi_truth):
        per_plane = stack.data_shape[1] // len(scene["pixel_type_by_channel"])
        assert (
            len(stack.missing_planes)
            == (scene["planes_in_range"] - scene["planes_present"]) * per_plane
        )


def test_dimensions_start_and_end_where_they_do(path: Path, czi_truth: dict[str, Any]) -> None:
    for stack, scene in scenes(path, czi_truth):
        sizes = dict(zip(stack.original_axes, stack.original_data_shape, strict=True))
        for axis, dimension in scene["dims"].items():
            assert stack.starts[axis] == dimension["start"]
            if axis != "C":
                assert sizes[axis] == dimension["size"]
        assert stack.data_dtype == np.result_type(*scene["dtype"])
        assert stack.data_shape[2:] == scene["rect_xywh"][:1:-1]


def test_scenes_lie_where_they_do(path: Path, czi_truth: dict[str, Any]) -> None:
    wanted = {scene["id"]: tuple(scene["rect_xywh"]) for scene in czi_truth["scenes"]}
    assert CziImageStack.get_bounding_rectangles(path) == wanted
    assert {scene.id: scene.rect for scene in list_scenes(path)} == wanted


def test_pixel_size_is_that_of_the_metadata(path: Path, czi_truth: dict[str, Any]) -> None:
    wanted = czi_truth["metadata"].get("scale_um", {})
    for stack, _ in scenes(path, czi_truth):
        pixel_size = stack.metadata.pixel_size
        assert {"X": pixel_size.x, "Y": pixel_size.y, "Z": pixel_size.z} == pytest.approx(
            {axis: wanted.get(axis) for axis in "XYZ"}
        )


def test_channels_have_the_names_of_the_metadata(path: Path, czi_truth: dict[str, Any]) -> None:
    metadata = czi_truth["metadata"]
    named = dict(enumerate(metadata.get("channels", [])))
    for channel, name in enumerate(metadata.get("channels_bioformats", [])):
        if named.get(channel, "").startswith("Channel:"):
            named[channel] = name
    for stack, scene in scenes(path, czi_truth):
        wanted: list[str] = []
        for channel in sorted(map(int, scene["pixel_type_by_channel"])):
            if colours(scene, channel) == 3:
                wanted += "RGB"
            else:
                wanted.append(named.get(channel, f"Channel {channel}"))
        assert [c.name for c in stack.metadata.channels] == wanted


def test_scenes_have_the_names_of_the_metadata(path: Path, czi_truth: dict[str, Any]) -> None:
    names = czi_truth["metadata"].get("scene_names", [])
    for scene in list_scenes(path):
        if scene.id is None:
            assert scene.name == path.stem
        else:
            named = names[scene.id] if scene.id < len(names) else None
            assert scene.name == (named or f"Scene {scene.id}")


@pytest.mark.parametrize("file", REFUSED)
def test_what_libczi_can_not_read_whole_is_refused_at_opening(data_dir: Path, file: str) -> None:
    with pytest.raises(UnreadableFileError, match=rf"{Path(file).name}: .*{REFUSED[file]}"):
        CziImageStack(data_dir / file)


def test_a_file_that_killed_a_reader_is_refused_at_opening(data_dir: Path) -> None:
    for path in sorted((data_dir / "bad").glob("*.czi")):
        with pytest.raises(UnreadableFileError, match=path.name):
            CziImageStack(path)
