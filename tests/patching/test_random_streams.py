"""Random integers: unbiased, and the same in every run."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.patching.random_streams import draw_distinct, draw_integers, random_stream
from support.strategy_makers import source


def test_the_streams_never_change() -> None:
    stream = random_stream(7, source(1, 1, 8, 8, scene=3), 2)
    drawn = draw_integers(stream, np.full(6, 1000, np.uint64)).tolist()
    assert drawn == [461, 581, 879, 757, 632, 371]


def test_each_seed_source_scene_and_sample_has_its_own_stream() -> None:
    streams = [
        random_stream(seed, source(1, 1, 8, 8, key=key, scene=scene), sample)
        for seed in (0, 1)
        for key in "ab"
        for scene in (None, 0, "0")
        for sample in (0, 1)
    ]
    firsts = {int(stream.random_raw()) for stream in streams}
    assert len(firsts) == len(streams) == 24


class FixedWords:
    """Return the listed words, in place of a random stream."""

    def __init__(self, *words: int) -> None:
        self.words = list(words)

    def random_raw(self, count: int) -> np.ndarray:
        taken, self.words = self.words[:count], self.words[count:]
        return np.array(taken, np.uint64)


def test_words_that_would_favour_small_numbers_are_drawn_again() -> None:
    # 2^64 mod 10 is 6: the words 0 to 5 are surplus.
    below = np.full(3, 10, np.uint64)
    assert draw_integers(FixedWords(5, 6, 2**64 - 1, 0, 17), below).tolist() == [7, 6, 5]


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 9))
def test_distinct_integers_are_as_many_as_there_are(total: int, count: int, seed: int) -> None:
    drawn = draw_distinct(np.random.Philox(seed), count, total).tolist()
    assert len(drawn) == min(count, total)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(total))
