"""Caches drop what was used longest ago; the memory of tiles is reused once nobody sees them."""

import gc
import weakref
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset.errors import UnreadableFileError
from napari_patchset.stacks import cache as cache_module
from napari_patchset.stacks.cache import SharedCache, TileCache, take_memory

SIZE = 12345
"""Of no tile of any other test: the memory is the whole process's."""


class Tiles:
    """A cache of tiles of 100 bytes, and how often each was decoded."""

    def __init__(self, limit: int) -> None:
        self.cache, self.decoded = TileCache(limit), Counter[int]()

    def get(self, key: int) -> None:
        def decode() -> NDArray[Any]:
            self.decoded[key] += 1
            return np.full(100, key, np.uint8)

        assert self.cache.get(key, decode)[0] == key


def test_the_tile_that_was_used_longest_ago_goes_first() -> None:
    tiles = Tiles(limit=300)
    for key in (1, 2, 3, 1, 4, 1, 3, 4):
        tiles.get(key)
    assert tiles.decoded == {1: 1, 2: 1, 3: 1, 4: 1}
    tiles.get(2)
    assert tiles.decoded[2] == 2


def test_no_more_is_dropped_than_necessary() -> None:
    tiles = Tiles(limit=300)
    for key in [*range(20), 19, 18, 17]:
        tiles.get(key)
    assert tiles.decoded.total() == 20


def test_a_tile_larger_than_the_limit_stays_until_the_next() -> None:
    tiles = Tiles(limit=10)
    for key in (1, 1, 2, 2):
        tiles.get(key)
    assert tiles.decoded.total() == 2


def fail() -> NDArray[Any]:
    raise UnreadableFileError("damaged")


def test_a_failure_is_not_cached() -> None:
    tiles = Tiles(limit=300)
    with pytest.raises(UnreadableFileError):
        tiles.cache.get(1, fail)
    tiles.get(1)


def test_who_waits_for_one_that_is_told_to_stop_computes_it_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Awaited(Future[str]):
        def result(self, timeout: float | None = None) -> str:
            awaited.set()
            return super().result(timeout)

    monkeypatch.setattr(cache_module, "Future", Awaited)
    cache, begun, awaited = SharedCache[int, str](3), Event(), Event()

    def stop() -> str:
        begun.set()
        awaited.wait()
        raise CancelledError

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, 1, stop)
        begun.wait()
        second = pool.submit(cache.get, 1, lambda: "computed")
        assert second.result() == "computed"
        with pytest.raises(CancelledError):
            first.result()


def test_a_failure_keeps_nothing_alive() -> None:
    class Owner:
        def fail(self) -> int:
            raise ValueError

    owner, cache = Owner(), SharedCache[int, int](10)
    alive = weakref.ref(owner)
    gc.disable()
    try:
        with pytest.raises(ValueError):  # noqa: PT011, which one does not matter
            cache.get(1, owner.fail)
        del owner
        assert alive() is None
    finally:
        gc.enable()


def test_a_value_without_a_size_is_not_cached() -> None:
    cache: SharedCache[int, int] = SharedCache(10, lambda value: value or None)
    values = iter((0, 1, 2))
    assert [cache.get(0, lambda: next(values)) for _ in range(3)] == [0, 1, 1]


def test_a_value_that_is_computed_during_a_clear_is_not_cached() -> None:
    cache: SharedCache[int, int] = SharedCache(10)
    assert cache.get(0, lambda: cache.clear() or 1) == 1
    assert cache.get(0, lambda: 2) == 2


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
