"""Layers of real files: scale, units, names, colours and contrast as the file states them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pylibCZIrw.czi import open_czi

from napari_patchset.plugin.reader import read_layers
from test_realdata_czi import REFUSED as REFUSED_CZI

pytestmark = pytest.mark.realdata

REFUSED = {
    *REFUSED_CZI,
    "czi_synth/xml_broken.czi",  # by pylibCZIrw, which reads here what the file states
    "zarr/ome-zarr-examples__invalid_image-01.zarr",
}


def images(path: Path) -> list[dict[str, Any]]:
    """Give the options of the image layers, each with its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in a file is another test's
        layers = read_layers(str(path))
    return [{"data": data, **options} for data, options, kind in layers if kind == "image"]


def steps(options: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    return zip(options["axis_labels"], options["scale"], options["units"], strict=True)


def display_settings(path: Path) -> dict[int, dict[str, str]]:
    """Read what the XML says of the display of each channel, by another way than ours."""
    with open_czi(str(path)) as czi:
        root = ElementTree.fromstring(czi.raw_metadata)
    found = root.iterfind(".//DisplaySetting/Channels/Channel")
    stated = {channel.get("Id", ""): {e.tag: e.text or "" for e in channel} for channel in found}
    return {int(i.removeprefix("Channel:")): s for i, s in stated.items() if i[8:].isdigit()}


def test_a_czi(czi_truth: dict[str, Any], data_dir: Path) -> None:
    path = data_dir / czi_truth["file"]
    known = czi_truth["metadata"]["scale_um"]
    shown = images(path)
    for layer in shown:
        for axis, scale, unit in steps(layer):
            if (size := known.get(axis.upper())) is not None:
                assert (scale, unit) == (pytest.approx(size), "um")
    settings = display_settings(path) if not shown[0]["rgb"] else {}
    for channel, layer in enumerate(shown):
        stated = settings.get(channel, {})
        if len(stated.get("Color", "")) == 9 and len(shown) > 1:
            assert layer["colormap"] == f"#{stated['Color'][3:].lower()}"
        data = layer["data"][0] if layer["multiscale"] else layer["data"]
        if "High" in stated and data.dtype.kind == "u":
            low, high = float(stated.get("Low", 0)), float(stated["High"])
            top = np.iinfo(data.dtype).max
            if 0 <= low < high <= 1:
                assert layer["contrast_limits"] == pytest.approx((low * top, high * top))


def test_an_ome_zarr(zarr_truth: dict[str, Any], data_dir: Path) -> None:
    first = next((a for a in zarr_truth["arrays"] if a.get("ome")), None)
    path = data_dir / zarr_truth["file"]
    shown = images(path)
    if first is None:  # a plain array states nothing
        assert {step[1:] for layer in shown for step in steps(layer)} == {(1, "pixel")}
        return
    ome = first["ome"]
    transforms = {t["type"]: t[t["type"]] for t in ome["transform"]}
    factors = {"micrometer": (1, "um"), "millisecond": (1e-3, "s"), "second": (1, "s")}
    for layer in shown:
        named = {axis: (scale, unit) for axis, scale, unit in steps(layer)}
        for (axis, unit), scale in zip(ome["axes"], transforms["scale"], strict=True):
            if axis in named and unit in factors:
                factor, shown_unit = factors[unit]
                assert named[axis] == (pytest.approx(scale * factor), shown_unit)
            elif axis in named:
                assert named[axis][1] == "pixel"
    names = [str(name) for name in ome["channels"] if isinstance(name, str)]
    if names:
        assert [layer["name"] for layer in shown] == names
