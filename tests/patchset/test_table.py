"""Columns made by their memory are those that Arrow makes itself."""

import numpy as np
import pyarrow as pa
import pytest

from napari_patchset.patchset.columns import column, column_values, text_column


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "int64", "uint32", "float32", "float64"]
)
@pytest.mark.parametrize("n", [0, 1, 13])
def test_number_columns_equal_those_of_arrow(dtype: str, n: int) -> None:
    values = np.arange(2 * n).astype(dtype)[::2]
    for absent in (None, np.zeros(n, bool), np.arange(n) % 3 == 0):
        made = column(values, absent)
        made.validate(full=True)
        assert made.equals(pa.array(values, mask=absent))
    if dtype != "bool":
        np.testing.assert_array_equal(column_values(pa.chunked_array([column(values)])), values)


@pytest.mark.parametrize("texts", [[], ["a"], [None, "", "µm", None]])
def test_text_columns_equal_those_of_arrow(texts: list[str | None]) -> None:
    made = text_column(texts)
    made.validate(full=True)
    assert made.equals(pa.array(texts, pa.string()))
