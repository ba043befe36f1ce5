"""Layers as sources, whichever plugin opened them, and their spooled copies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels

from napari_patchset import open_stack
from napari_patchset.errors import MissingAxisError
from napari_patchset.plugin.layers.layer_stack import LayerStack
from napari_patchset.stacks.metadata import Channel, describe
from napari_patchset.stacks.zarr.spool import spool

PIXELS = np.random.default_rng(0).integers(1, 60_000, (2, 3, 40, 50), dtype=np.uint16)
SPACE: dict[str, Any] = {
    "scale": (2, 500, 0.25, 0.25),
    "units": ("s", "nm", "um", "um"),
    "axis_labels": ("t", "z", "y", "x"),
}


def as_zarr(pixels: Any) -> Any:
    return zarr.array(pixels, chunks=(1, 1, 16, 20))


def as_dask(pixels: Any) -> Any:
    return da.from_array(pixels, chunks=(1, 1, 16, 20))


@pytest.fixture(autouse=True)
def _no_pool() -> Iterator[None]:
    """Keep dask from starting threads that stay."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(params=[np.asarray, as_dask, as_zarr])
def layer(request: pytest.FixtureRequest) -> Image:
    return Image(
        request.param(PIXELS),
        **SPACE,
        name="a/b c",
        colormap="green",
        contrast_limits=(5, 900),
    )


def test_a_layer_is_a_stack_with_its_own_space(layer: Image) -> None:
    stack = LayerStack(layer, "Z")
    assert (stack.axes, stack.data_shape) == ("SCZYX", (2, 1, 3, 40, 50))
    assert stack.metadata.channels == (Channel("a/b c", "#00ff00", (5, 900)),)
    assert stack.metadata.pixel_size.model_dump() == pytest.approx({"z": 0.5, "y": 0.25, "x": 0.25})
    assert stack.metadata.time_step == 2
    patch = stack.extract_patch(1, None, (1, -2, 30), (2, 8, 30))
    expected = np.zeros((1, 2, 8, 30), np.uint16)
    expected[0, :, 2:, :20] = PIXELS[1, 1:3, :6, 30:]
    np.testing.assert_array_equal(patch, expected)


def test_a_spooled_layer_is_the_same_source(layer: Image, tmp_path: Path) -> None:
    stack = LayerStack(layer)
    path = spool(stack, tmp_path / "spool")
    assert path.name.startswith("a_b_c-")
    with open_stack(path) as spooled:
        for sample in range(6):
            whole = spooled.extract_patch(sample, None, (0, 0), (40, 50))
            np.testing.assert_array_equal(whole[0], PIXELS.reshape(6, 40, 50)[sample])
        ours, theirs = describe(stack), describe(spooled)
        assert ours.model_copy(update={"name": theirs.name, "block_shape": None}) == (
            theirs.model_copy(update={"block_shape": None})
        )


def test_the_same_content_is_spooled_once_and_a_changed_one_anew(tmp_path: Path) -> None:
    mask = np.zeros((300, 300), np.uint8)
    paths = [spool(LayerStack(Labels(mask, name="mask")), tmp_path) for _ in range(2)]
    mask[150, 150] = 1
    paths.append(spool(LayerStack(Labels(mask, name="mask")), tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted(set(paths))
    assert len(set(paths)) == 2


def test_rgb_is_three_channels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3), dtype=np.uint8)
    stack = LayerStack(Image(pixels, rgb=True))
    assert (stack.original_axes, stack.data_shape) == ("ZCYX", (4, 3, 20, 30))
    assert [channel.name for channel in stack.metadata.channels] == ["R", "G", "B"]
    patch = stack.extract_patch(2, [2, 0], (3, 4), (5, 6))
    np.testing.assert_array_equal(patch, pixels[2, 3:8, 4:10][..., [2, 0]].transpose(2, 0, 1))


def test_a_multiscale_layer_has_levels() -> None:
    levels = [PIXELS[:, 0], PIXELS[:, 0, ::2, ::2]]
    stack = LayerStack(Image(levels, multiscale=True, contrast_limits=(0, 9)))
    assert [level.data_shape for level in stack.levels] == [(2, 1, 40, 50), (2, 1, 20, 25)]


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("-4", "-3", "-2", "-1"), "TZYX"),
        (("time", "plane", "y", "x"), "TPYX"),
        (("z", "z", "y", "x"), "TZYX"),
        (("c", "z", "row", "column"), "CZYX"),
    ],
)
def test_axes_are_named_by_their_labels_or_their_place(labels: tuple[str, ...], axes: str) -> None:
    layer = Image(PIXELS, axis_labels=labels, contrast_limits=(0, 9))
    assert LayerStack(layer).original_axes == axes


def test_a_depth_axis_that_the_layer_lacks_is_refused() -> None:
    with pytest.raises(MissingAxisError, match="flat does not contain a Z axis"):
        LayerStack(Image(PIXELS[0, 0], name="flat"), "Z")
