"""CziImageStack: mosaics, the cache of decoded tiles, lower resolutions."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw.czi import open_czi

from napari_patchset import CziImageStack
from napari_patchset.stacks.czi import stack
from support.czi_maker import MakeCzi, SceneSpec, blocks_of, plane, write_blocks
from support.pixels import expected, whole

MOSAIC = SceneSpec(0, (-37, 12, 100, 70), c=2, overlap=6, stamped=True)


class TestMosaics:
    @staticmethod
    def libczi(path: Path, window: tuple[int, int, int, int], c: int, scene: int) -> NDArray[Any]:
        with open_czi(str(path)) as reader:
            pixels: NDArray[Any] = reader.read(roi=window, plane={"C": c}, scene=scene)
        return pixels[..., 0]

    @pytest.mark.parametrize("tile", [(32, 40), (12, 14)], ids=["few", "many"])
    @pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
    def test_overlapping_tiles_read_as_libczi_reads_them(
        self, tmp_path: Path, order: str, tile: tuple[int, int]
    ) -> None:
        blocks = list(blocks_of([MOSAIC], tile))
        if order == "falling":
            blocks.reverse()
        if order == "shuffled":
            blocks = [blocks[i] for i in np.random.default_rng(1).permutation(len(blocks))]
        path = tmp_path / "mosaic.czi"
        write_blocks(path, blocks)
        x, y, w, h = MOSAIC.rect
        with CziImageStack(path, 0) as stack:
            for channel, image in enumerate(whole(stack)):
                reference = self.libczi(path, (x, y, w, h), channel, 0)
                np.testing.assert_array_equal(image, reference)
            for dy, dx in np.random.default_rng(0).integers(0, (60, 90), (40, 2)).tolist():
                patch = stack.extract_patch(0, [1], (dy, dx), (10, 10))[0]
                reference = self.libczi(path, (x + dx, y + dy, 10, 10), 1, 0)
                np.testing.assert_array_equal(patch, reference)

    def test_the_tile_with_the_largest_m_lies_on_top(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(MOSAIC, tile=(32, 40)), 0) as stack:
            seam = stack.extract_patch(0, [0], (0, 34), (10, 6))[0]
        right = expected(0, 34, 10, 6, S=0, C=0, M=2)
        np.testing.assert_array_equal(seam, right)

    def test_gaps_between_tiles_are_zero_and_not_covered(self, tmp_path: Path) -> None:
        scene = SceneSpec(0, (-20, 0, 64, 16))
        blocks = [b for b in blocks_of([scene], tile=(16, 16)) if b.m in (0, 3)]
        write_blocks(tmp_path / "gap.czi", blocks)
        with CziImageStack(tmp_path / "gap.czi") as stack:
            image = whole(stack)[0]
            assert sorted(stack.covered) == [(0, 0, 16, 16), (48, 0, 16, 16)]
        assert not image[:, 16:48].any()
        np.testing.assert_array_equal(image[:, 48:], plane(scene)[:, 48:])

    def test_each_tile_is_decoded_once(self, czi: MakeCzi, decoded: Counter[str]) -> None:
        scene = SceneSpec(0, (0, 0, 96, 64), z=2)
        with CziImageStack(czi(scene, tile=(32, 32)), depth_axis="Z") as stack:
            assert decoded["tiles"] == 0
            stack.extract_patch(0, None, (0, 4, 4), (1, 8, 8))
            assert decoded["tiles"] == 1
            stack.extract_patch(0, None, (0, 28, 28), (2, 8, 8))
            assert decoded["tiles"] == 8
            for _ in range(2):
                whole(stack)
            assert decoded["tiles"] == 2 * 6

    def test_of_many_tiles_those_that_only_touch_a_patch_are_not_decoded(
        self, czi: MakeCzi, decoded: Counter[str]
    ) -> None:
        with CziImageStack(czi(SceneSpec(0, (-40, 8, 160, 160)), tile=(16, 16))) as stack:
            patch = stack.extract_patch(0, None, (32, 48), (16, 16))[0]
            assert decoded["tiles"] == 1
            np.testing.assert_array_equal(patch, expected(32, 48, 16, 16, S=0, C=0))
            stack.extract_patch(0, None, (31, 47), (18, 18))
            assert decoded["tiles"] == 9

    def test_a_colour_tile_is_decoded_once_for_its_three_channels(
        self, czi: MakeCzi, decoded: Counter[str]
    ) -> None:
        with CziImageStack(czi(SceneSpec(kind="Bgr24"))) as stack:
            whole(stack)
            assert decoded["tiles"] == 1

    def test_threads_that_need_the_same_tile_decode_it_once(
        self, czi: MakeCzi, decoded: Counter[str]
    ) -> None:
        path = czi(SceneSpec(0, (0, 0, 512, 512)), compression="zstd1:")
        with CziImageStack(path) as stack, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: stack.extract_patch(0, None, (9, 9), (8, 8)), range(32)))
            assert decoded["tiles"] == 1

    def test_block_shape_is_the_most_frequent_tile(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(SceneSpec(0, (0, 0, 100, 70)), tile=(16, 24))) as stack:
            assert stack.block_shape == (16, 24)

    def test_pyramid_tiles_are_not_the_image(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (-11, 5, 67, 33), pyramid=True)
        with CziImageStack(czi(scene, tile=(20, 20)), 0) as stack:
            assert stack.data_shape == [1, 1, 33, 67]
            np.testing.assert_array_equal(whole(stack)[0], plane(scene))


class TestLevels:
    SCENE = SceneSpec(0, (-300, 40, 1100, 700), c=2, kind="Gray8", pyramid=True)

    @pytest.fixture
    def path(self, czi: MakeCzi) -> Path:
        return czi(self.SCENE, tile=(200, 300))

    def test_they_halve_down_to_a_thumbnail_finest_first(self, path: Path) -> None:
        with CziImageStack(path, 0) as stack:
            shapes = [level.data_shape for level in stack.levels]
            assert stack.levels[0] is stack
        assert shapes == [[1, 2, 700, 1100], [1, 2, 350, 550], [1, 2, 175, 275]]

    def test_they_show_the_pyramid_of_the_file(self, path: Path) -> None:
        with CziImageStack(path, 0) as stack:
            half = stack.levels[1].extract_patch(0, [1], (0, 0), (350, 550))[0]
        # libCZI's rounding may shift a tile's border by one pixel.
        assert np.mean(half == plane(self.SCENE, C=1)[::2, ::2]) > 0.99

    def test_a_patch_of_one_is_what_the_whole_level_shows_there(self, path: Path) -> None:
        with CziImageStack(path, 0) as stack:
            half = stack.levels[1]
            image = half.extract_patch(0, None, (0, 0), (350, 550))
            for y, x in [(0, 0), (31, 77), (100, 149), (310, 500)]:
                patch = half.extract_patch(0, None, (y, x), (40, 50))
                np.testing.assert_array_equal(patch, image[:, y : y + 40, x : x + 50])

    def test_they_cover_an_image_of_odd_size_to_its_last_pixel(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (7, -3, 1001, 601), pyramid=True)
        with CziImageStack(czi(scene), 0) as stack:
            assert stack.levels[1].data_shape == [1, 1, 301, 501]
            half = stack.levels[1].extract_patch(0, None, (0, 0), (301, 501))[0]
        assert half[:-1, :-1].all()
        assert np.count_nonzero(half[-1]) + np.count_nonzero(half[:, -1]) >= 700

    def test_a_small_image_without_pyramid_has_one(self, czi: MakeCzi) -> None:
        with CziImageStack(czi()) as stack:
            assert list(stack.levels) == [stack]

    def test_they_show_colour_depth_and_sample_in_their_places(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 600, 40), t=2, z=range(1, 3), kind="Bgr24", pyramid=True)
        with CziImageStack(czi(scene), 0, "Z") as stack:
            half = stack.levels[1]
            assert half.data_shape == [2, 3, 2, 20, 300]
            patch = half.extract_patch(1, [2, 0], (1, 5, 10), (1, 8, 16))
        wanted = plane(scene, T=1, Z=2)[::2, ::2][5:13, 10:26]
        np.testing.assert_array_equal(patch[:, 0], [wanted[..., 2], wanted[..., 0]])

    def test_a_missing_plane_is_zero_in_each(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 600, 40), t=2, c=2, pyramid=True, missing=({"T": 1, "C": 1},))
        with CziImageStack(czi(scene), 0) as stack:
            patch = stack.levels[1].extract_patch(1, None, (0, 0), (20, 300))
        assert patch[0].all()
        assert not patch[1].any()


class TestLevelsWithoutPyramid:
    """A large plane is shown reduced even where the file holds it at full resolution only."""

    @pytest.fixture
    def path(self, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(stack, "LARGE_PLANE", 600)
        return czi(SceneSpec(2, (-37, 11, 1101, 701), c=2), tile=(130, 170))

    def test_each_level_is_every_nth_pixel(self, path: Path) -> None:
        with CziImageStack(path, scene=2) as full:
            pixels = whole(full)
            assert [level.data_shape[-2:] for level in full.levels] == [
                [701, 1101],
                [351, 551],
                [176, 276],
            ]
            for level, factor in zip(full.levels, (1, 2, 4), strict=True):
                shown = level.extract_patch(0, None, (0, 0), level.data_shape[-2:])
                np.testing.assert_array_equal(shown, pixels[:, ::factor, ::factor])
                window = level.extract_patch(0, [1], (-3, 70), (90, 95))
                reduced = pixels[1, ::factor, ::factor]
                np.testing.assert_array_equal(window[0, 3:], reduced[:87, 70:165])

    def test_each_tile_is_decoded_once_however_often_a_level_is_shown(
        self, path: Path, decoded: Counter[str]
    ) -> None:
        with CziImageStack(path, scene=2) as full:
            level = full.levels[2]
            for _ in range(3):
                level.extract_patch(0, [0], (0, 0), (176, 276))
            assert decoded["tiles"] == 6 * 7
