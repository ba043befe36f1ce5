"""CziImageStack: opened, closed, pickled, forked."""

import gc
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset import CziImageStack
from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks.cache import OpenFile
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml, plane
from support.pixels import whole


def read_there(stack: CziImageStack) -> NDArray[Any]:
    with stack:
        return whole(stack)


def read_by_source(source: Path) -> NDArray[Any]:
    return read_there(CziImageStack(source))


class TestLifetime:
    SCENE = SceneSpec(2, (0, 0, 40, 30), c=2)

    def test_opening_leaves_no_file_open(self, czi: MakeCzi) -> None:
        path = czi(self.SCENE)
        stack = CziImageStack(path)
        assert not is_open(path)
        whole(stack)
        assert is_open(path)
        stack.close()
        assert not is_open(path)

    @pytest.mark.parametrize("xml", [metadata_xml(), None, "<broken"])
    def test_a_dropped_stack_closes_its_file_at_once(self, czi: MakeCzi, xml: str | None) -> None:
        path = czi(self.SCENE, xml=xml)
        gc.disable()
        try:
            whole(CziImageStack(path))
            assert not is_open(path)
        finally:
            gc.enable()

    def test_a_failed_opening_leaves_no_file_open(self, czi: MakeCzi) -> None:
        path = czi(self.SCENE)
        for arguments in ({"scene": 9}, {"depth_axis": "Z"}):
            with pytest.raises((ValueError, RuntimeError)):
                CziImageStack(path, **arguments)
        assert not is_open(path)

    def test_reading_a_closed_stack_is_a_named_error(self, czi: MakeCzi) -> None:
        with CziImageStack(czi(self.SCENE)) as stack:
            whole(stack)
        with pytest.raises(ValueError, match=r"image\.czi: the stack is closed"):
            whole(stack)

    def test_a_pickle_contains_neither_pixels_nor_reader(self, czi: MakeCzi) -> None:
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

    def test_source_is_the_path_as_it_was_passed(
        self, czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        czi(self.SCENE)
        monkeypatch.chdir(tmp_path)
        with CziImageStack("image.czi", 2) as stack:
            assert stack.source == Path("image.czi@2")

    def test_another_process_reopens_it_by_itself_or_by_its_source(self, czi: MakeCzi) -> None:
        context = multiprocessing.get_context("forkserver")
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


def is_open(path: Path) -> bool:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("the system does not list open files")
    return str(path) in [os.readlink(link) for link in folder.iterdir() if link.is_symlink()]


def _check_in_child(stack: CziImageStack) -> None:
    with mock.patch("napari_patchset.stacks.cache.OpenFile", wraps=OpenFile) as opened:
        for channel, image in enumerate(whole(stack)):
            np.testing.assert_array_equal(image, plane(TestLifetime.SCENE, C=channel))
    assert opened.call_count == 1


def in_forked_child(stack: CziImageStack) -> int | None:
    """Read in a child that must open a reader of its own, and return its exit code."""
    child = multiprocessing.get_context("fork").Process(target=_check_in_child, args=(stack,))
    child.start()
    child.join(60)
    with closing(child):
        return child.exitcode
