"""Mean and variance as fractions, and patches of every type that are hard to sum up."""

from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPE = (6, 2, 5, 5)


def exact_moments(pixels: np.ndarray[Any, Any]) -> tuple[Fraction, Fraction]:
    """Return mean and variance of all pixels as fractions."""
    values = [Fraction(value) for value in pixels.ravel().tolist()]
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def exact_root(square: Fraction) -> Fraction:
    """Return the square root to 100 bits more than the fraction has."""
    bits = 100 + square.denominator.bit_length()
    return Fraction(isqrt((square.numerator << 2 * bits) // square.denominator), 1 << bits)


def patches_of(dtypes: list[type]) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Draw patches that spread around any number of a type, by little or by all of its range."""

    def integers(dtype: type) -> st.SearchStrategy[np.ndarray[Any, Any]]:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        spreads = st.sampled_from([0, 3, 300, 10**6, 10**12, high - low])
        return st.tuples(st.integers(low, high), spreads).flatmap(
            lambda pair: hnp.arrays(
                dtype,
                SHAPE,
                elements=st.integers(max(low, pair[0] - pair[1]), min(high, pair[0] + pair[1])),
            )
        )

    def floats(dtype: type) -> st.SearchStrategy[np.ndarray[Any, Any]]:
        width = np.finfo(dtype).bits
        values = st.floats(width=width, allow_nan=False, allow_infinity=False)
        noise = st.sampled_from([0, 1e-6, 1e-3, 0.5]).flatmap(
            lambda spread: hnp.arrays(np.float64, SHAPE, elements=st.floats(-spread, spread))
        )
        around = st.builds(lambda v, each: (v / 2 * (1 + each)).astype(dtype), values, noise)
        return st.one_of(hnp.arrays(dtype, SHAPE, elements=values), around)

    def arrays(dtype: type) -> st.SearchStrategy[np.ndarray[Any, Any]]:
        return floats(dtype) if np.dtype(dtype).kind == "f" else integers(dtype)

    return st.sampled_from(dtypes).flatmap(arrays)
