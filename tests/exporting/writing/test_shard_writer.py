"""Casting pixels: only where no value is lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset import ExportPlan, Tiled, Whole, export
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting.writing.shard_writer import cast_exactly
from napari_patchset.patching.grid import PatchSpec

TYPES = ("bool", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32")
TYPES += ("float64", "complex64", "complex128")
SPEC = PatchSpec(0, 0, (0, 0), (1, 1))
EDGES = [0, 1, 2**11 + 1, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]


@st.composite
def one_pixel(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        edges = [sign * edge for edge in EDGES for sign in (1, -1)]
        inside = [edge for edge in edges if info.min <= edge <= info.max]
        value = draw(st.sampled_from(inside) | st.integers(int(info.min), int(info.max)))
        return np.full((1, 1, 1, 1), value, dtype)
    return draw(hnp.arrays(dtype, (1, 1, 1, 1)))


@given(one_pixel(), st.sampled_from(TYPES))
def test_a_cast_pixel_is_the_same_number(pixel: np.ndarray[Any, Any], name: str) -> None:
    try:
        cast = cast_exactly(pixel, np.dtype(name), [SPEC], "the image")
    except ExportError:
        return
    value, other = pixel.item(), cast.item()
    # Python compares integers, floats and complex numbers exactly.
    assert value == other or (value != value and other != other)


@pytest.mark.parametrize("values", [(2**53 + 1, 2**63 - 1), (-(2**53) - 1, 3)])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_an_integer_that_a_float_lacks_is_refused(
    tmp_path: Path, values: tuple[int, int], dtype: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([values]), photometric="minisblack")
    plan = ExportPlan(
        sources=tmp_path / "a.tif", out=tmp_path / "a.patches.zarr", strategy=Whole(), dtype=dtype
    )
    with pytest.raises(ExportError, match=f"{dtype} can't hold the value"):
        export(plan)


@pytest.mark.parametrize("filters", [(), ("std>0",)])
@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16"])
def test_a_format_refuses_a_type_before_anything_is_written(
    tmp_path: Path, dtype: str, filters: tuple[str, ...]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), dtype), photometric="minisblack")
    plan = ExportPlan(
        sources=tmp_path / "a.tif",
        out=tmp_path / "a.patches",
        strategy=Tiled(size=4),
        format="tiff",
        filters=filters,
    )
    with pytest.raises(ExportError, match=f"no pixel type {dtype}.*export a zarr"):
        export(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("name", ["longdouble", "S3", "datetime64[s]", "object"])
def test_a_plan_has_no_type_that_no_format_holds(name: str) -> None:
    with pytest.raises(ArgumentError, match="there is no pixel type"):
        ExportPlan(sources="a.tif", out="a.patches.zarr", strategy=Whole(), dtype=name)
