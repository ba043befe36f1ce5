"""Padding: the modes of NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_patchset.patching.padding import axis_padding_indices


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20))
@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
def test_padding_is_numpys_on_the_whole_image(mode: str, start: int, size: int, n: int) -> None:
    padded = np.pad(np.arange(n), 120, mode)
    expected = padded[start + 120 : start + 120 + size]
    assert axis_padding_indices(start, size, n, mode).tolist() == expected.tolist()
