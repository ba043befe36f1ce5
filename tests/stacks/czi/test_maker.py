"""The CZIs that tests are made of are what libCZI reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pylibCZIrw.czi import CziReader, open_czi

from napari_patchset import CziImageStack
from napari_patchset.errors import UnreadableFileError
from support.czi_maker import Block, MakeCzi, SceneSpec, blocks_of, metadata_xml, write_blocks
from support.pixels import whole


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
