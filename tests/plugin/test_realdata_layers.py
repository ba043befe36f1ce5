"""Layers of real files: scale, units, names, colours and contrast as the file states them."""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from pylibCZIrw.czi import open_czi

from napari_patchset.plugin.reader import read_layers
from support.realdata import REFUSED_CZI

pytestmark = pytest.mark.realdata

REFUSED = {
    *REFUSED_CZI,
    "czi_synth/xml_broken.czi",  # by pylibCZIrw, which reads here what the file states
    "zarr/ome-zarr-examples__invalid_image-01.zarr",
}


def images(path: Path | str) -> list[dict[str, Any]]:
    """Return the options of the image layers, each with its data."""
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
        left, top, _, _ = czi_truth["scenes"][0]["rect_xywh"]
        y, x = layer["scale"][-2:]
        assert layer["translate"][-2:] == pytest.approx([top * y, left * x])
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
        shift = transforms.get("translation", [0] * len(ome["axes"]))
        begins = {
            axis: value * factors[unit][0] if unit in factors and axis != "t" else 0
            for (axis, unit), value in zip(ome["axes"], shift, strict=True)
        }
        known = zip(layer["axis_labels"], layer["translate"], strict=True)
        assert all(at == pytest.approx(begins[axis]) for axis, at in known)
    names = [str(name) for name in ome["channels"] if isinstance(name, str)]
    if names:
        assert [layer["name"] for layer in shown] == names
    described = omero_channels(path, shown[0])
    for layer, channel in zip(shown, described, strict=bool(described)):
        if len(shown) > 1 and (color := channel.get("color")):
            assert layer["colormap"] == f"#{color.lower()}"
        if window := channel.get("window"):
            assert layer["contrast_limits"] == (window["start"], window["end"])


def omero_channels(path: Path, layer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read what the group of a layer's array says of its channels, of a plate's field too."""
    data = layer["data"][0] if layer["multiscale"] else layer["data"]
    group = Path(data.stack.source.removeprefix("file://")).parent
    assert group.is_relative_to(path)
    names = (name for name in ("zarr.json", ".zattrs") if (group / name).is_file())
    stated = json.loads((group / next(names)).read_text())
    stated = stated.get("attributes", stated)
    found = stated.get("ome", stated).get("omero", {}).get("channels", [])
    return [channel for channel in found if isinstance(channel, dict)]


UNITS = {"µm": 1.0, "\\u00B5m": 1.0, "mm": 1e3}
"""Micrometres in a unit, as the files here write it."""


def test_a_tiff(tiff_truth: dict[str, Any], data_dir: Path) -> None:
    path = data_dir / tiff_truth["file"]
    with tifffile.TiffFile(path) as tiff:
        page, imagej = tiff.pages.first, tiff.imagej_metadata
        ome = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"] if tiff.ome_metadata else None
        series = ome if isinstance(ome, list) else [ome]
    is_color = page.photometric in (2, 6)
    for number, image in enumerate(series):
        shown = images(f"{path}@{number}" if len(series) > 1 else path)
        assert [layer["rgb"] for layer in shown] == ([True] if is_color else [False] * len(shown))
        if imagej:
            sizes, *look = stated_by_imagej(imagej, page)
        else:
            sizes, *look = stated_by_ome(image) if image else ({}, [], [], [])
        for layer in shown:
            for axis, scale, unit in steps(layer):
                step, known_unit = sizes.get(axis, (1, "pixel"))
                assert (scale, unit) == (pytest.approx(step), known_unit)
            assert layer["translate"][-2:] == [0, 0]  # as the files here have it, or nothing
        for field, values in zip(("name", "colormap", "contrast_limits"), look, strict=True):
            assert [layer[field] for layer in shown[: len(values)]] == values


Stated = tuple[dict[str, tuple[float, str]], list[str], list[str], list[tuple[float, float]]]
"""Step and unit along each axis; then names, colours and contrast limits of the channels."""


def stated_by_imagej(found: Mapping[str, Any], page: Any) -> Stated:
    factor = UNITS[found["unit"]]
    resolution = {axis: page.tags.valueof(tag) for axis, tag in (("x", 282), ("y", 283))}
    sizes = {axis: (factor * n / per, "um") for axis, (per, n) in resolution.items()}
    sizes["z"] = (factor * found["spacing"], "um")
    if "finterval" in found:
        sizes["t"] = (found["finterval"], "s")
    count = found.get("channels", 1)
    ranges = found.get("Ranges", ())
    limits = [(ranges[2 * i], ranges[2 * i + 1]) for i in range(len(ranges) // 2)]
    colors = ["#" + bytes(lut[:, -1].tolist()).hex() for lut in found.get("LUTs", ())]
    return sizes, list(found.get("Labels", ()))[:count], colors, limits


def stated_by_ome(image: Mapping[str, Any]) -> Stated:
    pixels = image["Pixels"]
    sizes = {
        axis: (pixels[key] * UNITS[pixels.get(f"{key}Unit", "µm")], "um")
        for axis in "zyx"
        if (key := f"PhysicalSize{axis.upper()}") in pixels
    }
    if "TimeIncrement" in pixels:
        assert pixels["TimeIncrementUnit"] == "s"
        sizes["t"] = (pixels["TimeIncrement"], "s")
    channels = pixels["Channel"] if isinstance(pixels["Channel"], list) else [pixels["Channel"]]
    names = [c.get("Name", f"Channel {i}") for i, c in enumerate(channels)]
    colors = [f"#{(c['Color'] % 2**32) >> 8:06x}" for c in channels if "Color" in c]
    return sizes, names, colors, []
