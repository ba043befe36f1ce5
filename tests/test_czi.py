"""CziImageStack: scenes, axes, planes, mosaics, colour, metadata, processes."""

import gc
import multiprocessing
import os
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader, create_czi, open_czi

from czi_maker import Block, MakeCzi, SceneSpec, blocks_of, metadata_xml, write_blocks
from napari_patchset import CziImageStack, list_scenes
from napari_patchset.errors import MissingAxisError, UnreadableFileError
from napari_patchset.source import PixelSize, Rect, SourceInfo
from napari_patchset.stacks.czi import stack
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.open_files import _Descriptor
from napari_patchset.stacks.tiles import TileCache
from pixels import expected

MOSAIC = SceneSpec(0, (-37, 12, 100, 70), c=2, overlap=6, stamped=True)


def whole(stack: CziImageStack, sample: int = 0) -> NDArray[Any]:
    shape = stack.data_shape[2:]
    return stack.extract_patch(sample, None, [0] * len(shape), shape)


def plane(scene: SceneSpec, **numbers: int) -> NDArray[Any]:
    return scene.pixels({"T": 0, "Z": 0, "C": 0, **numbers})


class TestScenes:
    """`scene` is the file's own id."""

    LEFT = SceneSpec(3, (-200, -10, 30, 20))
    RIGHT = SceneSpec(7, (400, 35, 24, 40))

    @pytest.fixture
    def path(self, czi: MakeCzi) -> Path:
        return czi(self.LEFT, self.RIGHT, tile=(16, 16))

    @pytest.mark.parametrize("scene", [LEFT, RIGHT])
    def test_a_scene_is_chosen_by_the_files_own_id(self, path: Path, scene: SceneSpec) -> None:
        with CziImageStack(path, scene=scene.id) as stack:
            assert stack.data_shape == [1, 1, scene.rect[3], scene.rect[2]]
            np.testing.assert_array_equal(whole(stack)[0], plane(scene))

    def test_a_scene_may_stand_in_the_name(self, path: Path) -> None:
        with CziImageStack(f"{path}@7") as stack:
            assert (stack.data_path, stack.scene) == (path, 7)
            assert stack.source == Path(f"{path}@7")
            np.testing.assert_array_equal(whole(stack)[0], plane(self.RIGHT))

    def test_source_opens_the_same_stack_again(self, path: Path) -> None:
        for scene in (None, 3):
            with CziImageStack(path, scene) as stack, CziImageStack(stack.source) as again:
                assert (again.source, again.scene) == (stack.source, scene)
                assert again.data_shape == stack.data_shape

    def test_a_file_whose_whole_name_has_an_at_is_that_file(self, czi: MakeCzi) -> None:
        other, whole_name = SceneSpec(3, (0, 0, 8, 8)), SceneSpec(0, (0, 0, 10, 12))
        czi(other, name="image.czi")
        path = czi(whole_name, name="image.czi@3")
        with CziImageStack(path) as stack, CziImageStack(f"{path}@0") as scene:
            assert (stack.data_path, stack.scene) == (path, None)
            assert (scene.data_path, scene.scene) == (path, 0)
            np.testing.assert_array_equal(whole(scene)[0], plane(whole_name))

    def test_a_scene_given_twice_is_refused(self, path: Path) -> None:
        with pytest.raises(ValueError, match="give it once"):
            CziImageStack(f"{path}@3", scene=3)

    @pytest.mark.parametrize("scene", [0, 1, 4, -1])
    def test_a_scene_that_does_not_exist_is_refused_with_those_that_do(
        self, path: Path, scene: int
    ) -> None:
        with pytest.raises(ValueError, match=rf"no scene {scene}; its scenes are 3, 7"):
            CziImageStack(path, scene=scene)

    def test_a_file_without_scenes_says_so(self, czi: MakeCzi) -> None:
        with pytest.raises(ValueError, match="no scene 0; it has no scenes"):
            CziImageStack(czi(SceneSpec(None)), scene=0)

    def test_no_scene_is_the_union_with_zeros_between(self, path: Path) -> None:
        with CziImageStack(path) as stack:
            assert stack.source == path
            assert stack.data_shape == [1, 1, 85, 624]
            image = whole(stack)[0]
        np.testing.assert_array_equal(image[:20, :30], plane(self.LEFT))
        np.testing.assert_array_equal(image[45:, 600:], plane(self.RIGHT))
        assert np.count_nonzero(image) == 20 * 30 + 40 * 24

    def test_scenes_far_apart_cost_nothing_to_open(self, czi: MakeCzi) -> None:
        far = SceneSpec(1, (2_000_000, 2_000_000, 40, 40))
        with CziImageStack(czi(SceneSpec(0, (0, 0, 40, 40)), far)) as stack:
            assert stack.data_shape == [1, 1, 2_000_040, 2_000_040]
            patch = stack.extract_patch(0, None, (1_999_990, 1_999_990), (60, 60))
        np.testing.assert_array_equal(patch[0, 10:50, 10:50], plane(far))

    def test_a_scene_shows_only_its_own_pixels_where_two_overlap(self, czi: MakeCzi) -> None:
        below, above = SceneSpec(0, (0, 0, 40, 40)), SceneSpec(1, (20, 16, 40, 40))
        path = czi(below, above)
        for scene in (below, above):
            with CziImageStack(path, scene.id) as stack:
                np.testing.assert_array_equal(whole(stack)[0], plane(scene))

    def test_each_scene_has_its_own_extents_and_starts(self, czi: MakeCzi) -> None:
        first = SceneSpec(0, (0, 0, 20, 20), t=2, z=3, c=2)
        second = SceneSpec(1, (50, 0, 12, 8), t=range(4, 7), z=range(2, 4), c=range(1, 2))
        path = czi(first, second)
        with CziImageStack(path, 0) as stack:
            assert stack.data_shape == [6, 2, 20, 20]
        with CziImageStack(path, 1) as stack:
            assert stack.data_shape == [6, 1, 8, 12]
            assert stack.starts == {"T": 4, "Z": 2, "C": 1}
            for sample, (t, z) in enumerate([(t, z) for t in (4, 5, 6) for z in (2, 3)]):
                wanted = plane(second, T=t, Z=z, C=1)
                np.testing.assert_array_equal(whole(stack, sample)[0], wanted)


class TestBoundingRectangles:
    @staticmethod
    def both(path: Path) -> Sequence[dict[int | None, Any]]:
        with open_czi(str(path)) as reader:
            opened = CziImageStack.get_bounding_rectangles(reader)
        by_path = CziImageStack.get_bounding_rectangles(path)
        assert by_path == CziImageStack.get_bounding_rectangles(str(path))
        return by_path, opened

    def test_they_are_named_by_scene(self, czi: MakeCzi) -> None:
        path = czi(SceneSpec(0, (-5, 3, 20, 10)), SceneSpec(1, (40, -8, 7, 30)), tile=(8, 8))
        for found in self.both(path):
            assert found == {0: (-5, 3, 20, 10), 1: (40, -8, 7, 30)}
            assert (found[1].x, found[1].y, found[1].w, found[1].h) == (40, -8, 7, 30)

    def test_a_file_without_scenes_has_the_one_key_none(self, czi: MakeCzi) -> None:
        for found in self.both(czi(SceneSpec(None, (-5, 3, 20, 10)))):
            assert found == {None: (-5, 3, 20, 10)}

    def test_ids_need_not_be_consecutive(self, czi: MakeCzi) -> None:
        for found in self.both(czi(SceneSpec(3, (0, 0, 8, 8)), SceneSpec(7, (20, 0, 8, 8)))):
            assert found == {3: (0, 0, 8, 8), 7: (20, 0, 8, 8)}

    def test_the_pyramid_does_not_count(self, czi: MakeCzi) -> None:
        for found in self.both(czi(SceneSpec(0, (0, 0, 33, 31), pyramid=True))):
            assert found == {0: (0, 0, 33, 31)}

    def test_an_open_reader_stays_open(self, czi: MakeCzi) -> None:
        with open_czi(str(czi())) as reader:
            CziImageStack.get_bounding_rectangles(reader)
            assert reader.read().any()


class TestAxes:
    SCENE = SceneSpec(0, (0, 0, 16, 12), t=2, z=range(3, 6), c=2)

    @pytest.mark.parametrize(
        ("depth_axis", "axes", "shape", "original_axes", "original_shape"),
        [
            ("none", "SCYX", [6, 2, 12, 16], "TZCYX", (2, 3, 2, 12, 16)),
            ("Z", "SCZYX", [2, 2, 3, 12, 16], "TCZYX", (2, 2, 3, 12, 16)),
            ("T", "SCTYX", [3, 2, 2, 12, 16], "ZCTYX", (3, 2, 2, 12, 16)),
        ],
    )
    def test_the_depth_axis_decides_what_merges_into_s(
        self,
        czi: MakeCzi,
        depth_axis: Any,
        axes: str,
        shape: list[int],
        original_axes: str,
        original_shape: tuple[int, ...],
    ) -> None:
        with CziImageStack(czi(self.SCENE), 0, depth_axis) as stack:
            assert stack.axes == axes
            assert stack.data_shape == shape
            assert sorted(stack.original_axes) == sorted(original_axes)
            sizes = dict(zip(stack.original_axes, stack.original_data_shape, strict=True))
            assert sizes == dict(zip(original_axes, original_shape, strict=True))

    def test_data_shape_is_a_list(self, czi: MakeCzi) -> None:
        with CziImageStack(czi()) as stack:
            assert type(stack.data_shape) is list

    @pytest.mark.parametrize("depth_axis", ["Z", "T"])
    def test_a_depth_axis_that_the_file_lacks_is_refused(
        self, czi: MakeCzi, depth_axis: Any
    ) -> None:
        path = czi(SceneSpec(t=None, z=None))
        message = f"image.czi.* does not contain a {depth_axis} axis"
        with pytest.raises(RuntimeError, match=message) as caught:
            CziImageStack(path, depth_axis=depth_axis)
        assert isinstance(caught.value, MissingAxisError)

    def test_a_depth_axis_of_size_1_is_one_that_the_scene_lacks(self, czi: MakeCzi) -> None:
        path = czi(SceneSpec(0, z=1), SceneSpec(1, (90, 0, 8, 8), z=2))
        with pytest.raises(RuntimeError, match="does not contain a Z axis"):
            CziImageStack(path, 0, "Z")
        CziImageStack(path, 1, "Z").close()

    def test_phases_and_views_merge_into_s_in_the_order_t_z_r_i_h_v_b(self, czi: MakeCzi) -> None:
        spans = {"B": 2, "H": range(2, 5), "I": 2, "R": 2, "V": range(1, 3)}
        scene = SceneSpec(0, (0, 0, 6, 4), t=2, z=2, c=2, more=spans)
        with CziImageStack(czi(scene)) as stack:
            assert stack.original_axes == "TZRIHVBCYX"
            assert stack.data_shape == [2 * 2 * 2 * 2 * 3 * 2 * 2, 2, 4, 6]
            shape = stack.original_data_shape[:7]
            for index in [(0,) * 7, (1, 0, 1, 0, 2, 1, 0), (0, 1, 0, 1, 1, 0, 1), (1,) * 7]:
                sample = int(np.ravel_multi_index(index, shape))
                numbers = {
                    axis: i + stack.starts[axis] for axis, i in zip("TZRIHVB", index, strict=True)
                }
                for channel in range(2):
                    wanted = plane(scene, **numbers, C=channel)
                    np.testing.assert_array_equal(whole(stack, sample)[channel], wanted)

    def test_phases_merge_into_s_beside_a_depth_axis(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 6, 4), t=2, z=range(1, 4), more={"H": 5})
        with CziImageStack(czi(scene), depth_axis="Z") as stack:
            assert stack.data_shape == [10, 1, 3, 4, 6]
            wanted = [plane(scene, T=1, Z=z, H=2) for z in (1, 2, 3)]
            np.testing.assert_array_equal(whole(stack, 7)[0], wanted)

    def test_axes_that_start_late_count_from_0_in_the_stack(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 6, 4), t=range(5, 7), z=range(9, 12), c=range(2, 4))
        with CziImageStack(czi(scene), depth_axis="Z") as stack:
            assert stack.data_shape == [2, 2, 3, 4, 6]
            patch = stack.extract_patch(1, [1], (1, 1, 2), (2, 3, 4))
        wanted = [plane(scene, T=6, Z=z, C=3)[1:4, 2:6] for z in (10, 11)]
        np.testing.assert_array_equal(patch[0], wanted)

    def test_axes_that_the_file_leaves_out_have_size_1(self, czi: MakeCzi) -> None:
        scene = SceneSpec(None, (0, 0, 6, 4), t=None, z=None, c=None)
        with CziImageStack(czi(scene)) as stack:
            assert stack.data_shape == [1, 1, 4, 6]
            np.testing.assert_array_equal(whole(stack)[0], scene.pixels({}))

    def test_a_single_plane_that_starts_late_is_read(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 6, 4), t=range(4, 5), z=range(7, 8), c=range(1, 2))
        with CziImageStack(czi(scene)) as stack:
            np.testing.assert_array_equal(whole(stack)[0], plane(scene, T=4, Z=7, C=1))


class TestMissingPlanes:
    SCENE = SceneSpec(
        *(0, (0, 0, 8, 6), 2, range(1, 4), 2),
        missing=({"T": 1, "Z": 2, "C": 0}, {"T": 0, "Z": 3}),
    )

    def test_they_are_known_along_the_depth_axis(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE), depth_axis="Z") as stack:
            found = {(s, c): tuple(stack.missing(s, c)) for s in range(2) for c in range(2)}
        assert found == {(0, 0): (2,), (0, 1): (2,), (1, 0): (1,), (1, 1): ()}

    def test_they_are_known_by_sample_without_a_depth_axis(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE)) as stack:
            missing = [s for s in range(6) if 0 in stack.missing(s, 0)]
        assert missing == [2, 4]

    def test_they_are_zero_and_their_neighbours_are_not(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE), depth_axis="Z") as stack:
            gone, last = whole(stack, 1)[0, 1:]
        assert not gone.any()
        np.testing.assert_array_equal(last, plane(self.SCENE, T=1, Z=3))

    def test_a_description_of_the_source_holds_them(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE), depth_axis="Z") as stack:
            assert describe(stack).missing == {(0, 0, 2), (0, 1, 2), (1, 0, 1)}


class TestPixelTypes:
    @pytest.mark.parametrize("kind", ["Gray8", "Gray16", "Gray32Float"])
    @pytest.mark.parametrize(
        "compression", [None, "zstd0:", "zstd1:", "zstd1:PreProcess=HiLoByteUnpack"]
    )
    def test_grey_pixels_keep_their_type(
        self, czi: MakeCzi, kind: str, compression: str | None
    ) -> None:
        scene = SceneSpec(kind=kind)
        with CziImageStack(czi(scene, tile=(16, 20), compression=compression)) as stack:
            np.testing.assert_array_equal(whole(stack)[0], plane(scene), strict=True)

    @pytest.mark.parametrize("kind", ["Bgr24", "Bgr48"])
    @pytest.mark.parametrize("compression", [None, "zstd0:", "zstd1:"])
    def test_colour_becomes_channels_r_g_b(
        self, czi: MakeCzi, kind: str, compression: str | None
    ) -> None:
        scene = SceneSpec(kind=kind)
        with CziImageStack(czi(scene, tile=(16, 20), compression=compression)) as stack:
            assert stack.data_shape == [1, 3, 48, 64]
            wanted = np.moveaxis(plane(scene), -1, 0)
            np.testing.assert_array_equal(whole(stack), wanted, strict=True)
            blue = stack.extract_patch(0, [2], (3, 4), (5, 6))
        np.testing.assert_array_equal(blue[0], plane(scene)[3:8, 4:10, 2])

    def test_16_bit_colour_with_hi_lo_zstd_is_read_right_or_refused_at_opening(
        self, czi: MakeCzi
    ) -> None:
        scene = SceneSpec(kind="Bgr48", rect=(0, 0, 8, 4))
        path = czi(scene, compression="zstd1:PreProcess=HiLoByteUnpack")
        try:
            stack = CziImageStack(path)
        except UnreadableFileError:
            return
        with stack:
            np.testing.assert_array_equal(whole(stack), np.moveaxis(plane(scene), -1, 0))

    def test_float_colour_is_read_or_refused_at_opening(self, czi: MakeCzi) -> None:
        scene = SceneSpec(kind="Bgr96Float")
        path = czi(scene)
        try:
            stack = CziImageStack(path)
        except UnreadableFileError:
            return
        with stack:
            np.testing.assert_array_equal(whole(stack), np.moveaxis(plane(scene), -1, 0))

    @pytest.mark.parametrize(
        ("kinds", "dtype"),
        [
            (("Gray8", "Gray16"), "uint16"),
            (("Gray16", "Gray8"), "uint16"),
            (("Gray16", "Gray32Float"), "float32"),
        ],
    )
    def test_channels_of_differing_type_share_the_one_that_holds_all(
        self, czi: MakeCzi, kinds: tuple[str, str], dtype: str
    ) -> None:
        scene = SceneSpec(c=2, kind=dict(enumerate(kinds)))
        with CziImageStack(czi(scene)) as stack:
            assert stack.data_dtype == dtype
            image = whole(stack)
        assert image.dtype == dtype
        for channel in range(2):
            np.testing.assert_array_equal(image[channel], plane(scene, C=channel))

    def test_grey_and_colour_channels_follow_each_other(self, czi: MakeCzi) -> None:
        scene = SceneSpec(c=2, kind={0: "Gray8", 1: "Bgr24"})
        with CziImageStack(czi(scene)) as stack:
            image = whole(stack)
        colour = np.moveaxis(plane(scene, C=1), -1, 0)
        np.testing.assert_array_equal(image, [plane(scene), *colour])


class TestMosaics:
    @staticmethod
    def libczi(path: Path, window: tuple[int, int, int, int], c: int, scene: int) -> NDArray[Any]:
        with open_czi(str(path)) as reader:
            pixels: NDArray[Any] = reader.read(roi=window, plane={"C": c}, scene=scene)
        return pixels[..., 0]

    @pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
    def test_overlapping_tiles_read_as_libczi_reads_them(self, tmp_path: Path, order: str) -> None:
        blocks = list(blocks_of([MOSAIC], tile=(32, 40)))
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

    def test_each_tile_is_decoded_once(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (0, 0, 96, 64), z=2)
        with CziImageStack(czi(scene, tile=(32, 32)), depth_axis="Z") as stack:
            assert stack.tiles_decoded == 0
            stack.extract_patch(0, None, (0, 4, 4), (1, 8, 8))
            assert stack.tiles_decoded == 1
            stack.extract_patch(0, None, (0, 28, 28), (2, 8, 8))
            assert stack.tiles_decoded == 8
            for _ in range(2):
                whole(stack)
            assert stack.tiles_decoded == 2 * 6

    def test_a_colour_tile_is_decoded_once_for_its_three_channels(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(SceneSpec(kind="Bgr24"))) as stack:
            whole(stack)
            assert stack.tiles_decoded == 1

    def test_threads_that_ask_for_one_tile_decode_it_once(self, czi: MakeCzi) -> None:
        path = czi(SceneSpec(0, (0, 0, 512, 512)), compression="zstd1:")
        with CziImageStack(path) as stack, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: stack.extract_patch(0, None, (9, 9), (8, 8)), range(32)))
            assert stack.tiles_decoded == 1

    def test_block_shape_is_the_most_frequent_tile(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(SceneSpec(0, (0, 0, 100, 70)), tile=(16, 24))) as stack:
            assert stack.block_shape == (16, 24)

    def test_pyramid_tiles_are_not_the_image(self, czi: MakeCzi) -> None:
        scene = SceneSpec(0, (-11, 5, 67, 33), pyramid=True)
        with CziImageStack(czi(scene, tile=(20, 20)), 0) as stack:
            assert stack.data_shape == [1, 1, 33, 67]
            np.testing.assert_array_equal(whole(stack)[0], plane(scene))


class TestTileCache:
    @staticmethod
    def get(cache: TileCache, key: int) -> int:
        return int(cache.get(key, lambda: np.full(100, key, np.uint8))[0])

    def test_the_tile_that_was_used_longest_ago_goes_first(self) -> None:
        cache = TileCache(limit=300)
        for key in (1, 2, 3, 1, 4, 1, 3, 4):
            assert self.get(cache, key) == key
        assert cache.decoded == 4
        self.get(cache, 2)
        assert cache.decoded == 5

    def test_it_forgets_no_more_than_it_must(self) -> None:
        cache = TileCache(limit=300)
        for key in [*range(20), 19, 18, 17]:
            self.get(cache, key)
        assert cache.decoded == 20

    def test_a_tile_larger_than_the_limit_is_kept_until_the_next(self) -> None:
        cache = TileCache(limit=10)
        for key in (1, 1, 2, 2):
            self.get(cache, key)
        assert cache.decoded == 2

    def test_a_failure_is_not_kept(self) -> None:
        cache = TileCache()

        def fail() -> NDArray[Any]:
            raise UnreadableFileError("damaged")

        with pytest.raises(UnreadableFileError):
            cache.get(1, fail)
        assert self.get(cache, 1) == 1


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

    def test_each_tile_is_decoded_once_however_often_a_level_is_shown(self, path: Path) -> None:
        with CziImageStack(path, scene=2) as full:
            level = full.levels[2]
            for _ in range(3):
                level.extract_patch(0, [0], (0, 0), (176, 276))
            assert full.overviews_decoded == 6 * 7


class TestMetadata:
    @staticmethod
    def metadata(czi: MakeCzi, scene: SceneSpec | None = None, **xml: Any) -> Any:
        with CziImageStack(czi(scene or SceneSpec(c=2), xml=metadata_xml(**xml))) as stack:
            return stack.metadata

    def test_pixel_size_is_in_micrometres(self, czi: MakeCzi) -> None:
        found = self.metadata(czi, pixel_size={"X": 2.5e-7, "Y": "5E-07", "Z": 1e-6}).pixel_size
        assert (found.x, found.y, found.z) == pytest.approx((0.25, 0.5, 1.0))

    @pytest.mark.parametrize("value", [0, "", "nan", "inf", -1e-7, "0,25", "1e999"])
    def test_a_pixel_size_that_is_none_is_none(self, czi: MakeCzi, value: object) -> None:
        assert self.metadata(czi, pixel_size={"X": value, "Y": value}).pixel_size == PixelSize()

    @pytest.mark.parametrize(
        "xml",
        [
            *(None, "", "<ImageDocument", "<ImageDocument/>", "no xml at all", "\0\0"),
            '<!DOCTYPE a [<!ENTITY b "c">]><ImageDocument>&b;</ImageDocument>',
        ],
    )
    def test_metadata_that_says_nothing_hinders_nothing(
        self, czi: MakeCzi, xml: str | None
    ) -> None:
        scene = SceneSpec(c=2)
        with CziImageStack(czi(scene, xml=xml)) as stack:
            assert stack.metadata.pixel_size == PixelSize()
            assert [c.name for c in stack.metadata.channels] == ["Channel 0", "Channel 1"]
            np.testing.assert_array_equal(whole(stack)[1], plane(scene, C=1))

    def test_channels_go_by_id_not_by_position(self, czi: MakeCzi) -> None:
        channels = {"Channel:1": "EGFP", "Channel:0": "DAPI"}
        found = self.metadata(czi, channels=channels).channels
        assert [c.name for c in found] == ["DAPI", "EGFP"]

    def test_a_scene_whose_channels_start_late_has_their_names(self, czi: MakeCzi) -> None:
        channels = {"Channel:0": "DAPI", "Channel:1": "EGFP", "Channel:2": "Cy5"}
        found = self.metadata(czi, SceneSpec(c=range(1, 3)), channels=channels).channels
        assert [c.name for c in found] == ["EGFP", "Cy5"]

    def test_ids_are_the_files_own_numbers_where_channels_start_late(self, czi: MakeCzi) -> None:
        channels = {"Channel:1": "EGFP", "Channel:2": "Cy5"}
        found = self.metadata(czi, SceneSpec(c=range(1, 3)), channels=channels).channels
        assert [c.name for c in found] == ["EGFP", "Cy5"]

    def test_ids_that_fit_no_channel_go_by_position(self, czi: MakeCzi) -> None:
        """As in a file that was exported from one of more channels."""
        channels = {"Channel:2": "EGFP", "Channel:4": "Cy5"}
        found = self.metadata(czi, channels=channels, display=channels).channels
        assert [c.name for c in found] == ["EGFP", "Cy5"]

    def test_a_name_known_only_to_the_display_settings_is_used(self, czi: MakeCzi) -> None:
        found = self.metadata(czi, display={"Channel:0": "DAPI"}).channels
        assert [c.name for c in found] == ["DAPI", "Channel 1"]

    def test_colours_are_given_without_alpha(self, czi: MakeCzi) -> None:
        display = {
            "Channel:0": "<Color>#FF00FF7f</Color>",
            "Channel:1": "<Color>not a colour</Color>",
        }
        found = self.metadata(czi, display=display).channels
        assert [c.color for c in found] == ["#00ff7f", None]

    def test_the_display_colour_wins_over_the_channels(self, czi: MakeCzi) -> None:
        channels = {"Channel:0": "<Color>#FFFF0000</Color>"}
        display = {"Channel:0": "<Color>#FF0000FF</Color>"}
        assert self.metadata(czi, channels=channels, display=display).channels[0].color == "#0000ff"

    def test_contrast_limits_are_in_grey_values(self, czi: MakeCzi) -> None:
        display = {"Channel:0": "<Low>0.25</Low><High>0.5</High>", "Channel:1": "<High>0.5</High>"}
        limits = [c.contrast_limits for c in self.metadata(czi, display=display).channels]
        assert limits[0] == pytest.approx((0.25 * 65535, 0.5 * 65535))
        assert limits[1] == pytest.approx((0, 0.5 * 65535))

    @pytest.mark.parametrize(
        "display", ["<Low>0.5</Low><High>0.5</High>", "<Low>0.9</Low><High>0.1</High>", "<Low/>"]
    )
    def test_contrast_limits_that_are_none_are_none(self, czi: MakeCzi, display: str) -> None:
        found = self.metadata(czi, display={"Channel:0": display}).channels
        assert found[0].contrast_limits is None

    def test_contrast_limits_of_an_8_bit_channel_beside_a_16_bit_one_are_8_bit(
        self, czi: MakeCzi
    ) -> None:
        scene = SceneSpec(c=2, kind={0: "Gray8", 1: "Gray16"})
        display = {f"Channel:{c}": "<Low>0</Low><High>1</High>" for c in range(2)}
        found = self.metadata(czi, scene, display=display).channels
        assert [c.contrast_limits for c in found] == [(0, 255), (0, 65535)]

    def test_colour_channels_are_named_r_g_b(self, czi: MakeCzi) -> None:
        found = self.metadata(czi, SceneSpec(kind="Bgr24")).channels
        assert [c.name for c in found] == ["R", "G", "B"]
        assert [c.color for c in found] == ["#ff0000", "#00ff00", "#0000ff"]

    def test_what_pylibczirw_writes_is_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "zeiss.czi"
        with create_czi(str(path)) as file:
            for c in range(2):
                file.write(expected(0, 0, 8, 8, C=c), plane={"C": c})
            file.write_metadata("a name", {0: "DAPI", 1: "EGFP"}, 1e-7, 2e-7, 3e-7)
        with CziImageStack(path) as stack:
            found = stack.metadata
        assert [c.name for c in found.channels] == ["DAPI", "EGFP"]
        size = found.pixel_size
        assert (size.x, size.y, size.z) == pytest.approx((0.1, 0.2, 0.3))

    def test_the_description_of_a_source_says_what_is_known(self, czi: MakeCzi) -> None:
        scene = SceneSpec(4, (0, 0, 20, 10), t=range(3, 5), z=3, c=2)
        xml = metadata_xml({"X": 1e-6}, {"Channel:0": "DAPI"})
        with CziImageStack(czi(scene, tile=(10, 5), xml=xml), 4, "Z") as stack:
            found = describe(stack)
        assert found == SourceInfo(
            key=found.key,
            name=str(stack.source),
            scene=4,
            axes="TCZYX",
            shape=(2, 2, 3, 10, 20),
            depth_axis="Z",
            starts={"T": 3},
            dtype="uint16",
            channels=("DAPI", "Channel 1"),
            pixel_size=PixelSize(x=1.0),
            block_shape=(10, 5),
            covered=found.covered,
            rect=Rect(0, 0, 20, 10),
        )
        assert found.covered is not None
        assert len(found.covered) == 4

    def test_a_copy_elsewhere_has_the_same_key_and_another_image_has_not(
        self, czi: MakeCzi
    ) -> None:
        def key(path: Path) -> str:
            with CziImageStack(path) as stack:
                return describe(stack).key

        image = key(czi(SceneSpec(c=2), name="a.czi"))
        assert key(czi(SceneSpec(c=2), name="b.czi")) == image
        assert key(czi(SceneSpec(c=range(1, 3)), name="c.czi")) != image


def read_there(stack: CziImageStack) -> NDArray[Any]:
    with stack:
        return whole(stack)


def read_by_source(source: Path) -> NDArray[Any]:
    return read_there(CziImageStack(source))

    def test_a_scene_has_its_well_and_its_place_on_the_stage(self, czi: MakeCzi) -> None:
        well = '<Scene Index="0" Name="P1"><CenterPosition>12.5,-40</CenterPosition>'
        xml = metadata_xml(
            scenes={
                0: f'{well}<Shape Name="D6"/></Scene>',
                1: '<Scene Index="1" Name="D7"><Shape Name="D7"/></Scene>',
                2: '<Scene Index="2"><CenterPosition>here</CenterPosition></Scene>',
            }
        )
        path = czi(*(SceneSpec(i, (100 * i, 0, 9, 9)) for i in range(3)), xml=xml)
        found = list_scenes(path)
        assert [scene.label for scene in found] == ["D6 P1", "D7", "Scene 2"]
        assert [scene.well for scene in found] == ["D6", "D7", None]
        assert [scene.center for scene in found] == [(12.5, -40), None, None]

    @pytest.mark.parametrize(
        ("times", "step"),
        [
            ("<Interval><Start>0</Start><Increment>33.4</Increment></Interval>", 33.4),
            ("<Interval><Start>0</Start><Increment>0</Increment></Interval>", None),
            ("<List><Offsets>0 60.0 120.1</Offsets></List>", 60.05),
            ("<List><Offsets>0 60 300</Offsets></List>", None),
            ("<List><Offsets>0</Offsets></List>", None),
            ("<List><Offsets>soon later</Offsets></List>", None),
            ("", None),
        ],
    )
    def test_the_time_step_is_known_where_it_is_even(
        self, czi: MakeCzi, times: str, step: float | None
    ) -> None:
        with CziImageStack(czi(SceneSpec(t=3), xml=metadata_xml(times=times))) as opened:
            assert opened.metadata.time_step == (step and pytest.approx(step))


class TestLifetime:
    SCENE = SceneSpec(2, (0, 0, 40, 30), c=2)

    def test_opening_holds_no_file_open(self, czi: MakeCzi) -> None:
        path = czi(self.SCENE)
        stack = CziImageStack(path)
        assert not held_open(path)
        whole(stack)
        assert held_open(path)
        stack.close()
        assert not held_open(path)

    @pytest.mark.parametrize("xml", [metadata_xml(), None, "<broken"])
    def test_a_stack_that_is_dropped_gives_back_its_file_at_once(
        self, czi: MakeCzi, xml: str | None
    ) -> None:
        path = czi(self.SCENE, xml=xml)
        gc.disable()
        try:
            whole(CziImageStack(path))
            assert not held_open(path)
        finally:
            gc.enable()

    def test_a_failed_opening_holds_no_file_open(self, czi: MakeCzi) -> None:
        path = czi(self.SCENE)
        for arguments in ({"scene": 9}, {"depth_axis": "Z"}):
            with pytest.raises((ValueError, RuntimeError)):
                CziImageStack(path, **arguments)
        assert not held_open(path)

    def test_a_closed_stack_says_so_when_read(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE)) as stack:
            whole(stack)
        with pytest.raises(ValueError, match=r"image\.czi: the stack is closed"):
            whole(stack)

    def test_a_pickle_holds_neither_pixels_nor_reader(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(SceneSpec(0, (0, 0, 512, 512)))) as stack:
            before = len(pickle.dumps(stack))
            whole(stack)
            assert len(pickle.dumps(stack)) == before < 100_000

    def test_a_relative_path_survives_a_change_of_folder(
        self, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        czi(self.SCENE)
        monkeypatch.chdir(tmp_path)
        with CziImageStack("image.czi@2") as stack:
            pickled = pickle.dumps(stack)
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            np.testing.assert_array_equal(whole(stack)[0], plane(self.SCENE))
        with pickle.loads(pickled) as copy:
            np.testing.assert_array_equal(whole(copy)[1], plane(self.SCENE, C=1))

    def test_source_is_the_path_as_it_was_given(
        self, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        czi(self.SCENE)
        monkeypatch.chdir(tmp_path)
        with CziImageStack("image.czi", 2) as stack:
            assert stack.source == Path("image.czi@2")

    @pytest.mark.parametrize("method", ["spawn", "forkserver"])
    def test_other_processes_reopen_it_by_themselves(self, czi: MakeCzi, method: str) -> None:
        context = multiprocessing.get_context(method)
        with (
            CziImageStack(czi(self.SCENE, compression="zstd1:"), 2) as stack,
            ProcessPoolExecutor(1, mp_context=context) as pool,
        ):
            here = whole(stack)
            np.testing.assert_array_equal(pool.submit(read_there, stack).result(), here)
            np.testing.assert_array_equal(pool.submit(read_by_source, stack.source).result(), here)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.parametrize("used", [True, False])
    def test_a_forked_child_reads_and_the_parent_reads_on(self, czi: MakeCzi, used: bool) -> None:
        with CziImageStack(czi(self.SCENE, tile=(10, 10)), 2) as stack:
            if used:
                stack.extract_patch(0, None, (0, 0), (4, 4))
            assert in_forked_child(stack) == 0
            np.testing.assert_array_equal(whole(stack)[1], plane(self.SCENE, C=1))

    def test_a_pickled_closed_stack_stays_closed(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE)) as stack:
            pass
        with pytest.raises(ValueError, match="the stack is closed"):
            whole(pickle.loads(pickle.dumps(stack)))

    def test_a_file_that_vanishes_is_one_named_error(self, czi: MakeCzi) -> None:
        path = czi(self.SCENE)
        with CziImageStack(path) as stack:
            path.unlink()
            with pytest.raises((FileNotFoundError, UnreadableFileError), match=r"image\.czi"):
                whole(stack)


def held_open(path: Path) -> bool:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("the system does not list open files")
    return str(path) in [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]


def _check_in_child(stack: CziImageStack) -> None:
    with mock.patch("napari_patchset.stacks.open_files._Descriptor", wraps=_Descriptor) as opened:
        for channel, image in enumerate(whole(stack)):
            np.testing.assert_array_equal(image, plane(TestLifetime.SCENE, C=channel))
    assert opened.call_count == 1


def in_forked_child(stack: CziImageStack) -> int | None:
    """Read in a child that must open a reader of its own, and give its exit code."""
    child = multiprocessing.get_context("fork").Process(target=_check_in_child, args=(stack,))
    child.start()
    child.join(60)
    with closing(child):
        return child.exitcode


def test_our_writers_files_are_what_libczi_reads(tmp_path: Path) -> None:
    scenes = [
        SceneSpec(3, (-100, -50, 30, 20), t=range(2, 4), z=range(5, 8), c=2, more={"H": 2}),
        SceneSpec(7, (300, 20, 30, 20), t=range(2, 3), z=1, more={"H": 1}, kind="Bgr24"),
    ]
    path = tmp_path / "made.czi"
    write_blocks(path, list(blocks_of(scenes, tile=(16, 16))), metadata_xml({"X": 1e-6}))
    with open_czi(str(path)) as reader:
        for scene in scenes:
            for numbers in scene.planes():
                assert_libczi_agrees(reader, scene, numbers)


def assert_libczi_agrees(reader: CziReader, scene: SceneSpec, numbers: Mapping[str, int]) -> None:
    name = scene.kind_of(numbers)
    shown = reader.read(scene.rect, dict(numbers), scene.id, pixel_type=name)
    pixels = shown[..., ::-1] if shown.shape[2] == 3 else shown[..., 0]
    np.testing.assert_array_equal(pixels, scene.pixels(numbers), strict=True)


def test_both_writers_write_the_same_image(tmp_path: Path, czi: MakeCzi) -> None:
    scenes = [SceneSpec(0, (-9, 4, 30, 20), t=2, c=2), SceneSpec(1, (60, 0, 12, 8), t=2, c=2)]
    paths = [czi(*scenes, name=f"{c}.czi", tile=(8, 16), compression=c) for c in (None, "zstd1:")]
    first, second = (CziImageStack(path) for path in paths)
    with first, second:
        assert first.data_shape == second.data_shape
        np.testing.assert_array_equal(whole(first, 1), whole(second, 1))


def test_a_block_without_pixels_of_a_wild_type_can_be_written(tmp_path: Path) -> None:
    wild = Block({"C": 0}, (0, 0, 4, 4), np.zeros((4, 4), np.uint8), pixel_type=99, data=b"")
    write_blocks(tmp_path / "wild.czi", [wild])
    with pytest.raises(UnreadableFileError, match="pixel type 99"):
        CziImageStack(tmp_path / "wild.czi")
