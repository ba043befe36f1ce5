"""What docs/patchset-format.md and docs/patching.md say of table and manifest is true."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, MaskRegion, Rectangle, Tiled, export, open_stack
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.strategies.base import OUTSIDE, TOO_SMALL
from napari_patchset.stacks.fingerprint import content_key

IMAGE = np.arange(64, dtype=np.uint16).reshape(8, 8)


def rows_of(image: np.ndarray, folder: Path, **fields: Any) -> tuple[list[dict[str, Any]], Any]:
    """Export an image, and return the rows of the table and the manifest."""
    axes = {2: "YX", 3: "CYX", 4: "TCYX"}[image.ndim]
    tifffile.imwrite(folder / "a.ome.tif", image, metadata={"axes": axes})
    fields = {"strategy": Tiled(size=4), "out": folder / "a.patches.zarr", **fields}
    with closing(export(ExportPlan(sources=folder / "a.ome.tif", **fields))) as made:
        return made.table.to_pylist(), made.manifest


def test_every_row_is_in_all_where_nothing_is_split(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, filters="mean>p50")
    assert {(row["kept"], row["split"]) for row in rows} == {(True, "all"), (False, "all")}
    assert all((row["checksum"] is None) != row["kept"] for row in rows)


def test_a_rejected_row_is_in_no_split(tmp_path: Path) -> None:
    fields = {"filters": "mean>p50", "split": 0.3, "strategy": Tiled(size=2)}
    rows, _ = rows_of(IMAGE, tmp_path, **fields)
    kinds = {(row["kept"], row["split"]) for row in rows}
    assert kinds == {(True, "train"), (True, "val"), (False, None)}


def test_coordinates_have_no_checksum(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, format="coordinates", out=tmp_path / "a.patches")
    assert {(row["array"], row["index"], row["checksum"]) for row in rows} == {(None, None, None)}


def test_an_axis_that_the_image_lacks_is_null(tmp_path: Path) -> None:
    rows, _ = rows_of(np.stack([IMAGE[None], IMAGE[None]]), tmp_path)
    assert {row["t"] for row in rows} == {0, 1}
    assert {row["z"] for row in rows} == {None}


def test_a_patch_with_nan_measures_minus_infinity(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[0, 0] = np.nan
    rows, _ = rows_of(image, tmp_path, filters="max>0")
    assert [np.isneginf(row["max_Channel 0"]) for row in rows] == [True, False, False, False]


def test_a_filters_index_counts_the_chosen_channels(tmp_path: Path) -> None:
    image = np.stack([IMAGE, IMAGE + 100, IMAGE + 200])
    rows, _ = rows_of(image, tmp_path, filters="max[0]>0", channels=(2, 1))
    (column,) = (name for name in rows[0] if name.startswith("max_"))
    assert max(row[column] for row in rows) == 263


def test_an_image_smaller_than_a_patch_counts_each_sample_once(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "small.ome.tif", np.zeros((3, 1, 2, 2), np.uint16), metadata={"axes": "TCYX"}
    )
    tifffile.imwrite(tmp_path / "large.ome.tif", IMAGE)
    paths = [tmp_path / "small.ome.tif", tmp_path / "large.ome.tif"]
    strategy = Tiled(size=4, small="skip")
    plan = ExportPlan(sources=paths, strategy=strategy, out=tmp_path / "b.patches.zarr")
    with closing(export(plan)) as made:
        assert made.manifest.dropped == {TOO_SMALL: 3}


def test_an_axis_that_is_not_there_has_the_number_0(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, strategy=Tiled(size=4, select={"T": (None, 1)}))
    assert len(rows) == 4
    fields = {"strategy": Tiled(size=4, select={"T": (1, None)})}
    with pytest.raises(ArgumentError, match="Nothing is selected by T 1:"):
        rows_of(IMAGE, tmp_path, out=tmp_path / "c.patches.zarr", **fields)


@pytest.mark.parametrize("kind", ["rectangle", "mask"])
def test_a_patch_past_the_image_is_inside_of_no_region(tmp_path: Path, kind: str) -> None:
    region: Any = Rectangle(x=0, y=0, w=20, h=20)
    if kind == "mask":
        tifffile.imwrite(tmp_path / "mask.tif", np.ones((8, 8), np.uint8))
        with open_stack(tmp_path / "mask.tif") as stack:
            region = MaskRegion(path=str(tmp_path / "mask.tif"), digest=content_key(stack))
    strategy = Tiled(size=5, edge="pad", region=region)
    rows, manifest = rows_of(IMAGE, tmp_path, strategy=strategy)
    assert [(row["y_start"], row["x_start"]) for row in rows] == [(0, 0)]
    assert manifest.dropped == {OUTSIDE: 3}
