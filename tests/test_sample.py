"""The sample file: the same pixels everywhere, written completely or not at all."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from napari_patchset import PatchSet, list_scenes, open_stack
from napari_patchset.cli import main
from napari_patchset.sample import (
    CHANNELS,
    SCENES,
    ensure_sample,
    sample_path,
    sample_plane,
)

TIMES, DEPTHS = 3, 5
DIGEST = "8e49c5d487fc6f00c2670c76383c8cca1968531170c712127258c936b355341a"
"""Of a plane of each scene."""


def test_it_has_scenes_times_depths_and_channels(sample: Path) -> None:
    assert len(SCENES) >= 2
    assert len(CHANNELS) == 2
    for number, scene in enumerate(SCENES):
        with open_stack(sample, number, "Z") as stack:
            assert stack.axes == "SCZYX"
            assert stack.data_shape == [TIMES, len(CHANNELS), DEPTHS, scene.height, scene.width]
            assert stack.data_dtype == np.uint16


def test_its_scenes_have_names_and_positions(sample: Path) -> None:
    listed = list_scenes(sample)
    assert [scene.name for scene in listed] == [scene.name for scene in SCENES]
    assert [scene.rect for scene in listed] == [
        (scene.x, scene.y, scene.width, scene.height) for scene in SCENES
    ]


def test_its_channels_have_names_colours_and_contrast(sample: Path) -> None:
    with open_stack(sample, 0) as stack:
        metadata = stack.metadata
    for channel, wanted in zip(metadata.channels, CHANNELS, strict=True):
        assert channel.name == wanted.name
        assert channel.color == "#{:02x}{:02x}{:02x}".format(*wanted.color)
        assert channel.contrast_limits == pytest.approx((wanted.black, wanted.white), abs=0.01)


def test_its_pixels_have_a_size(sample: Path) -> None:
    with open_stack(sample, 0) as stack:
        size = stack.metadata.pixel_size
    assert (size.z, size.y, size.x) == pytest.approx((1, 0.325, 0.325))


@pytest.mark.parametrize(("scene", "t", "z", "c"), [(0, 0, 0, 0), (1, 2, 4, 1), (2, 1, 2, 0)])
def test_the_file_contains_the_drawn_planes(
    sample: Path, scene: int, t: int, z: int, c: int
) -> None:
    drawn = sample_plane(scene, t, z, c)
    with open_stack(sample, scene, "Z") as stack:
        read = stack.extract_patch(t, [c], (z, 0, 0), (1, *drawn.shape))
    np.testing.assert_array_equal(read[0, 0], drawn, strict=True)


def test_libczi_reads_it_too(sample: Path) -> None:
    with open_czi(str(sample)) as file:
        read = file.read(plane={"T": 1, "Z": 3, "C": 1}, scene=2)
        assert len(file.scenes_bounding_rectangle) == len(SCENES)
    np.testing.assert_array_equal(read[..., 0], sample_plane(2, 1, 3, 1))


def test_no_two_planes_are_alike(sample: Path) -> None:
    with open_stack(sample, 1, "Z") as stack:
        corner = [stack.extract_patch(t, None, (0, 0, 0), (5, 64, 64)) for t in range(TIMES)]
    planes = np.concatenate([volume.reshape(-1, 64 * 64) for volume in corner])
    assert len(np.unique(planes, axis=0)) == TIMES * len(CHANNELS) * DEPTHS


def test_it_looks_like_cells_on_a_dark_ground() -> None:
    for scene in range(len(SCENES)):
        for channel, shown in enumerate(CHANNELS):
            image = sample_plane(scene, 0, 2, channel)
            bright = np.mean(image > (shown.black + shown.white) / 2)
            assert 0.01 < bright < 0.5
            assert np.median(image) < (shown.black + shown.white) / 2
            assert image.max() < 4096


def test_the_pixels_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for scene in range(len(SCENES)):
        digest.update(sample_plane(scene, 1, 2, 1).astype("<u2").tobytes())
    assert digest.hexdigest() == DIGEST


def test_a_scene_that_does_not_exist_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        sample_plane(len(SCENES), 0, 0, 0)


class TestEnsure:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Replace writing by an instant one, and record the paths."""
        written: list[Path] = []

        def write(path: Path) -> None:
            written.append(path)
            path.write_bytes(b"whole")

        monkeypatch.setattr(sys.modules[ensure_sample.__module__], "write_sample", write)
        return written

    def test_it_is_written_once(self, tmp_path: Path, quick: list[Path]) -> None:
        path = tmp_path / "new" / "folder" / "cells.czi"
        lines: list[str] = []
        assert ensure_sample(path, lines.append) == ensure_sample(path, lines.append) == path
        assert lines == [f"drawing the sample, {path}"]
        assert path.read_bytes() == b"whole"
        assert len(quick) == 1

    def test_it_lies_in_the_users_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert ensure_sample() == sample_path()
        assert sample_path().is_file()

    def test_a_failed_write_leaves_no_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sys.modules[ensure_sample.__module__], "write_sample", fail)
        with pytest.raises(OSError, match="No space left"):
            ensure_sample(tmp_path / "cells.czi")
        assert not list(tmp_path.iterdir())

    def test_several_at_once_leave_one_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "cells.czi"
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda _: ensure_sample(path).read_bytes(), range(16)))
        assert contents == [b"whole"] * 16
        assert [file.name for file in tmp_path.iterdir()] == ["cells.czi"]


def test_the_demo_leaves_sample_set_and_picture(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_patchset.cli.inspect.ensure_sample", lambda report: sample)
    monkeypatch.setattr(sys, "argv", ["patchset", "demo", "--out", str(tmp_path / "demo")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert (tmp_path / "demo" / "cells.czi").read_bytes() == sample.read_bytes()
    with PatchSet(tmp_path / "demo" / "cells.patches.zarr") as patches:
        assert len(patches["all"]) == patches.manifest.counts["all"] > 0
    assert imagecodecs.png_decode((tmp_path / "demo" / "preview.png").read_bytes()).ndim == 3
