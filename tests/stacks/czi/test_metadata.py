"""CziImageStack: metadata from the file's XML."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylibCZIrw.czi import create_czi

from napari_patchset import CziImageStack, list_scenes
from napari_patchset.source import PixelSize, Rect, SourceInfo
from napari_patchset.stacks.metadata import describe
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml, plane
from support.pixels import expected, whole


class TestMetadata:
    @staticmethod
    def metadata(czi: MakeCzi, scene: SceneSpec | None = None, **xml: Any) -> Any:
        with CziImageStack(czi(scene or SceneSpec(c=2), xml=metadata_xml(**xml))) as stack:
            return stack.metadata

    def test_pixel_size_is_in_micrometres(self, czi: MakeCzi) -> None:
        size = self.metadata(czi, pixel_size={"X": 2.5e-7, "Y": "5E-07", "Z": 1e-6}).pixel_size
        assert (size.x, size.y, size.z) == pytest.approx((0.25, 0.5, 1.0))

    @pytest.mark.parametrize("value", [0, "", "nan", "inf", -1e-7, "0,25", "1e999"])
    def test_an_invalid_pixel_size_is_unknown(self, czi: MakeCzi, value: object) -> None:
        assert self.metadata(czi, pixel_size={"X": value, "Y": value}).pixel_size == PixelSize()

    @pytest.mark.parametrize(
        "xml",
        [
            *(None, "", "<ImageDocument", "<ImageDocument/>", "no xml at all", "\0\0"),
            '<!DOCTYPE a [<!ENTITY b "c">]><ImageDocument>&b;</ImageDocument>',
        ],
    )
    def test_unusable_metadata_is_named_and_does_not_prevent_reading(
        self, czi: MakeCzi, xml: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        scene = SceneSpec(c=2)
        path, is_damaged = czi(scene, xml=xml), xml not in (None, "", "\0\0", "<ImageDocument/>")
        with CziImageStack(path) as stack:
            assert stack.metadata.pixel_size == PixelSize()
            assert [c.name for c in stack.metadata.channels] == ["Channel 0", "Channel 1"]
            np.testing.assert_array_equal(whole(stack)[1], plane(scene, C=1))
        assert ("its XML metadata can't be read (" in caplog.text) is is_damaged

    def test_channels_go_by_id_not_by_position(self, czi: MakeCzi) -> None:
        channels = {"Channel:1": "EGFP", "Channel:0": "DAPI"}
        described = self.metadata(czi, channels=channels).channels
        assert [c.name for c in described] == ["DAPI", "EGFP"]

    def test_a_scene_whose_channels_start_late_has_their_names(self, czi: MakeCzi) -> None:
        channels = {"Channel:0": "DAPI", "Channel:1": "EGFP", "Channel:2": "Cy5"}
        described = self.metadata(czi, SceneSpec(c=range(1, 3)), channels=channels).channels
        assert [c.name for c in described] == ["EGFP", "Cy5"]

    def test_ids_are_the_files_own_numbers_where_channels_start_late(self, czi: MakeCzi) -> None:
        channels = {"Channel:1": "EGFP", "Channel:2": "Cy5"}
        described = self.metadata(czi, SceneSpec(c=range(1, 3)), channels=channels).channels
        assert [c.name for c in described] == ["EGFP", "Cy5"]

    def test_ids_that_fit_no_channel_go_by_position(self, czi: MakeCzi) -> None:
        """As in a file that was exported from one of more channels."""
        channels = {"Channel:2": "EGFP", "Channel:4": "Cy5"}
        described = self.metadata(czi, channels=channels, display=channels).channels
        assert [c.name for c in described] == ["EGFP", "Cy5"]

    def test_a_name_known_only_to_the_display_settings_is_used(self, czi: MakeCzi) -> None:
        described = self.metadata(czi, display={"Channel:0": "DAPI"}).channels
        assert [c.name for c in described] == ["DAPI", "Channel 1"]

    def test_colours_have_no_alpha(self, czi: MakeCzi) -> None:
        display = {
            "Channel:0": "<Color>#FF00FF7f</Color>",
            "Channel:1": "<Color>not a colour</Color>",
        }
        described = self.metadata(czi, display=display).channels
        assert [c.color for c in described] == ["#00ff7f", None]

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
    def test_invalid_contrast_limits_are_unknown(self, czi: MakeCzi, display: str) -> None:
        described = self.metadata(czi, display={"Channel:0": display}).channels
        assert described[0].contrast_limits is None

    def test_contrast_limits_of_an_8_bit_channel_next_to_a_16_bit_one_are_8_bit(
        self, czi: MakeCzi
    ) -> None:
        scene = SceneSpec(c=2, kind={0: "Gray8", 1: "Gray16"})
        display = {f"Channel:{c}": "<Low>0</Low><High>1</High>" for c in range(2)}
        described = self.metadata(czi, scene, display=display).channels
        assert [c.contrast_limits for c in described] == [(0, 255), (0, 65535)]

    def test_colour_channels_are_named_r_g_b(self, czi: MakeCzi) -> None:
        described = self.metadata(czi, SceneSpec(kind="Bgr24")).channels
        assert [c.name for c in described] == ["R", "G", "B"]
        assert [c.color for c in described] == ["#ff0000", "#00ff00", "#0000ff"]

    def test_what_pylibczirw_writes_is_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "zeiss.czi"
        with create_czi(str(path)) as file:
            for c in range(2):
                file.write(expected(0, 0, 8, 8, C=c), plane={"C": c})
            file.write_metadata("a name", {0: "DAPI", 1: "EGFP"}, 1e-7, 2e-7, 3e-7)
        with CziImageStack(path) as stack:
            metadata = stack.metadata
        assert [c.name for c in metadata.channels] == ["DAPI", "EGFP"]
        size = metadata.pixel_size
        assert (size.x, size.y, size.z) == pytest.approx((0.1, 0.2, 0.3))

    def test_a_source_is_described_by_its_metadata(self, czi: MakeCzi) -> None:
        scene = SceneSpec(4, (0, 0, 20, 10), t=range(3, 5), z=3, c=2)
        xml = metadata_xml({"X": 1e-6}, {"Channel:0": "DAPI"})
        with CziImageStack(czi(scene, tile=(10, 5), xml=xml), 4, "Z") as stack:
            info = describe(stack)
        assert info == SourceInfo(
            key=info.key,
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
            covered=info.covered,
            rect=Rect(0, 0, 20, 10),
        )
        assert info.covered is not None
        assert len(info.covered) == 4

    def test_a_copy_elsewhere_has_the_same_key_and_another_image_has_not(
        self, czi: MakeCzi
    ) -> None:
        def key(path: Path) -> str:
            with CziImageStack(path) as stack:
                return describe(stack).key

        image = key(czi(SceneSpec(c=2), name="a.czi"))
        assert key(czi(SceneSpec(c=2), name="b.czi")) == image
        assert key(czi(SceneSpec(c=range(1, 3)), name="c.czi")) != image

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
        scenes = list_scenes(path)
        assert [scene.label for scene in scenes] == ["D6 P1", "D7", "Scene 2"]
        assert [scene.well for scene in scenes] == ["D6", "D7", None]
        assert [scene.center for scene in scenes] == [(12.5, -40), None, None]

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
