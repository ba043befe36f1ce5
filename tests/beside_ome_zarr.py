"""Other readers open what is stitched: ngio and napari-ome-zarr; `nox -s ome_zarr` runs this."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_patchset import ExportPlan, Tiled, export, stitch
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml

SCENES = (
    SceneSpec(id=0, rect=(-30, 40, 1100, 600), t=2, z=3, c=2),
    SceneSpec(id=1, rect=(2000, 0, 530, 560), t=2, z=3, c=2),
)
PIXEL, DEPTH = 0.25, 1.5
XML = metadata_xml(pixel_size={"X": PIXEL * 1e-6, "Y": PIXEL * 1e-6, "Z": DEPTH * 1e-6})
CLASSES = ["background", "nuclei", "membrane"]


@pytest.fixture(autouse=True)
def _no_threads_left() -> None:
    """Let dask, with which napari-ome-zarr reads, keep its threads."""


@pytest.fixture
def stitched(czi: MakeCzi, tmp_path: Path) -> Path:
    """Stitch scores of three classes, and their labels, into two images."""
    path = czi(*SCENES, xml=XML)
    made = export(
        ExportPlan(
            sources=[f"{path}@{scene.id}" for scene in SCENES],
            strategy=Tiled(size=256, overlap=32),
            out=tmp_path / "made.patches.zarr",
        )
    )
    scores = np.random.default_rng(0).random((len(made["all"]), 3, 256, 256), np.float32)
    np.save(tmp_path / "scores.npy", scores)
    out = tmp_path / "scores.ome.zarr"
    options: dict[str, Any] = {"channel_names": CLASSES, "argmax": True, "codec": "zstd"}
    return stitch(made.path, tmp_path / "scores.npy", out, blend="hann", **options).path


@pytest.mark.parametrize("number", range(len(SCENES)))
def test_ngio_opens_it(stitched: Path, number: int) -> None:
    import ngio

    scene, arrays = SCENES[number], zarr.open_group(stitched / str(number), mode="r")
    container = ngio.open_ome_zarr_container(stitched / str(number))
    image = container.get_image()
    height, width = scene.rect[3], scene.rect[2]
    assert image.axes == ("t", "c", "z", "y", "x")
    assert image.shape == (2, 3, 3, height, width)
    assert (image.pixel_size.z, image.pixel_size.y, image.pixel_size.x) == (DEPTH, PIXEL, PIXEL)
    assert container.space_unit == "micrometer"
    assert container.channel_labels == CLASSES
    assert np.array_equal(image.get_as_numpy(), arrays["0"][:])
    assert container.levels == len(list(arrays.arrays())) > 1
    coarser = container.get_image(path="1")
    assert coarser.shape[-2:] == (-(-height // 2), -(-width // 2))
    assert coarser.pixel_size.x == 2 * PIXEL
    assert container.list_labels() == ["classes"]
    labels = container.get_label("classes")
    assert labels.axes == ("t", "z", "y", "x")
    assert labels.pixel_size.x == PIXEL
    assert np.array_equal(labels.get_as_numpy(), arrays["0"][:].argmax(axis=1))


@pytest.mark.parametrize("number", range(len(SCENES)))
def test_napari_ome_zarr_opens_it(stitched: Path, number: int) -> None:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from napari_ome_zarr import napari_get_reader

    path = str(stitched / str(number))
    arrays = zarr.open_group(path, mode="r")
    reader, viewer = napari_get_reader(path), ViewerModel()
    for data, options, kind in reader(path):
        getattr(viewer, f"add_{kind}")(data, **options)
    layers = list(viewer.layers)
    images = [layer for layer in layers if isinstance(layer, Image)]
    (labels,) = [layer for layer in layers if isinstance(layer, Labels)]
    assert [image.name.rpartition(": ")[2] for image in images] == CLASSES
    for layer in (*images, labels):
        assert layer.multiscale
        assert [shape[-2:] for shape in map(np.shape, layer.data)] == [
            array.shape[-2:] for _, array in sorted(arrays.arrays())
        ]
        assert layer.axis_labels == ("t", "z", "y", "x")
        assert [str(unit) for unit in layer.units[1:]] == ["micrometer"] * 3
        # Not its place: napari-ome-zarr 0.10 ignores the translation of a dataset.
        step = np.subtract(layer.data_to_world((0, 1, 1, 1)), layer.data_to_world((0, 0, 0, 0)))
        assert step[1:] == pytest.approx((DEPTH, PIXEL, PIXEL))
    for channel, image in enumerate(images):
        assert np.array_equal(np.asarray(image.data[0]), arrays["0"][:, channel])
    assert np.array_equal(np.asarray(labels.data[0]), arrays["0"][:].argmax(axis=1))
