"""Short forms of benchmarks/reliability: what is damaged costs an error, not the process."""

import json
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numcodecs
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))

from mutants import LIMITS, make
from originals import pixels as planes
from originals import write_array, write_originals
from workers import watched

from napari_patchset import CziImageStack, open_stack
from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.isolated import POOL, ReaderError, ReaderPool
from napari_patchset.stacks.zarr.ome import PlateField
from support.czi_maker import SceneSpec, blocks_of, jpegxr, write_blocks
from support.pixels import whole

WORKER = Path(__file__).parents[2] / "benchmarks" / "reliability" / "mutants.py"
SCENE = SceneSpec(c=2)
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write few of the originals, of every format."""
    folder = tmp_path_factory.mktemp("originals")
    return [path for text in ("zstd", "jpegxr.tif") for path in write_originals(folder, text)]


@pytest.fixture
def jpegxr_file(tmp_path: Path) -> Path:
    path = tmp_path / "jpegxr.czi"
    write_blocks(path, [jpegxr(block) for block in blocks_of((SCENE,), (24, 32))])
    return path


def expected() -> np.ndarray:
    return np.stack([SCENE.pixels({"T": 0, "Z": 0, "C": c}) for c in range(2)])


@linux
def test_mutants_are_read_right_or_refused(originals: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, str(WORKER), "worker", "1", str(tmp_path), *map(str, originals)]
    counts: Counter[str] = Counter()
    for number, found in watched(command, 0, 2 * len(originals), LIMITS):
        assert found["kind"] in ("same", "changed", "refused"), (number, found)
        counts[found["kind"]] += 1
    assert min(counts.values()) > 0


def test_a_mutant_is_the_same_every_time(originals: list[Path], tmp_path: Path) -> None:
    for number in range(len(originals)):
        done = {make(originals, 5, number, tmp_path / f"{number}-{i}") for i in range(2)}
        assert len(done) == 1


def test_a_file_without_full_resolution_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.czi"
    block, *_ = blocks_of((SceneSpec(),))
    write_blocks(path, [replace(block, pixels=block.pixels[::2, ::2])])
    with pytest.raises(UnreadableFileError, match=r"pyramid\.czi: none of its 1 subblocks"):
        CziImageStack(path)


@pytest.mark.parametrize("axis", [b"X\0\0\0", b"C\0\0\0", b"S\0\0\0"])
def test_a_tile_moved_in_the_directory_alone_is_refused(jpegxr_file: Path, axis: bytes) -> None:
    data = bytearray(jpegxr_file.read_bytes())
    at = data.index(axis, data.index(b"ZISRAWDIRECTORY")) + 4
    data[at] ^= 16
    jpegxr_file.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="another position or plane"):
        CziImageStack(jpegxr_file)


def test_an_lz4_chunk_takes_no_memory_for_what_it_declares(tmp_path: Path) -> None:
    path, options = tmp_path / "a.zarr", {"zarr_format": 2, "compressors": numcodecs.LZ4()}
    write_array(path, planes(3, 16, 32), **options)
    with (path / "2.0.0").open("r+b") as file:
        file.write((2**31 - 1).to_bytes(4, "little"))
    with pytest.raises(UnreadableFileError, match=r"a\.zarr.*2\.0\.0 would decode to 2147483647"):
        open_stack(path)


def test_shards_of_no_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_array(path, planes(3, 16, 32), shards=(1, 16, 32))
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(UnreadableFileError, match=r"a\.zarr: chunks of \[0, 16, 32\] hold no"):
        open_stack(path)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("when", ["while it is idle", "while it reads"])
def test_a_reader_process_that_dies_is_replaced(jpegxr_file: Path, when: str) -> None:
    with CziImageStack(jpegxr_file) as stack:
        np.testing.assert_array_equal(whole(stack), expected())
        (process, *_) = POOL._idle[::-1]
        if when == "while it is idle":
            process.kill()
        else:
            process._process.send_signal(signal.SIGSTOP)
            with ThreadPoolExecutor(1) as pool:
                stack._tiles.clear()
                reading = pool.submit(whole, stack)
                while process in POOL._idle:
                    pass
                process._process.kill()
                with pytest.raises(UnreadableFileError, match=r"jpegxr\.czi.*ended its process"):
                    reading.result()
        stack._tiles.clear()
        np.testing.assert_array_equal(whole(stack), expected())


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_read_that_does_not_end_is_ended(
    jpegxr_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_patchset.stacks.isolated._TIMEOUT_SECONDS", 0.2)
    pool = ReaderPool()
    with pool._leased() as process:
        process._process.send_signal(signal.SIGSTOP)
    with pytest.raises(ReaderError, match=r"did not end within 0\.2 s"):
        pool.read(pool.new_handle(), jpegxr_file, 0, window=(0, 0, 9, 9), plane={}, scene=0)
    pool.end()


def test_an_interrupted_read_leaves_no_half_answer(jpegxr_file: Path) -> None:
    with CziImageStack(jpegxr_file) as stack:
        with suppress(KeyboardInterrupt), POOL._leased() as process:
            process._send({"handle": -1, "path": str(jpegxr_file), "window": [0, 0, 9, 9]})
            raise KeyboardInterrupt
        np.testing.assert_array_equal(whole(stack), expected())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_through_processes_of_its_own(jpegxr_file: Path) -> None:
    with CziImageStack(jpegxr_file) as stack:
        whole(stack)
        stack._tiles.clear()
        if (pid := os.fork()) == 0:
            same = np.array_equal(whole(stack), expected())
            POOL.end()
            os._exit(0 if same else 1)
        assert os.waitpid(pid, 0)[1] == 0
        np.testing.assert_array_equal(whole(stack), expected())


@pytest.mark.parametrize(("path", "well"), [("p/A/1/0", "A1"), ("A1/0", "A1"), ("0", "0")])
def test_a_well_that_is_no_row_and_column_has_a_name(path: str, well: str) -> None:
    assert PlateField(path, 0, 0, 0, 1).name == well
