"""TIFFs that are damaged or hostile are refused with one error."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.stacks.memory import FileImageStack, InMemoryImageStack
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.tiff.stack import TiffImageStack
from support.tiff_maker import H, W, assert_whole, planes, write, write_ome_set


def assert_refused(path: Path, match: str) -> None:
    with pytest.raises(UnreadableFileError, match=match) as caught:
        TiffImageStack(path)
    assert path.name in str(caught.value)


def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a little-endian TIFF with one directory; an entry is tag, type, count, value."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = struct.pack("<4sI", b"II*\0", 8)
    return head + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def minimal(**changed: int) -> list[tuple[int, int, int, int]]:
    """Return the tags of a page of 4 x 4 px of 8 bits, whose pixels begin at byte 200."""
    values = {"width": 4, "height": 4, "bits": 8, "compression": 1, "photometric": 1}
    values |= {"offset": 200, "samples": 1, "rows": 4, "count": 16} | changed
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279)
    return [(tag, 4, 1, value) for tag, value in zip(tags, values.values(), strict=True)]


def test_the_minimal_page_is_readable(tmp_path: Path) -> None:
    pixels = bytes(range(1, 17))
    (tmp_path / "m.tif").write_bytes(directory(*minimal()).ljust(200, b"\0") + pixels)
    with TiffImageStack(tmp_path / "m.tif") as stack:
        assert stack.extract_patch(0, None, (0, 0), (4, 4)).tobytes() == pixels


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"offset": 2**31}, "bytes of pixels at byte|but the file has"),
        ({"offset": 201}, "bytes of pixels at byte|but the file has"),
        ({"height": 2**20, "width": 2**20, "rows": 2**20}, "but the file has|limit"),
        ({"height": 2**31, "width": 2**31, "compression": 8, "rows": 1}, "tiles or strips"),
        ({"compression": 8, "width": 2**12, "height": 2**12, "rows": 2**12}, "can't hold"),
        ({"width": 0}, "holds no image|can't be read"),
        ({"height": 0}, "holds no image|can't be read"),
        ({"compression": 40000}, "can't be decoded.*40000"),
        ({"bits": 7777}, "can't be read"),
        ({"samples": 50000}, "."),
    ],
)
def test_declared_sizes_are_checked_at_opening(
    changed: dict[str, int], match: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(directory(*minimal(**changed)).ljust(200, b"\0") + bytes(range(16)))
    assert_refused(path, match)


@pytest.mark.parametrize(
    "description",
    [
        '{"shape": [100000000000, 4, 4]}',
        "ImageJ=1.54f\nimages=900000000\nframes=900000000\nhyperstack=true\n",
    ],
)
def test_declared_pages_allocate_no_memory(description: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, planes(1, size=(4, 4))[0], description=description, metadata=None)
    assert_refused(path, "declares 100000000000 pages|has 900000000 planes, but it ends")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a TIFF file"),
        (b"PK\x03\x04 something else", "not a TIFF file"),
        (b"II*\0", "within the header"),
        (b"II*\0\0\0\0\0", "no page"),
        (b"II*\0\xff\xff\0\0", "page 0 should begin at byte 65535"),
        (b"II*\0\x08\0\0\0\0\0", "0 tags"),
        (directory(*minimal(), following=10**6), "page 1 should begin at byte 1000000"),
        (directory(*minimal(), (270, 2, 10**6, 100)), "ImageDescription ends at byte"),
        (directory(*minimal(), (256, 4, 1, 5)), "ImageWidth occurs twice"),
        (directory(*minimal(), (317, 99, 1, 5)), "Predictor is of the unknown type"),
    ],
)
def test_damaged_structure_is_refused(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    assert_refused(path, match)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("back_to", [0, 2])
def test_pages_before_a_circle_are_read(
    back_to: int, options: dict[str, Any], tmp_path: Path
) -> None:
    data = planes(3)
    path = write(tmp_path / "a.tif", data, metadata=None, compression="zlib", **options)
    with tifffile.TiffFile(path) as file:
        assert file.pages.next_page_offset > file.pages[2].offset
        link, target = file.pages.next_page_offset, file.pages[back_to].offset
        stored = struct.pack(file.tiff.offsetformat, target)
    with path.open("r+b") as damaged:
        damaged.seek(link)
        damaged.write(stored)
    with pytest.warns(
        UserWarning, match="its pages form a circle; the 3 pages before that are read"
    ):
        stack = TiffImageStack(path)
    with stack:
        assert_whole(stack, data[:, None])


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "jpeg"])
def test_a_damaged_tile_is_named_when_it_is_read(compression: str, tmp_path: Path) -> None:
    data = planes(2, dtype=np.uint8)
    path = write(tmp_path / "a.tif", data, tile=(16, 32), compression=compression, metadata=None)
    with tifffile.TiffFile(path) as file:
        page = file.pages[1]
        offset, length = page.dataoffsets[5], page.databytecounts[5]
    with path.open("r+b") as damaged:
        damaged.seek(offset)
        damaged.write(b"\xff" * length)
    with TiffImageStack(path) as stack:
        stack.extract_patch(1, None, (0, 0), (16, 32))
        with pytest.raises(UnreadableFileError, match="page 1, 32 x 16 px at x=64, y=16: can't"):
            stack.extract_patch(1, None, (16, 64), (16, 6))


def test_a_jpeg_larger_than_its_tile_is_refused(tmp_path: Path) -> None:
    data = planes(1, dtype=np.uint8)[0]
    path = write(tmp_path / "a.tif", data, tile=(16, 32), compression="jpeg")
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0", offset, offset + length)
    content[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    path.write_bytes(content)
    with TiffImageStack(path) as stack, pytest.raises(UnreadableFileError, match="65000 x 65000"):
        stack.extract_patch(0, None, (7, 9), (20, 31))


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
HUGE = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    f'ID="Pixels:0" DimensionOrder="XYCTZ" Type="uint16" SizeX="{W}" SizeY="{H}" SizeC="1" '
    'SizeT="1000000000" SizeZ="1"><TiffData/></Pixels></Image></OME>'
)
BOMB = HUGE.replace('"1000000000"', '"1"').replace("<TiffData/>", '<TiffData PlaneCount="2e9"/>')
WRONG = HUGE.replace('"1000000000"', '"1"').replace(f'"{W}"', '"999"')


@pytest.mark.parametrize(
    ("xml", "match"),
    [
        (ENTITIES, "OME-XML can't be read"),
        ("<OME><broken</OME>", "OME-XML can't be read"),
        (HUGE, "at most 4194304 planes"),
        (BOMB, "PlaneCount"),
        (WRONG, "do not fit OME-XML"),
    ],
)
def test_ome_xml_is_not_trusted_but_its_pages_can_be_read(
    xml: str, match: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", planes(1), description=xml, metadata=None)
    assert_refused(path, f"{match}.*")
    for stack in (InMemoryImageStack.from_tiff(path, "YX"), FileImageStack.from_tiff(path, "YX")):
        if isinstance(stack, FileImageStack):
            stack.load()
        assert_whole(stack, planes(1)[None])


@pytest.mark.parametrize("cut", [7, 30, 200])
def test_ome_xml_that_was_cut_short_is_not_ignored(cut: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", planes(2, 3), metadata={"axes": "TZYX"})
    with tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    tifffile.tiffcomment(path, text[:-cut].encode())
    assert_refused(path, "OME-XML can't be read.*state the axes")
    with open_stack(path, axes="ZYX", depth_axis="Z") as stack:
        assert_whole(stack, planes(6)[None, None])


def test_comments_in_a_description_that_is_no_ome_xml_cost_no_time(tmp_path: Path) -> None:
    path = tmp_path / "comments.tif"
    tifffile.imwrite(path, planes(1), description="<!--a-->" * 100 + "x")
    with open_stack(path) as stack:  # it would try 2 to the 100 ways
        assert_whole(stack, planes(1)[None])


def test_ome_xml_with_a_comment_behind_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", planes(2, 3), metadata={"axes": "TZYX"})
    with tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    tifffile.tiffcomment(path, f"{text}<!-- seen -->".encode())
    with open_stack(path) as stack:
        assert stack.original_axes == "TZYX"


def test_integers_that_tifffile_mixes_up_are_refused(tmp_path: Path) -> None:
    for bits in (17, 24, 31):
        content = directory(*minimal(bits=bits, count=64)).ljust(200, b"\0") + bytes(64)
        (tmp_path / "a.tif").write_bytes(content)
        assert_refused(tmp_path / "a.tif", f"integers of {bits} bits can't be read")


IMAGEJ = "ImageJ=1.53t\nimages=6\nslices={}\nunit=um\nspacing=2\n"


def test_pages_that_do_not_fit_imagej_are_read_with_stated_axes(tmp_path: Path) -> None:
    data = planes(6)
    path = write(tmp_path / "a.tif", data, description=IMAGEJ.format(7), metadata=None)
    assert_refused(path, r"its 6 pages do not fit ImageJ's description, which has 7 planes.*axes")
    with open_stack(path, axes="ZYX", depth_axis="Z") as stack:
        assert_whole(stack, data[None, None])
    with TiffImageStack(path, axes="TYX") as stack:
        assert_whole(stack, data[:, None])


def test_a_stack_of_imagej_that_was_cut_short_is_called_so(tmp_path: Path) -> None:
    data = planes(6)
    path = write(tmp_path / "a.tif", data[0], description=IMAGEJ.format(6), metadata=None)
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.dataoffsets[0]
    path.write_bytes(path.read_bytes()[:at] + data.tobytes())
    with open_stack(path, depth_axis="Z") as stack:
        assert_whole(stack, data[None, None])
    path.write_bytes(path.read_bytes()[: at + data.nbytes // 2])
    assert_refused(path, "has 6 planes, but it ends after 3 of them.*cut short")


def test_pages_of_a_set_that_differ_are_named_in_words(tmp_path: Path) -> None:
    first, second, _ = write_ome_set(tmp_path, "time")
    xml = tifffile.tiffcomment(second)
    write(second, planes(1, size=(30, 32))[0], description=xml, metadata=None)
    assert_refused(first, "32 x 30 px of uint16.*32 x 32 px of uint16; planes of one image")


def test_a_missing_file_and_a_folder_raise_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TiffImageStack(tmp_path / "none.tif")
    with pytest.raises(FileNotFoundError):
        open_stack(tmp_path / "none.tif")
    with pytest.raises(IsADirectoryError):
        TiffImageStack(tmp_path)


def mutants(content: bytes, seed: int, count: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    mutated = []
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(int(random.integers(1, 4))):
            changed[random.integers(len(changed))] = random.integers(256)
        mutated.append(
            bytes(changed[: random.integers(8, len(changed))])
            if random.random() < 0.2
            else bytes(changed)
        )
    return mutated


WRITERS: dict[str, Callable[[Path], Path]] = {
    "ome": lambda p: write(p, planes(2, 2, size=(9, 9)), ome=True, metadata={"axes": "TCYX"}),
    "imagej": lambda p: write(p, planes(4, size=(9, 9)), imagej=True),
    "zlib": lambda p: write(p, planes(2, size=(9, 9)), compression="zlib", metadata=None),
    "lzw": lambda p: write(p, planes(2, size=(9, 9)), compression="lzw", metadata=None),
    "tiles": lambda p: write(p, planes(2, size=(20, 20)), tile=(16, 16), compression="zstd"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_mutants_are_read_or_refused_with_one_error(writer: str, tmp_path: Path) -> None:
    content = WRITERS[writer](tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "mutant.tif"
    messages = []
    for mutant in mutants(content, seed=1, count=150):
        path.write_bytes(mutant)
        try:
            with TiffImageStack(path) as stack:
                stack.extract_patch(0, [0], (0, 0), (8, 8))
        except (UnreadableFileError, ArgumentError) as error:
            messages.append(str(error))
    assert all("mutant.tif" in message for message in messages)


def test_pixels_of_no_samples_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", planes(1), tile=(16, 16), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["SamplesPerPixel"].overwrite(0)
    refused_when_read = pytest.raises(UnreadableFileError, match=r"a\.tif.*0 samples a pixel")
    with TiffImageStack(path) as stack, refused_when_read:
        stack.extract_patch(0, None, (7, 9), (20, 31))
