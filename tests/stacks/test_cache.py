"""The memory of decoded tiles is used again, and only when nobody sees the tile any more."""

import numpy as np

from napari_patchset.stacks.cache import take_memory

SIZE = 12345
"""Of no tile of any other test: the memory is the whole process's."""


def test_memory_comes_back_with_the_last_view() -> None:
    first = take_memory(SIZE)
    address = first.ctypes.data
    view = first.reshape(5, -1)[1:, ::2]
    del first
    other = take_memory(SIZE)
    assert not np.shares_memory(other, view)
    del view
    assert take_memory(SIZE).ctypes.data == address


def test_memory_of_another_size_is_left_for_later() -> None:
    address = take_memory(SIZE).ctypes.data
    assert len(take_memory(SIZE - 1)) == SIZE - 1
    assert take_memory(SIZE).ctypes.data == address
