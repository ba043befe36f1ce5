"""Pixel size and channel names of slide scanners' and microscopes' own kinds of TIFF."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset.source import PixelSize
from napari_patchset.stacks.opening import open_stack
from support.tiff_maker import planes, write


def test_a_qptiff_names_the_channel_of_each_page(tmp_path: Path) -> None:
    path = tmp_path / "a.qptiff.tif"
    names = ("DAPI", "Opal 570")
    with tifffile.TiffWriter(path) as writer:
        for i, (name, page) in enumerate(zip(names, planes(2), strict=True)):
            xml = (
                '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
                f"<ImageType>FullResolution</ImageType><Name>{name}</Name>"
                f"<Color>{255 * i},0,255</Color></PerkinElmer-QPI-ImageDescription>"
            )
            writer.write(
                page,
                description=xml,
                software="PerkinElmer-QPI",
                metadata=None,
                contiguous=False,
                tile=(16, 16),
                photometric="minisblack",
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )
    with open_stack(path) as stack:
        assert stack.original_axes == "CYX"
        assert [(c.name, c.color) for c in stack.metadata.channels] == [
            ("DAPI", "#0000ff"),
            ("Opal 570", "#ff00ff"),
        ]
        assert stack.metadata.pixel_size == PixelSize(y=0.5, x=0.5)


@pytest.mark.parametrize("mpp", ["0.25", "2.5e-1"])
def test_an_aperio_slide_has_the_size_in_its_description(mpp: str, tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    description = f"Aperio Image Library v11\r\n96x64|AppMag = 40|MPP = {mpp}|Left = 1"
    path = write(
        tmp_path / "a.svs",
        pixels,
        description=description,
        metadata=None,
        photometric="rgb",
        tile=(32, 32),
    )
    with open_stack(path) as stack:
        assert stack.metadata.pixel_size == PixelSize(y=0.25, x=0.25)
        assert [channel.name for channel in stack.metadata.channels] == ["R", "G", "B"]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("unit=nm\nyunit=um\nspacing=2\nzunit=um\nslices=2\n", PixelSize(z=2, y=0.5, x=0.0005)),
        ("unit=micron\nspacing=-3\nslices=2\n", PixelSize(z=3, y=0.5, x=0.5)),
        ("unit=micron\nslices=2\n", PixelSize(z=1, y=0.5, x=0.5)),
        ("unit=pixel\nslices=2\n", PixelSize()),
    ],
)
def test_imagej_units_and_spacing(fields: str, size: PixelSize, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    description = f"ImageJ=1.54f\nimages=2\n{fields}loop=false\nfinterval=2\ntunit=min\n"
    tifffile.imwrite(
        path,
        planes(2),
        description=description,
        metadata=None,
        photometric="minisblack",
        resolution=(2, 2),
        resolutionunit="NONE",
    )
    with open_stack(path) as stack:
        assert stack.original_axes == "ZYX"
        for axis in "zyx":
            assert getattr(stack.metadata.pixel_size, axis) == pytest.approx(getattr(size, axis))
        assert stack.metadata.time_step == 120
