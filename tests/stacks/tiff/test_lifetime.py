"""TiffImageStack: opened, closed, pickled, forked; its file changed while open."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError, SampleIndexError, UnreadableFileError
from napari_patchset.stacks.tiff.stack import TiffImageStack
from support.tiff_maker import W, planes, write


@pytest.fixture(params=[{}, {"tile": (16, 16), "compression": "zstd"}], ids=["raw", "zstd"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "image.tif", planes(6), **request.param)


def patch_of(stack: TiffImageStack, sample: int) -> NDArray[Any]:
    return stack.extract_patch(sample, None, (7, 9), (20, 31))


def is_exact(stack: TiffImageStack) -> bool:
    patches = [patch_of(stack, i) for i in range(6)]
    return np.array_equal(patches, planes(6)[:, None, 7:27, 9:40])


def test_a_pickled_stack_reopens_its_file_after_chdir(
    image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with TiffImageStack("image.tif") as stack:
        assert is_exact(stack)
        pickled = pickle.dumps(stack)
    monkeypatch.chdir("/")
    with pickle.loads(pickled) as again:
        assert is_exact(again)
        assert again.metadata == stack.metadata
        assert again.source == image


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_can_read(image: Path) -> None:
    with TiffImageStack(image) as stack:
        assert is_exact(stack)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert all(pool.map(is_exact, [stack] * 4))
        child = os.fork()
        if child == 0:
            os._exit(0 if is_exact(stack) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert is_exact(stack)


def test_threads_share_a_stack(image: Path) -> None:
    with TiffImageStack(image) as stack, ThreadPoolExecutor(8) as threads:
        patches = threads.map(lambda i: patch_of(stack, i % 6), range(300))
        for i, patch in enumerate(patches):
            np.testing.assert_array_equal(patch[0], planes(6)[i % 6, 7:27, 9:40])


def test_reading_a_closed_stack_raises(image: Path) -> None:
    stack = TiffImageStack(image)
    assert is_exact(stack)
    stack.close()
    stack.close()
    with pytest.raises(ValueError, match="closed; open the file again"):
        is_exact(stack)
    with pytest.raises(ValueError, match="closed"):
        is_exact(pickle.loads(pickle.dumps(stack)))


def test_a_deleted_stack_closes_its_file(image: Path) -> None:
    stack = TiffImageStack(image)
    assert is_exact(stack)
    assert len(stack.levels) == 1
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    del stack
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_file_cut_or_changed_while_open_is_an_error(image: Path) -> None:
    with TiffImageStack(image) as stack:
        patch_of(stack, 0)
        pickled = pickle.dumps(stack)
        os.truncate(image, 1000)
        with pytest.raises(UnreadableFileError, match="cut after it was opened"):
            patch_of(stack, 5)
    with (
        pickle.loads(pickled) as again,
        pytest.raises(UnreadableFileError, match="changed since it was opened"),
    ):
        patch_of(again, 5)


def test_arguments_out_of_bounds(image: Path) -> None:
    with TiffImageStack(image) as stack:
        with pytest.raises(ArgumentError, match="Channel index 1 is out of bounds"):
            stack.extract_patch(0, [1], (0, 0), (4, 4))
        with pytest.raises(SampleIndexError):
            stack.extract_patch(6, None, (0, 0), (4, 4))
        with pytest.raises(ArgumentError, match="needs 2 coordinates"):
            stack.extract_patch(0, None, (0, 0, 0), (4, 4, 4))
        outside = stack.extract_patch(0, None, (-3, W - 2), (5, 5))
        np.testing.assert_array_equal(outside[0, 3:, :2], planes(6)[0, :2, W - 2 :])
        assert not outside[0, :3].any()
        assert not outside[0, :, 2:].any()
