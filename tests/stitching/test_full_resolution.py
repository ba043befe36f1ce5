"""Images of resampled sets at the size of their sources."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from napari_patchset import (
    ArgumentError,
    ExportPlan,
    PatchSet,
    Random,
    Tiled,
    export,
    open_stack,
    stitch,
)
from napari_patchset.stitching import image_writer, stitched_image
from napari_patchset.stitching.blending import Box
from napari_patchset.stitching.full_resolution import interpolate, made_box
from support.czi_maker import SceneSpec, make_czi, metadata_xml
from support.tiff_maker import write

PIXEL = 0.2
RATIOS = st.builds(Fraction, st.integers(10, 57), st.integers(1, 10)).filter(lambda r: r >= 1)


def centres(n: int, ratio: Fraction) -> list[Fraction]:
    """Return where the centres of source pixels lie, counted from the centre of made pixel 0."""
    return [(i + Fraction(1, 2)) / ratio - Fraction(1, 2) for i in range(n)]


def nearest(made: np.ndarray, shape: tuple[int, ...], ratio: tuple[Fraction, Fraction]) -> Any:
    rows, columns = (
        [min(int(c + Fraction(1, 2)), n - 1) for c in centres(full, r)]
        for full, r, n in zip(shape[-2:], ratio, made.shape[-2:], strict=True)
    )
    return made[..., rows, :][..., columns]


def linear(made: np.ndarray, shape: tuple[int, ...], ratio: tuple[Fraction, Fraction]) -> Any:
    """Interpolate a plane with SciPy."""
    grid = np.meshgrid(
        *([float(c) for c in centres(n, r)] for n, r in zip(shape, ratio, strict=True)),
        indexing="ij",
    )
    return map_coordinates(made.astype(np.float64), grid, order=1, mode="nearest")


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(RATIOS, RATIOS),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.sampled_from(["nearest", "linear"]),
    st.data(),
)
def test_any_box_is_a_part_of_the_whole_and_what_scipy_makes(
    made_shape, ratio, size, kind, data
) -> None:
    made = np.random.default_rng(0).random((2, *made_shape), np.float32)
    shape = tuple(int(np.ceil(n * r)) for n, r in zip(made_shape, ratio, strict=True))
    oracle = nearest(made, shape, ratio)
    if kind == "linear":
        oracle = np.stack([linear(plane, shape, ratio) for plane in made])
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(min(a + n, end) for a, n, end in zip(start, size, shape, strict=True))
    parts = []
    for box in (Box((0, 0), shape), Box(start, stop)):
        origin = made_box(box, ratio, made_shape)
        part = made[:, *map(slice, origin.start, origin.stop)]
        out = np.full((2, *box.shape), -1, np.float32)
        covered = np.ones(part.shape[1:], bool)
        assert interpolate(part, covered, origin, box, ratio, made_shape, kind, out).all()
        parts.append(out)
    assert np.allclose(parts[0], oracle, rtol=1e-5, atol=1e-6)
    assert np.array_equal(parts[1], parts[0][:, *map(slice, start, stop)])


@given(st.tuples(RATIOS, RATIOS), st.integers(0, 2**32))
def test_what_no_patch_covers_does_not_count(ratio, seed) -> None:
    rng = np.random.default_rng(seed)
    covered = rng.random((7, 9)) < 0.6
    made = np.where(covered, 3, np.nan).astype(np.float32)[np.newaxis]
    shape = tuple(int(n * r) for n, r in zip((7, 9), ratio, strict=True))
    box, out = Box((0, 0), shape), np.full((1, *shape), -1, np.float32)
    result = interpolate(made, covered, Box((0, 0), (7, 9)), box, ratio, (7, 9), "linear", out)
    assert np.array_equal(result, nearest(covered, shape, ratio))
    assert np.allclose(out[0], np.where(result, 3, -1), rtol=1e-6)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitched_image, "SHARD_BYTES", 8192)
    monkeypatch.setattr(stitched_image, "CHUNK", {"Z": 2, "T": 1, "Y": 16, "X": 16})
    monkeypatch.setattr(stitched_image, "LAST_LEVEL", 16)
    monkeypatch.setattr(image_writer, "_STRIP", 16)


def made_at(pixel_size: float, folder: Path, **fields: Any) -> tuple[Path, PatchSet]:
    """Export a CZI of pixels of 0.2 um at another pixel size."""
    xml = metadata_xml(pixel_size={"X": PIXEL * 1e-6, "Y": PIXEL * 1e-6, "Z": 1e-6})
    spec = SceneSpec(rect=(-37, 61, 111, 83), z=3, c=2)
    path = make_czi(folder / "image.czi", [spec], xml=xml, tile=(32, 32))
    fields = {"strategy": Tiled(size=(16, 16), overlap=(4, 4)), **fields}
    plan = ExportPlan(
        sources=path, pixel_size=pixel_size, out=folder / "made.patches.zarr", **fields
    )
    return path, export(plan)


def as_floats(made: PatchSet, path: Path) -> Path:
    np.save(path, made["all"][:].astype(np.float32))
    return path


@pytest.mark.parametrize("kind", ["nearest", "linear"])
@pytest.mark.parametrize(("pixel_size", "depth_axis"), [(0.2, "none"), (0.53, "none"), (0.4, "Z")])
def test_it_has_the_size_place_and_scale_of_the_source(
    kind: Any, pixel_size: float, depth_axis: Any, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"depth_axis": depth_axis}
    if depth_axis == "Z":
        fields["strategy"] = Tiled(size=(2, 16, 16), overlap=(0, 4, 4))
    path, made = made_at(pixel_size, tmp_path, **fields)
    predicted = as_floats(made, tmp_path / "p.npy")
    small = stitch(made.path, predicted, tmp_path / "small.ome.zarr", blend="average")
    full = stitch(
        made.path, predicted, tmp_path / "full.ome.zarr", blend="average", full_resolution=kind
    )
    assert full.covered == 1
    ratio = (Fraction(str(pixel_size)) / Fraction(str(PIXEL)),) * 2
    with open_stack(path) as source, open_stack(full.path) as result:
        assert tuple(result.data_shape) == tuple(source.data_shape)
        assert result.metadata.pixel_size == source.metadata.pixel_size
        assert result.translation == {
            "Z": 0,
            "Y": pytest.approx(source.rect.y * PIXEL),
            "X": pytest.approx(source.rect.x * PIXEL),
        }
        shape = source.data_shape[-2:]
    image, of_set = (zarr.open_group(each.path, mode="r")["0"][:] for each in (full, small))
    for index in np.ndindex(image.shape[:-2]):
        oracle = (nearest if kind == "nearest" else linear)(of_set[index], shape, ratio)
        assert np.allclose(image[index], oracle, rtol=1e-5)
    if pixel_size == PIXEL:
        assert np.array_equal(image, of_set)


def test_gaps_levels_and_labels(tmp_path: Path) -> None:
    _, made = made_at(0.5, tmp_path, strategy=Random(size=(8, 8), count=3, seed=1))
    predicted = as_floats(made, tmp_path / "p.npy")
    options: dict[str, Any] = {"full_resolution": "linear", "argmax": True, "fill": -1}
    result = stitch(made.path, predicted, tmp_path / "a.ome.zarr", **options)
    group = zarr.open_group(result.path, mode="r")
    image, labels = group["0"][:], group["labels/classes/0"][:]
    covered = (image != -1).all(axis=1)
    assert result.covered == np.mean(covered)
    assert 0 < result.covered < 1
    assert np.array_equal(labels, np.where(covered, image.argmax(axis=1), 0))
    assert group["1"].shape[-2:] == (42, 56)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path, made = made_at(0.4, tmp_path)
    images, out = made["all"][:], tmp_path / "a.ome.zarr"

    def refused(match: str, predictions: np.ndarray, **options: Any) -> None:
        np.save(tmp_path / "p.npy", predictions)
        with pytest.raises((ArgumentError, OSError), match=match):
            stitch(made.path, tmp_path / "p.npy", out, **options)
        assert not list(tmp_path.glob("a.ome.zarr*"))

    refused("nothing lies between labels", images, full_resolution="linear")
    refused("size of the patches", images.repeat(2, -1), full_resolution="nearest")
    stitch(made.path, tmp_path / "p.npy", tmp_path / "b.ome.zarr")  # without it they may
    path.unlink()
    refused(r"image\.czi", images, full_resolution="nearest")
    write(path.with_suffix(".tif"), np.zeros((20, 20), np.uint16)).rename(path)
    refused(r"image\.czi", images, full_resolution="nearest")


def test_a_set_that_was_not_resampled_has_the_full_resolution(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.random.default_rng(0).random((40, 50), np.float32))
    tiling = Tiled(size=(16, 16))
    made = export(ExportPlan(sources=path, strategy=tiling, out=tmp_path / "a.patches.zarr"))
    out = tmp_path / "a.ome.zarr"
    result = stitch(made.path, made.path, out, full_resolution="linear")
    with open_stack(path) as stack, open_stack(result.path) as stitched:
        size = (0, None, (0, 0), (40, 50))
        assert np.array_equal(stack.extract_patch(*size), stitched.extract_patch(*size))
