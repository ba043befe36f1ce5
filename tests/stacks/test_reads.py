"""How often a file is read: when opened, when opened again, and for a tile."""

from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from time import time
from typing import Any

import pytest
import zarr

from napari_patchset.source import SceneId
from napari_patchset.stacks import cache
from napari_patchset.stacks.cache import OpenFiles
from napari_patchset.stacks.fingerprint import file_key
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_labels, list_scenes, open_stack
from support.counting import Reads, noise
from support.czi_maker import SceneSpec, make_czi, metadata_xml
from support.tiff_maker import write

WHOLE, SAMPLED = 1, 18
"""Reads of a fingerprint: of a file of up to 192 KiB, and of both ends and 16 blocks."""

SCENES = tuple(SceneSpec(i, (i * 300, 0, 96, 64), t=2, z=3, c=2) for i in range(2))
SUBBLOCKS = 2 * 2 * 3 * 2 * 6


def czi(path: Path) -> Path:
    return make_czi(path, SCENES, xml=metadata_xml(), tile=(32, 32))


def tiff(path: Path) -> Path:
    write(path, noise(64, 3), tile=(32, 32), metadata={"axes": "CZYX"})
    return path


def folder(path: Path) -> Path:
    zarr.create_array(path, data=noise(64, 3)[0, 0], chunks=(32, 32), dimension_names=["y", "x"])
    return path


FILES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "a.czi": (czi, 3 + SUBBLOCKS),
    "a.ome.tif": (tiff, 24),
}
"""A maker of each file, and the number of reads that open it.

Of a CZI: first bytes, header, directory with the XML near it, and each subblock's header. Of a
TIFF: first bytes, its six directories at once, and what tifffile reads of each.
"""


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Count, of files that have long been there."""
    now = time()
    monkeypatch.setattr(cache, "time", lambda: now + 60)
    return Reads(tmp_path, monkeypatch)


def list_and_open(path: Path) -> SceneId | None:
    """List what is in a file, and open it, as the window does."""
    scene = list_scenes(path)[0].id
    list_labels(path, scene)
    open_stack(path, scene).close()
    return scene


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_once_whoever_opens_it(tmp_path: Path, reads: Reads, name: str) -> None:
    make, expected = FILES[name]
    first, second = make(tmp_path / name), make(tmp_path / f"other-{name}")
    scene = list_and_open(first)
    assert reads.pop(name) <= expected
    list_and_open(second)
    assert reads.pop(second.name) <= expected
    list_and_open(first)
    with open_stack(first, scene, "Z") as stack:
        assert not reads
        describe(stack)
    assert reads == {name: WHOLE if first.stat().st_size <= 192 * 1024 else SAMPLED}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changed_is_read_again(tmp_path: Path, reads: Reads, name: str) -> None:
    make, _ = FILES[name]
    path = make(tmp_path / name)
    list_and_open(path)
    reads.clear()
    path.write_bytes(path.read_bytes())
    list_and_open(path)
    assert reads[name] > 1


def test_the_pixels_of_a_tile_are_one_read(tmp_path: Path, reads: Reads) -> None:
    path = czi(tmp_path / "a.czi")
    with open_stack(path, 1) as stack:
        reads.clear()
        stack.extract_patch(0, None, (0, 0), (64, 96))
    assert reads == {"a.czi": 2 * 6}


def test_a_zarr_is_known_by_its_metadata_and_one_read_of_a_small_chunk(
    tmp_path: Path, reads: Reads
) -> None:
    path = folder(tmp_path / "a.zarr")
    list_and_open(path)
    assert reads.pop("zarr.json") <= 12
    assert not reads
    with open_stack(path) as stack:
        reads.clear()
        describe(stack)
    assert reads == {"0": 2, "1": 2}, "the last part of the names of four files"


def test_the_parts_of_a_fingerprint_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them wait for each other, so one thread alone would never end."""
    path = tmp_path / "a.bin"
    path.write_bytes(noise(256, 2).tobytes())
    both, read = Barrier(2, timeout=30), OpenFiles.read

    def waiting(self: OpenFiles, *args: Any) -> bytes:
        both.wait()
        return read(self, *args)

    expected = file_key(path)
    monkeypatch.setattr(OpenFiles, "read", waiting)
    assert file_key(path) == expected


def test_the_coarsest_plane_of_a_pyramid_is_one_read(tmp_path: Path) -> None:
    scene = SceneSpec(0, (0, 0, 1001, 601), pyramid=True)
    with open_stack(make_czi(tmp_path / "a.czi", [scene])) as stack:
        height, width = stack.levels[-1].data_shape[-2:]
        block = stack.levels[-1].block_shape
    assert block >= (height, width)
