"""FileImageStack and InMemoryImageStack: the reference's constructors, calls and results."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import ArgumentError, UnreadableFileError
from napari_patchset.stacks.memory import FileImageStack, InMemoryImageStack
from napari_patchset.stacks.protocol import ImageStack
from support.pixels import expected

AXES = ["YX", "CYX", "ZYX", "YXC", "TCYX", "TZCYX", "SCYX", "STCZYX", "ZYXC"]
SIZES = {"S": 2, "T": 3, "C": 4, "Z": 5, "Y": 12, "X": 17}


def array_of(axes: str, dtype: Any = np.uint16) -> NDArray[Any]:
    shape = tuple(SIZES[axis] for axis in axes)
    return expected(0, 0, 1, int(np.prod(shape)), dtype).reshape(shape)


def as_stack(data: NDArray[Any], axes: str) -> NDArray[Any]:
    return AxisLayout(axes, data.shape, "Z" if "Z" in axes else "none").to_stack(data)


def assert_whole(stack: ImageStack, reference: NDArray[Any]) -> None:
    assert tuple(stack.data_shape) == reference.shape
    assert np.dtype(stack.data_dtype) == reference.dtype
    spatial = reference.shape[2:]
    for sample, pixels in enumerate(reference):
        patch = stack.extract_patch(sample, None, [0] * len(spatial), spatial)
        np.testing.assert_array_equal(patch, pixels, strict=True)


@pytest.fixture(params=AXES)
def tiff(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, NDArray[Any]]:
    data = array_of(request.param)
    path = tmp_path / "image.tiff"
    tifffile.imwrite(path, data, byteorder=">", photometric="minisblack")
    return path, request.param, data


def test_in_memory_from_tiff(tiff: tuple[Path, str, NDArray[Any]]) -> None:
    path, axes, data = tiff
    stack = InMemoryImageStack.from_tiff(path, axes)
    assert (stack.source, stack.original_axes) == (path, axes)
    assert stack.original_data_shape == data.shape
    assert_whole(stack, as_stack(data, axes))


def test_from_tiff_reads_no_pixels_before_load(tiff: tuple[Path, str, NDArray[Any]]) -> None:
    path, axes, data = tiff
    stack = FileImageStack.from_tiff(path, axes)
    assert isinstance(stack, ImageStack)
    assert (stack.source, stack.axes, stack.original_axes) == (path, axes, axes)
    assert stack.original_data_shape == data.shape
    assert not stack.is_loaded
    stack.load()
    assert stack.is_loaded
    assert_whole(stack, as_stack(data, axes))
    stack.close()
    assert not stack.is_loaded


def test_a_patch_before_load_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array_of("YX"))
    stack = FileImageStack.from_tiff(tmp_path / "a.tif", "YX")
    for start in ((0, 0), (-100, -100)):
        with pytest.raises(ValueError, match="has not been loaded; call `load` first"):
            stack.extract_patch(0, None, start, (4, 4))
    stack.load()
    stack.close()
    with pytest.raises(ValueError, match="call `load` first"):
        stack.extract_patch(0, None, (0, 0), (4, 4))


def read_npy(path: Path, *, key: str = "a", factor: int = 1) -> NDArray[Any]:
    with np.load(path) as arrays:
        data: NDArray[Any] = arrays[key]
    return data * np.asarray(factor, data.dtype)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", a=array_of("YXC"), b=array_of("YXC") // 4)
    return tmp_path / "a.npz"


def test_read_kwargs_reach_read_func(npz: Path) -> None:
    shape = (1, 4, 12, 17)
    kwargs = {"key": "b", "factor": 3}
    stack = FileImageStack(npz, "YXC", shape, np.uint16, read_npy, kwargs, (12, 17, 4))
    stack.load()
    assert_whole(stack, as_stack(array_of("YXC") // 4 * 3, "YXC"))
    assert stack.original_data_shape == (12, 17, 4)
    assert stack.read_kwargs == kwargs


def test_from_custom_file_type(npz: Path) -> None:
    stack = InMemoryImageStack.from_custom_file_type(npz, "YXC", read_npy, key="b", factor=2)
    assert stack.source == npz
    assert_whole(stack, as_stack(array_of("YXC") // 4 * 2, "YXC"))


def test_a_file_of_another_shape_than_declared(npz: Path) -> None:
    stack = FileImageStack(npz, "YXC", (1, 3, 12, 17), np.uint16, read_npy)
    with pytest.raises(UnreadableFileError, match=r"shape \(1, 4, 12, 17\).*\(1, 3, 12, 17\)"):
        stack.load()
    assert not stack.is_loaded
    assert stack.original_data_shape == ()


def test_a_loaded_stack_survives_pickling(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array_of("ZYX"))
    stack = FileImageStack.from_tiff(tmp_path / "a.tif", "ZYX")
    stack.load()
    assert_whole(pickle.loads(pickle.dumps(stack)), array_of("ZYX")[None, None])


@pytest.mark.parametrize("build", [InMemoryImageStack.from_tiff, FileImageStack.from_tiff])
def test_axes_that_do_not_fit_and_damaged_files(build: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array_of("ZYX"))
    with pytest.raises(ArgumentError, match="name 2 dimensions"):
        build(path, "YX")
    with pytest.raises(FileNotFoundError):
        build(tmp_path / "none.tif", "YX")
    path.write_bytes(b"II*\0 nothing")
    with pytest.raises(UnreadableFileError, match=r"a\.tif"):
        build(path, "YX")
