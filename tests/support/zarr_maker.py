"""Writers of zarr arrays and OME-Zarr images whose pixels encode their own position."""

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.stacks.zarr.stack import ZarrImageStack
from support.pixels import encode

UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer", "t": "second"}
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def drawn(axes: str, shape: Sequence[int], dtype: Any = np.uint16) -> NDArray[Any]:
    """Return an array of any axes whose pixels encode their own position."""
    others = [axis for axis in axes if axis not in "YX"]
    sizes = dict(zip(axes, shape, strict=True))
    rows, columns = np.arange(sizes["Y"])[:, None], np.arange(sizes["X"])
    planes = [
        encode(rows, columns, dtype, **dict(zip(others, index, strict=True)))
        for index in product(*(range(sizes[axis]) for axis in others))
    ]
    data = np.stack(planes).reshape([*(sizes[a] for a in others), sizes["Y"], sizes["X"]])
    order = [*others, "Y", "X"]
    return np.moveaxis(data, [order.index(axis) for axis in axes], range(len(axes)))


def put_in_memory(path: Path) -> str:
    """Copy a store into fsspec's memory file system and return its URL, unique to the test.

    The test is skipped where fsspec, which is optional, is not installed.
    """
    fsspec = pytest.importorskip("fsspec")
    copy = f"/{path.parent.name}/{path.name}"
    fsspec.filesystem("memory").put(str(path), copy, recursive=True)
    return f"memory:/{copy}"


def write_array(path: Path, data: NDArray[Any], zarr_format: int = 3, **options: Any) -> Path:
    """Write one array, without a group around it."""
    options = {"chunks": tuple(min(n, 8) for n in data.shape), **options}
    zarr.create_array(store=path, data=data, zarr_format=zarr_format, **options)
    return path


def axes_of(letters: str, units: dict[str, str] = UNITS) -> list[dict[str, str]]:
    return [
        {"name": a, "type": KINDS[a], **({"unit": units[a]} if a in units else {})}
        for a in letters.lower()
    ]


def multiscale(
    letters: str, *scales: Sequence[float], units: dict[str, str] = UNITS, **more: Any
) -> dict[str, Any]:
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        for i, scale in enumerate(scales)
    ]
    return {"axes": axes_of(letters, units), "datasets": datasets, **more}


def write_group(path: Path, attributes: dict[str, Any], version: str = "0.5") -> Path:
    """Write a group with OME metadata, where that version of OME-Zarr has it."""
    stored = {"ome": {"version": version, **attributes}} if version == "0.5" else attributes
    group = zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2)
    group.attrs.update(stored)
    return path


def write_image(
    path: Path,
    letters: str,
    *levels: NDArray[Any],
    version: str = "0.5",
    scale: Sequence[float] = (),
    units: dict[str, str] = UNITS,
    **more: Any,
) -> Path:
    """Write an OME-Zarr image; a pixel's size, 1 um by default, doubles from level to level."""
    sizes = dict(zip(letters, scale or [1.0] * len(letters), strict=True))
    scales = [
        [size * 2.0**i if a in "YX" else size for a, size in sizes.items()]
        for i in range(len(levels))
    ]
    image = {**multiscale(letters, *scales, units=units), "version": version}
    attributes = {"multiscales": [image], **more}
    write_group(path, attributes, version)
    for i, level in enumerate(levels):
        write_array(path / str(i), level, 3 if version == "0.5" else 2)
    return path


def write_plate(path: Path, version: str, wells: Sequence[str], n_fields: int) -> Path:
    """Write a plate, each field of view with other pixels."""
    plate = {
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}, {"name": "3"}],
        "wells": [{"path": well, "rowIndex": 0, "columnIndex": 0} for well in wells],
    }
    write_group(path, {"plate": plate}, version)
    for i, well in enumerate(wells):
        images = [{"path": str(field)} for field in range(n_fields)]
        write_group(path / well, {"well": {"images": images}}, version)
        for field in range(n_fields):
            data = drawn("CYX", (2, 20, 30)) + np.uint16(10 * i + field)
            write_image(path / well / str(field), "CYX", data, version=version)
    return path


def zip_store(store: Path, archive: Path, folder: str = "") -> Path:
    """Write a store into a zip archive, in a folder of it, as the file managers of systems do."""
    with ZipFile(archive, "w") as target:
        for file in sorted(path for path in store.rglob("*") if path.is_file()):
            target.write(file, str(Path(folder, file.relative_to(store))))
        if folder:
            target.writestr(f"__MACOSX/{folder}/._zarr.json", b"")
    return archive


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    doc = json.loads(path.read_text())
    change(doc)
    path.write_text(json.dumps(doc))


def assert_whole(stack: ZarrImageStack, data: NDArray[Any], axes: str) -> None:
    """Compare every sample with the array, which has the file's own axes."""
    depth = "none" if len(stack.data_shape) == 4 else stack.axes[2]
    expected = AxisLayout(axes, data.shape, depth).to_stack(data)  # type: ignore[arg-type]
    assert stack.original_axes == axes
    assert tuple(stack.data_shape) == expected.shape
    for sample, pixels in enumerate(expected):
        patch = stack.extract_patch(sample, None, [0] * (pixels.ndim - 1), pixels.shape[1:])
        np.testing.assert_array_equal(patch, pixels, strict=True)
