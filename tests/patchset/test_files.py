"""Files are complete or absent, and nothing but a file is replaced."""

import os
import sys
from pathlib import Path
from threading import Thread

import pytest

from napari_patchset.patchset.files import write_file


def test_a_write_that_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    write_file(tmp_path / "a", [b"before"])
    with pytest.raises(TypeError):
        write_file(tmp_path / "a", [b"half", "no bytes"])  # type: ignore[list-item]  # on purpose
    assert (tmp_path / "a").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, [b"one", b"two"])
    reader.join()
    assert received == [b"onetwo"]
    assert pipe.is_fifo()
