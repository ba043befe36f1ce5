"""Real TIFFs: every probe of truth.json is exact, and damaged ones are refused at once."""

import hashlib
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from napari_patchset.errors import UnreadableFileError
from napari_patchset.source import PixelSize
from napari_patchset.stacks.metadata import describe
from napari_patchset.stacks.opening import list_scenes, open_stack

pytestmark = pytest.mark.realdata


def probe_pixels(stack: Any, truth: dict[str, Any], probe: dict[str, Any]) -> NDArray[Any]:
    """Cut a probe, YX or YXC."""
    plane = {{"Q": "S", "I": "S"}.get(a, a): i for a, i in probe["plane"].items()}
    layout = AxisLayout(stack.original_axes, stack.original_data_shape)
    index = [plane.get(axis, 0) for axis in layout.sample_axes]
    sample = int(np.ravel_multi_index(index, layout.sample_shape)) if index else 0
    is_color = "S" in truth["axes"]
    channels = None if is_color else [plane.get("C", 0)]
    patch = stack.extract_patch(
        sample, channels, (probe["y"], probe["x"]), (probe["h"], probe["w"])
    )
    return np.moveaxis(patch, 0, -1) if is_color else patch[0]


def digest(pixels: NDArray[Any]) -> str:
    little = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def test_every_probe_is_exact(tiff_truth: dict[str, Any], data_dir: Path) -> None:
    path = data_dir / tiff_truth["file"]
    scenes = list_scenes(path)
    assert len(scenes) == len(tiff_truth["scenes"])
    for scene, truth in zip(scenes, tiff_truth["scenes"], strict=True):
        with open_stack(path, scene.id) as stack:
            assert sorted(stack.original_data_shape) == sorted(truth["shape"])
            assert stack.data_dtype == np.dtype(truth["dtype"])
            assert len(stack.levels) == truth["levels"]
            assert (scene.axes, scene.shape) == (stack.original_axes, stack.original_data_shape)
            for probe in truth["probes"]:
                assert digest(probe_pixels(stack, truth, probe)) == probe["sha256"], probe
            assert not describe(stack).missing


METADATA = {
    "tiff/test_ome.tiff": (("Ch1-T1", "#ff0000"), ("ChS2-T3", "#0000ff"), 0.21, 0.0775225, 1.0),
    "tiff/test_imagej.tiff": (("Ch1-T1", "#ff0000"), ("ChS2-T3", "#0000ff"), 0.21, 0.0775225, None),
    "tiff/test_imagej_with_time.tiff": (
        *(("Ch1-T1", "#ff0000"), ("ChS2-T3", "#0000ff")),
        *(None, 0.0775225, 5.0),
    ),
    "tiff/cells3d2ch_legacy.tiff": (("membrane", None), ("nuclei", None), 1.0, 1.0, None),
    "derived/celldiv_pyramid.ome.tif": (("LED555", None), ("LED470", None), 0.32, 0.0905767, None),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(name: str, data_dir: Path) -> None:
    *channels, z, xy, step = METADATA[name]
    with open_stack(data_dir / name) as stack:
        metadata = stack.metadata
    assert [(c.name, c.color) for c in metadata.channels] == channels
    assert metadata.pixel_size.z == pytest.approx(z)
    assert (metadata.pixel_size.y, metadata.pixel_size.x) == pytest.approx((xy, xy), rel=1e-5)
    assert metadata.time_step == step


def test_a_screen_resolution_is_not_a_pixel_size(data_dir: Path) -> None:
    for name in ("planar-rgb-u8.tif", "flybrain_lzw.tiff"):
        with open_stack(data_dir / "tiff" / name) as stack:
            assert stack.metadata.pixel_size == PixelSize()


@pytest.mark.timeout(60)  # one of them would be unpacked for hours
def test_damaged_files_are_refused_at_once(data_dir: Path) -> None:
    for path in sorted((data_dir / "tiff_bad").iterdir()):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(UnreadableFileError) as caught:
            open_stack(path)
        assert str(path) in str(caught.value)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200 * 1024
