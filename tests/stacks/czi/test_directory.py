"""A CZI's directory, parsed without libCZI, and what is refused before libCZI sees it."""

import struct
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from napari_patchset import CziImageStack
from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.czi.directory import PLANE_AXES, read_directory
from support.czi_maker import (
    Block,
    MakeCzi,
    SceneSpec,
    blocks_of,
    make_czi,
    metadata_xml,
    write_blocks,
)

SCENE = SceneSpec(0, (-20, 7, 40, 30), t=2, c=2)

FILES: dict[str, Sequence[SceneSpec]] = {
    "one plane": [SceneSpec()],
    "no scene": [SceneSpec(None)],
    "few axes": [SceneSpec(None, t=None, z=None, c=None)],
    "all axes": [SceneSpec(2, (-9, 3, 20, 20), 2, 2, 2, dict.fromkeys("RIHVB", 2))],
    "late starts": [SceneSpec(0, t=range(3, 5), z=range(7, 9), c=range(1, 3))],
    "scenes": [SceneSpec(3, (-90, -40, 33, 21)), SceneSpec(7, (5, 9, 20, 20), kind="Bgr24")],
    "mixed axes": [SceneSpec(0, more={"H": 2}), SceneSpec(1, (99, 0, 20, 20), z=None)],
    "mixed types": [SceneSpec(c=3, kind={0: "Gray8", 1: "Gray32Float", 2: "Bgr48"})],
    "missing planes": [SceneSpec(t=2, z=3, c=2, missing=({"Z": 1, "C": 1},))],
    "overlap": [SceneSpec(overlap=4)],
    "pyramid": [SceneSpec(0, (0, 0, 67, 35), pyramid=True)],
}


def by_libczi(path: Path) -> list[dict[str, Any]]:
    """List what libCZI knows of each subblock."""
    subblocks: list[dict[str, Any]] = []

    def note(_: int, info: Any) -> bool:
        logical, stored = info.logicalRect, info.physicalSize
        numbers = info.coordinate.to_dict()
        subblocks.append(
            {
                "rect": [logical.x, logical.y, logical.w, logical.h],
                "stored": [stored.w, stored.h],
                "pixel_type": int(info.pixelType),
                "compression": info.compressionModeRaw,
                "m": info.mIndex if info.is_mindex_valid() else 0,
                "scene": numbers.get("S", -1),
                "plane": [numbers.get(axis, 0) for axis in PLANE_AXES],
            }
        )
        return True

    with open_czi(str(path)) as reader:
        reader.enumerate_subblocks(note)
    return subblocks


def by_us(path: Path) -> list[dict[str, Any]]:
    """List the same from our own parse."""
    blocks = read_directory(path).subblocks
    columns = {
        "rect": blocks.rect,
        "stored": blocks.stored,
        "pixel_type": blocks.pixel_type,
        "compression": blocks.compression,
        "m": np.maximum(blocks.m_index, 0),
        "scene": blocks.scene,
        "plane": blocks.plane,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def ordered(blocks: list[dict[str, Any]]) -> list[str]:
    return sorted(map(str, blocks))


@pytest.mark.parametrize("name", FILES)
def test_the_directory_is_what_libczi_enumerates(tmp_path: Path, name: str) -> None:
    path = make_czi(tmp_path / "made.czi", FILES[name], tile=(16, 24))
    assert ordered(by_us(path)) == ordered(by_libczi(path))


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd0:", "zstd1:"])
def test_the_directory_of_libczis_own_files_too(czi: MakeCzi, compression: str) -> None:
    scenes = SceneSpec(0, (-7, 9, 40, 30), t=2, z=2, c=2), SceneSpec(1, (90, 0, 20, 20))
    path = czi(*scenes, tile=(16, 16), compression=compression)
    assert ordered(by_us(path)) == ordered(by_libczi(path))


@pytest.mark.realdata
def test_the_directory_of_a_real_file_too(data_dir: Path, czi_truth: dict[str, Any]) -> None:
    path = data_dir / czi_truth["file"]
    blocks = by_us(path)
    assert len(blocks) == czi_truth["n_subblocks"]
    if czi_truth["file_parts"] == [0]:
        assert ordered(blocks) == ordered(by_libczi(path))


def test_only_axes_that_a_subblock_names_are_there(czi: MakeCzi) -> None:
    path = czi(SceneSpec(None, t=None, c=None, more={"V": 2, "H": 1}))
    assert read_directory(path).subblocks.axes == "ZHV"


def test_the_xml_is_returned_unchanged(czi: MakeCzi) -> None:
    xml = metadata_xml({"X": 1e-6}, {"Channel:0": "Grün <1>"})
    assert read_directory(czi(xml=xml)).xml.rstrip(b"\0") == xml.encode()
    assert read_directory(czi()).xml == b""


def write_text(path: Path) -> None:
    path.write_text("channel,mean\nDAPI,3.5\n" * 40)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_tiff(path: Path) -> None:
    path.write_bytes(b"II*\0" + bytes(600))


def cut_at(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        raw = make_czi(path, [SCENE], xml=metadata_xml()).read_bytes()
        path.write_bytes(raw[: int(len(raw) * share)])

    return cut


def without_subblocks(path: Path) -> None:
    write_blocks(path, [])


def empty_part(path: Path) -> None:
    write_blocks(path, [], file_part=1)


def with_block(**changes: Any) -> Callable[[Path], None]:
    """Change the third of four subblocks."""

    def write(path: Path) -> None:
        blocks = list(blocks_of([SCENE]))
        blocks[2] = replace(blocks[2], **changes)
        write_blocks(path, blocks)

    return write


def patched(offset: int, layout: str, value: int, at: str = "directory") -> Callable[[Path], None]:
    """Overwrite a field at an offset from the start of the file, of the directory, or its data."""

    def write(path: Path) -> None:
        raw = bytearray(make_czi(path, [SCENE], xml=metadata_xml()).read_bytes())
        directory_at, metadata_at = struct.unpack_from("<qq", raw, 32 + 52)
        start = {"file": 0, "directory": directory_at, "metadata": metadata_at}[at]
        struct.pack_into(layout, raw, start + offset, value)
        path.write_bytes(raw)

    return write


ENTRY = 32 + 128
"""Where the first entry lies in the directory's segment."""

BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a text file": (write_text, "not a CZI file"),
    "an empty file": (write_nothing, "not a CZI file"),
    "a TIFF": (write_tiff, "not a CZI file"),
    "cut in the header": (cut_at(0.002), "not a CZI|cut short|ends within"),
    "cut in the pixels": (cut_at(0.5), "cut short"),
    "cut in the directory": (cut_at(0.9), "cut short"),
    "cut in the metadata": (cut_at(0.995), "cut short"),
    "no subblocks": (without_subblocks, "no subblocks"),
    "a part without subblocks": (empty_part, "no subblocks"),
    "a subblock in a wild part": (with_block(part=2**30), "names the files 0 to 1073741824"),
    "a subblock in a negative part": (with_block(part=-1), "names the files -1 to 0"),
    "unknown pixel type": (with_block(pixel_type=77), "pixel type 77"),
    "16-bit complex": (with_block(pixel_type=10), "pixel type 10"),
    "unknown compression": (with_block(compression=1234), "compression 1234"),
    "lossless JPEG": (with_block(compression=3), "compression 3; only .*JPEG, LZW.* can be read"),
    "JPEG without one": (with_block(compression=1), "is not JPEG data"),
    "JPEG XR without one": (with_block(compression=4), "is not JPEG XR data"),
    "camera raw": (with_block(compression=100), "compression 100"),
    "wild width": (with_block(rect=(0, 0, 2**31 - 1, 8)), "impossible size"),
    "negative width": (with_block(rect=(0, 0, -8, 8)), "impossible size"),
    "no width": (with_block(rect=(0, 0, 0, 8)), "impossible size"),
    "wild position": (with_block(rect=(2**31 - 9, 0, 8, 8)), "px apart, an impossible size"),
    "wild C": (with_block(plane={"C": 2**31 - 1}), "claims .*C "),
    "negative wild C": (with_block(plane={"C": -(2**31)}), "claims .*C "),
    "wild T": (with_block(plane={"T": 10**8, "C": 0}), "claims .*T "),
    "wild stored size": (patched(ENTRY + 32 + 16, "<i", 2**30), "impossible size"),
    "stored size past the end": (patched(ENTRY + 32 + 16, "<i", 2**20), "past the end|impossible"),
    "wild subblock position": (patched(ENTRY + 6, "<q", 2**62), "past the end"),
    "negative subblock position": (patched(ENTRY + 6, "<q", -1), "past the end|byte -1"),
    "wild number of entries": (patched(32, "<i", 2**31 - 1), "entry .* can't be read"),
    "negative number of entries": (patched(32, "<i", -5), "damaged|no subblocks"),
    "wild number of dimensions": (patched(ENTRY + 28, "<i", 2**31 - 1), "entry 0 of 4"),
    "no dimensions": (patched(ENTRY + 28, "<i", 0), "entry 0 of 4"),
    "an old entry schema": (patched(ENTRY, "<h", 0x4544), "entry 0 of 4"),
    "wild directory size": (patched(24, "<q", 2**62), "damaged or cut short"),
    "negative directory size": (patched(24, "<q", -64), "damaged or cut short"),
    "no directory": (patched(32 + 52, "<q", 0, "file"), "no ZISRAWDIRECTORY"),
    "wild directory position": (patched(32 + 52, "<q", 2**62, "file"), "no ZISRAWDIRECTORY"),
    "negative directory position": (patched(32 + 52, "<q", -9, "file"), "no ZISRAWDIRECTORY"),
    "wild metadata position": (patched(32 + 60, "<q", 2**62, "file"), "no ZISRAWMETADATA"),
    "wild metadata size": (patched(24, "<q", 2**62, "metadata"), "damaged or cut short"),
}


@pytest.mark.timeout(60)  # libCZI would never end
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_libczi_must_not_see_is_refused_by_name_at_once(
    tmp_path: Path, name: str
) -> None:
    write, reason = BAD[name]
    path = tmp_path / "damaged.czi"
    write(path)
    for open_it in (CziImageStack, CziImageStack.get_bounding_rectangles):
        with pytest.raises(UnreadableFileError, match=rf"damaged\.czi: .*({reason})") as caught:
            open_it(path)
        assert "\n" not in str(caught.value)


HEADERS: dict[str, tuple[int, str, int]] = {
    "no subblock there": (0, "<q", 0),
    "wild data size": (32 + 8, "<q", 2**60),
    "negative data size": (32 + 8, "<q", -5),
    "data size past the end": (32 + 8, "<q", 2**24),
    "wild metadata size": (32, "<i", 2**31 - 1),
    "wild number of dimensions": (48 + 28, "<i", 39),
    "another pixel type": (48 + 2, "<i", 3),
    "another compression": (48 + 18, "<i", 6),
    "another stored size": (48 + 32 + 16, "<i", 4000),
}
"""Fields of a subblock's own segment, which the directory does not contain."""


@pytest.mark.parametrize("name", HEADERS)
def test_a_subblock_that_contradicts_the_directory_is_one_named_error(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "damaged.czi"
    raw = bytearray(make_czi(path, [SCENE]).read_bytes())
    offset, layout, value = HEADERS[name]
    struct.pack_into(layout, raw, int(read_directory(path).subblocks.position[0]) + offset, value)
    path.write_bytes(raw)
    with pytest.raises(UnreadableFileError, match=r"damaged\.czi"), CziImageStack(path, 0) as stack:
        stack.extract_patch(0, [0], (0, 0), (8, 8))


def test_a_sound_file_is_not_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.czi"
    with_block()(path)
    with CziImageStack(path, 0) as stack:
        assert stack.extract_patch(1, [1], (0, 0), (30, 40)).all()


def test_a_wild_metadata_length_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "sound.czi"
    patched(32, "<i", 2**31 - 1, "metadata")(path)
    with CziImageStack(path, 0) as stack:
        assert stack.extract_patch(0, [0], (0, 0), (30, 40)).all()


def test_system_errors_are_passed_on_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.czi"):
        CziImageStack(tmp_path / "nowhere.czi")
    (tmp_path / "folder.czi").mkdir()
    with pytest.raises(OSError, match=r"folder\.czi"):
        CziImageStack(tmp_path / "folder.czi")


def test_subblocks_are_not_gone_through_one_by_one(tmp_path: Path) -> None:
    pixel = np.zeros((1, 1), np.uint8)
    rects = ((x, y, 1, 1) for y in range(100) for x in range(300))
    blocks = [Block({"C": 0}, rect, pixel, 0, m) for m, rect in enumerate(rects)]
    write_blocks(tmp_path / "many.czi", blocks)
    events = Counter[str]()
    sys.setprofile(lambda frame, event, arg: events.update([event]))
    try:
        stack = CziImageStack(tmp_path / "many.czi")
    finally:
        sys.setprofile(None)
    with stack:
        assert stack.data_shape == [1, 1, 100, 300]
    assert 0 < events["call"] + events["c_call"] < len(blocks) / 10
