"""The memory of decoded tiles is used again, and only when nobody sees the tile any more."""

import pickle

import numpy as np

from napari_patchset.stacks.tiles import Buffers


def test_memory_comes_back_with_the_last_view() -> None:
    buffers = Buffers()
    first = buffers.take(100)
    address = first.ctypes.data
    view = first.view("<u2").reshape(5, 10)[1:, ::2]
    del first
    other = buffers.take(100)
    assert not np.shares_memory(other, view)
    del view
    assert buffers.take(100).ctypes.data == address


def test_memory_of_another_size_is_left_for_later() -> None:
    buffers = Buffers()
    address = buffers.take(100).ctypes.data
    assert len(buffers.take(50)) == 50
    assert buffers.take(100).ctypes.data == address


def test_buffers_pickle_empty() -> None:
    buffers = Buffers()
    buffers.take(100)
    assert len(pickle.loads(pickle.dumps(buffers)).take(10)) == 10
