"""Predictions as people save them."""

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset import ArgumentError, ExportPlan, Tiled, UnreadableFileError, export
from napari_patchset.stacks.cache import OpenFiles
from napari_patchset.stitching.predictions import open_predictions
from support.tiff_maker import write

VALUES = np.arange(7 * 2 * 3 * 4, dtype=np.float32).reshape(7, 2, 3, 4)


def as_npy(path: Path) -> Path:
    np.save(path / "p.npy", VALUES)
    return path / "p.npy"


def as_npz(path: Path) -> Path:
    np.savez(path / "p.npz", val=VALUES * 0, all=VALUES)
    return path / "p.npz"


def as_compressed_npz(path: Path) -> Path:
    np.savez_compressed(path / "p.npz", VALUES)
    return path / "p.npz"


def as_zarr(path: Path) -> Path:
    zarr.create_array(path / "p.zarr", data=VALUES, chunks=(3, 1, 3, 4))
    return path / "p.zarr"


def as_zarr_v2(path: Path) -> Path:
    zarr.create_array(path / "p.zarr", data=VALUES, chunks=(7, 2, 2, 2), zarr_format=2)
    return path / "p.zarr"


def as_zarr_group(path: Path) -> Path:
    group = zarr.create_group(path / "p.zarr")
    group.create_array("all", data=VALUES)
    group.create_array("val", data=VALUES * 0)
    return path / "p.zarr"


def as_tiffs(path: Path) -> Path:
    for i, patch in enumerate(VALUES):  # 10 sorts after 9
        tifffile.imwrite(path / f"p{i + 5}.tif", patch, photometric="minisblack")
    return path


def as_tiffs_by_split(path: Path) -> Path:
    (path / "all").mkdir()
    as_tiffs(path / "all")
    return path


KINDS = [
    as_npy,
    as_npz,
    as_compressed_npz,
    as_zarr,
    as_zarr_v2,
    as_zarr_group,
    as_tiffs,
    as_tiffs_by_split,
]


@pytest.mark.parametrize("save", KINDS)
def test_every_kind_is_read_in_parts(save: Callable[[Path], Path], tmp_path: Path) -> None:
    predictions = open_predictions(save(tmp_path), "all", 4)
    assert (predictions.shape, predictions.dtype) == (VALUES.shape, VALUES.dtype)
    for first, last in ((6, 7), (0, 1), (3, 5), (3, 4), (0, 7)):
        assert np.array_equal(predictions.read(first, last), VALUES[first:last])


def test_of_an_npy_no_more_is_read_than_wanted(tmp_path: Path) -> None:
    predictions = open_predictions(as_npy(tmp_path), "all", 4)
    with mock.patch.object(
        OpenFiles, "read_into", autospec=True, side_effect=OpenFiles.read_into
    ) as reads:
        predictions.read(3, 5)
    assert [call.args[3].nbytes for call in reads.call_args_list] == [VALUES[3:5].nbytes]


def test_an_npy_that_was_cut_is_named(tmp_path: Path) -> None:
    path = as_npy(tmp_path)
    predictions = open_predictions(path, "all", 4)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(UnreadableFileError, match=r"p\.npy: it was changed since it was opened"):
        predictions.read(6, 7)


def test_a_patch_set_is_its_images(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.arange(20 * 30, dtype=np.uint16).reshape(20, 30))
    made = export(
        ExportPlan(sources=path, strategy=Tiled(size=10), out=tmp_path / "a.patches.zarr")
    )
    predictions = open_predictions(made.path, "all", 4)
    assert predictions.shape == made["all"].shape
    assert np.array_equal(predictions.read(5, 6)[0], made["all"][5])


def test_a_missing_axis_is_the_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", VALUES[:, 0])
    predictions = open_predictions(tmp_path / "p.npy", "all", 4)
    assert predictions.shape == (7, 1, 3, 4)
    assert np.array_equal(predictions.read(2, 4), VALUES[2:4, :1])


def test_what_is_no_array_of_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p\.npy: no such file or folder"):
        open_predictions(tmp_path / "p.npy", "all", 4)
    (tmp_path / "p.npy").write_bytes(b"no array")
    with pytest.raises(UnreadableFileError, match=r"p\.npy: it can't be read as \.npy"):
        open_predictions(tmp_path / "p.npy", "all", 4)
    (tmp_path / "p.npz").write_bytes(b"no array")
    with pytest.raises(UnreadableFileError, match=r"p\.npz: it can't be read as \.npz"):
        open_predictions(tmp_path / "p.npz", "all", 4)
    (tmp_path / "p.txt").touch()
    with pytest.raises(ArgumentError, match="predictions are a zarr array"):
        open_predictions(tmp_path / "p.txt", "all", 4)
    with pytest.raises(ArgumentError, match="no TIFF files"):
        open_predictions(tmp_path, "all", 4)
    np.save(tmp_path / "f.npy", np.asfortranarray(VALUES))
    with pytest.raises(ArgumentError, match="Fortran order"):
        open_predictions(tmp_path / "f.npy", "all", 4)
    np.save(tmp_path / "d.npy", VALUES)
    with pytest.raises(
        ArgumentError, match=r"shape \(7, 2, 3, 4\); predictions have the axes N, C, Y"
    ):
        open_predictions(tmp_path / "d.npy", "all", 6)
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(ArgumentError, match="no array 'all'; its arrays are: a, b"):
        open_predictions(tmp_path / "two.npz", "all", 4)
    group = zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(ArgumentError, match="no array 'all'; its arrays are: none"):
        open_predictions(tmp_path / "g.zarr", "all", 4)
    del group


def test_tiffs_of_different_sizes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", VALUES[0], photometric="minisblack")
    tifffile.imwrite(tmp_path / "2.tif", VALUES[0, :, :2], photometric="minisblack")
    with pytest.raises(ArgumentError, match=r"2\.tif: .*must be alike"):
        open_predictions(tmp_path, "all", 4).read(1, 2)
