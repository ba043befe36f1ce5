"""CziImageStack: scenes, axes, planes, pixel types."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from napari_patchset import CziImageStack
from napari_patchset.errors import MissingAxisError, UnreadableFileError
from napari_patchset.stacks.metadata import describe
from support.czi_maker import MakeCzi, SceneSpec, plane
from support.pixels import whole


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

    def test_a_scene_named_twice_is_refused(self, path: Path) -> None:
        with pytest.raises(ValueError, match="name it once"):
            CziImageStack(f"{path}@3", scene=3)

    @pytest.mark.parametrize("scene", [0, 1, 4, -1])
    def test_a_scene_that_does_not_exist_is_refused_with_those_that_do(
        self, path: Path, scene: int
    ) -> None:
        with pytest.raises(ValueError, match=rf"no scene {scene}; its scenes are 3, 7"):
            CziImageStack(path, scene=scene)

    def test_a_scene_of_a_file_without_scenes_is_refused(self, czi: MakeCzi) -> None:
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
        for rects in self.both(path):
            assert rects == {0: (-5, 3, 20, 10), 1: (40, -8, 7, 30)}
            assert (rects[1].x, rects[1].y, rects[1].w, rects[1].h) == (40, -8, 7, 30)

    def test_a_file_without_scenes_has_the_one_key_none(self, czi: MakeCzi) -> None:
        for rects in self.both(czi(SceneSpec(None, (-5, 3, 20, 10)))):
            assert rects == {None: (-5, 3, 20, 10)}

    def test_ids_need_not_be_consecutive(self, czi: MakeCzi) -> None:
        for rects in self.both(czi(SceneSpec(3, (0, 0, 8, 8)), SceneSpec(7, (20, 0, 8, 8)))):
            assert rects == {3: (0, 0, 8, 8), 7: (20, 0, 8, 8)}

    def test_the_pyramid_does_not_count(self, czi: MakeCzi) -> None:
        for rects in self.both(czi(SceneSpec(0, (0, 0, 33, 31), pyramid=True))):
            assert rects == {0: (0, 0, 33, 31)}

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

    def test_phases_merge_into_s_with_a_depth_axis(self, czi: MakeCzi) -> None:
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
            assert stack.missing_planes == {(0, 0, 2), (0, 1, 2), (1, 0, 1)}

    def test_they_are_known_by_sample_without_a_depth_axis(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE)) as stack:
            assert stack.missing_planes == {(2, 0, 0), (2, 1, 0), (4, 0, 0)}

    def test_they_are_zero_and_their_neighbours_are_not(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE), depth_axis="Z") as stack:
            gone, last = whole(stack, 1)[0, 1:]
        assert not gone.any()
        np.testing.assert_array_equal(last, plane(self.SCENE, T=1, Z=3))

    def test_they_are_in_the_description_of_the_source(self, czi: MakeCzi) -> None:
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
