"""The public stack classes have every name of CAREamics' reference, with the same calls."""

import inspect
import os
import pickle
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pytest
import tifffile
import zarr

import napari_patchset
from napari_patchset import (
    CziImageStack,
    FileImageStack,
    ImageStack,
    InMemoryImageStack,
    TiffImageStack,
    ZarrImageStack,
    open_stack,
)
from support.czi_maker import MakeCzi, SceneSpec

PATCH = ("sample_idx", "channels", "coords", "patch_size")
SHARED = ("data_dtype", "data_shape", "original_axes", "original_data_shape", "source")
CONSTRUCTORS: dict[str, dict[str, Any]] = {
    "CziImageStack": {"data_path": ..., "scene": None, "depth_axis": "none"},
    "FileImageStack": {
        "source": ...,
        "axes": ...,
        "data_shape": ...,
        "data_dtype": ...,
        "read_func": ...,
        "read_kwargs": None,
        "original_data_shape": None,
    },
    "InMemoryImageStack": {
        "source": ...,
        "data": ...,
        "original_axes": None,
        "original_data_shape": None,
    },
    "ZarrImageStack": {"group": ..., "data_path": ..., "axes": ...},
}
CALLS: dict[Callable[..., Any], tuple[str, ...]] = {
    CziImageStack.get_bounding_rectangles: ("czi",),
    FileImageStack.from_tiff: ("path", "axes"),
    FileImageStack.load: ("self",),
    FileImageStack.close: ("self",),
    InMemoryImageStack.from_array: ("data", "axes"),
    InMemoryImageStack.from_tiff: ("path", "axes"),
    InMemoryImageStack.from_custom_file_type: ("path", "axes", "read_func", "read_kwargs"),
}


@runtime_checkable
class CareamicsImageStack(Protocol):
    """CAREamics 0.3.5's protocol, restated."""

    @property
    def source(self) -> str | Path | Literal["array"]: ...
    @property
    def data_shape(self) -> Any: ...
    @property
    def data_dtype(self) -> Any: ...
    @property
    def original_data_shape(self) -> Any: ...
    @property
    def original_axes(self) -> str: ...
    def extract_patch(
        self, sample_idx: int, channels: Any, coords: Any, patch_size: Any
    ) -> Any: ...


def every_stack(folder: Path, czi: MakeCzi) -> list[Any]:
    data = np.arange(2 * 3 * 8 * 9, dtype=np.uint16).reshape(2, 3, 8, 9)
    options = {"metadata": {"axes": "TCYX"}, "photometric": "minisblack"}
    tifffile.imwrite(folder / "a.tif", data, **options)
    group = zarr.open_group(folder / "a.zarr", mode="w")
    group.create_array("a", data=data)
    return [
        CziImageStack(czi(SceneSpec(t=2, c=3))),
        FileImageStack.from_tiff(folder / "a.tif", "TCYX"),
        InMemoryImageStack.from_array(data, "TCYX"),
        TiffImageStack(folder / "a.tif"),
        ZarrImageStack(group, "a", "TCYX"),
    ]


def test_every_stack_is_a_careamics_image_stack(tmp_path: Path, czi: MakeCzi) -> None:
    for stack in every_stack(tmp_path, czi):
        assert isinstance(stack, ImageStack), stack
        assert isinstance(stack, CareamicsImageStack), stack
        assert tuple(inspect.signature(stack.extract_patch).parameters) == PATCH
        assert all(hasattr(stack, name) for name in SHARED)
        stack.close()


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors_take_the_reference_arguments(name: str) -> None:
    parameters = list(inspect.signature(getattr(napari_patchset, name)).parameters.values())
    expected = CONSTRUCTORS[name]
    actual = {
        p.name: ... if p.default is p.empty else p.default
        for p in parameters
        if p.kind is not p.KEYWORD_ONLY
    }
    assert list(actual.items()) == list(expected.items())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_methods_take_the_reference_arguments(call: Callable[..., Any]) -> None:
    assert tuple(inspect.signature(call).parameters) == CALLS[call]


def test_each_class_has_its_own_names(tmp_path: Path, czi: MakeCzi) -> None:
    czi_stack, file, _, _, zarr_stack = every_stack(tmp_path, czi)
    assert (czi_stack.axes, czi_stack.data_shape, czi_stack.scene) == ("SCYX", [2, 3, 48, 64], None)
    assert czi_stack.data_path == czi_stack.source
    assert not file.is_loaded
    file.load()
    assert file.is_loaded
    file.close()
    assert not file.is_loaded
    assert len(zarr_stack.chunks) == 4
    assert zarr_stack.shards is None
    assert str(zarr_stack.source).startswith("file://")


def first_pixels(stack: Any) -> Any:
    return stack.extract_patch(1, [2], (0, 0), (4, 5))


def test_a_stack_works_in_a_spawned_worker(
    tmp_path: Path, czi: MakeCzi, spawned: ProcessPoolExecutor
) -> None:
    czi_stack, _, memory, tiff, zarr_stack = every_stack(tmp_path, czi)
    for stack in (czi_stack, memory, tiff, zarr_stack):
        there = spawned.submit(first_pixels, pickle.loads(pickle.dumps(stack))).result()
        np.testing.assert_array_equal(there, first_pixels(stack))
        stack.close()


def _descriptors() -> Counter[str]:
    """Count this process's open descriptors by file, and pipes and sockets by kind."""
    links = (link for link in Path("/proc/self/fd").iterdir() if link.exists())
    return Counter(os.readlink(link).partition(":[")[0] for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_a_thousand_openings_leave_no_file_open(tmp_path: Path, czi: MakeCzi) -> None:
    data = np.zeros((2, 8, 9), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    (tmp_path / "bad.czi").write_bytes(b"ZISRAWFILE" + bytes(600))
    (tmp_path / "bad.tif").write_bytes(b"II*\0" + bytes(40))
    good = (czi(), tmp_path / "a.tif", tmp_path / "a.zarr")
    bad = (tmp_path / "bad.czi", tmp_path / "bad.tif", tmp_path / "none.czi")

    def open_all() -> None:
        for path in good:
            with open_stack(path) as stack:
                stack.extract_patch(0, None, (0, 0), (4, 4))
        for path in bad:
            with pytest.raises((ValueError, OSError)):
                open_stack(path)

    open_all()
    before = _descriptors()
    for _ in range(1000 // (len(good) + len(bad)) + 1):
        open_all()
    left = _descriptors() - before  # what another test left may be closed meanwhile
    assert not left
