"""Writers of TIFFs whose pixels encode their own position, and comparisons with stacks."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_patchset.axes import AxisLayout
from support.pixels import expected

H, W = 45, 70


def planes(*shape: int, dtype: Any = np.uint16, size: tuple[int, int] = (H, W)) -> NDArray[Any]:
    """Return planes whose pixels encode their position, numbered along T."""
    count = int(np.prod(shape))
    data = np.stack([expected(0, 0, *size, dtype, T=i) for i in range(count)])
    return data.reshape(*shape, *size)


def assert_whole(stack: Any, reference: NDArray[Any]) -> None:
    """Compare every sample, and a window within it, with an array SC(Z)YX."""
    assert tuple(stack.data_shape) == reference.shape
    assert stack.data_dtype == reference.dtype
    spatial = reference.shape[2:]
    start = [n // 3 for n in spatial]
    window = tuple(slice(a, None) for a in start)
    for sample, pixels in enumerate(reference):
        whole = stack.extract_patch(sample, None, [0] * len(spatial), spatial)
        np.testing.assert_array_equal(whole, pixels, strict=True)
        size = [n - a for a, n in zip(start, spatial, strict=True)]
        patch = stack.extract_patch(sample, [0], start, size)
        np.testing.assert_array_equal(patch, pixels[(slice(0, 1), *window)], strict=True)


def as_stack(data: NDArray[Any], axes: str, depth_axis: Any = "none") -> NDArray[Any]:
    return AxisLayout(axes, data.shape, depth_axis).to_stack(data)


def write(path: Path, data: NDArray[Any], **options: Any) -> Path:
    if not options.get("imagej"):
        options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, data, **options)
    return path


def write_two_series(path: Path) -> Path:
    """Write two series of different axes and channels; only the second has a pixel size."""
    with tifffile.TiffWriter(path) as writer:
        writer.write(planes(3, 2), metadata={"axes": "TCYX", "Name": "left"})
        writer.write(
            planes(4, size=(20, 30)),
            metadata={
                "axes": "ZYX",
                "Name": "right",
                "PhysicalSizeX": 0.5,
                "PhysicalSizeY": 500,
                "PhysicalSizeYUnit": "nm",
                "Plane": {
                    "PositionX": [10.0] * 4,
                    "PositionXUnit": ["µm"] * 4,
                    "PositionY": [-20.0] * 4,
                    "PositionYUnit": ["µm"] * 4,
                },
            },
        )
    return path


OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_ome_set(folder: Path, by: str, n: int = 3, size: int = 32) -> list[Path]:
    """Write a set of OME-TIFFs, one file for each position, channel or time point.

    Parameters
    ----------
    by : {"position", "channel", "time", "companion"}
        What each file holds; "companion" is by position, described by a file of its own, which is
        the last one of the list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(7).integers(0, 2**16, (n, size, size), np.uint16)
    paths = [folder / f"{by} {i}.ome.tif" for i in range(n)]
    axis = {"channel": "C", "time": "T"}.get(by)

    def data(i: int, index: int) -> str:
        return (
            f'<TiffData First{axis or "T"}="{index}" IFD="0" PlaneCount="1">'
            f'<UUID FileName="{paths[i].name}">urn:uuid:{i}</UUID></TiffData>'
        )

    def image(number: int, content: str, sizes: dict[str, int]) -> str:
        shape = " ".join(f'Size{a}="{sizes.get(a, 1)}"' for a in "ZCT")
        channels = "".join(
            f'<Channel ID="Channel:{number}:{c}" Name="ch{c}" SamplesPerPixel="1"/>'
            for c in range(sizes.get("C", 1))
        )
        return (
            f'<Image ID="Image:{number}" Name="image {number}"><Pixels ID="Pixels:{number}" '
            f'DimensionOrder="XYZCT" Type="uint16" SizeX="{size}" SizeY="{size}" {shape} '
            f'PhysicalSizeX="0.1" PhysicalSizeY="0.1">{channels}{content}</Pixels></Image>'
        )

    if axis:
        images = image(0, "".join(data(i, i) for i in range(n)), {axis: n})
    else:
        images = "".join(image(i, data(i, 0), {}) for i in range(n))
    for i, path in enumerate(paths):
        content = images
        if by == "companion":
            content = '<BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:all"/>'
        xml = f'<?xml version="1.0"?><OME xmlns="{OME}" UUID="urn:uuid:{i}">{content}</OME>'
        write(path, pixels[i], description=xml, metadata=None)
    if by != "companion":
        return paths
    companion = folder / "all.companion.ome"
    companion.write_text(
        f'<?xml version="1.0"?><OME xmlns="{OME}" UUID="urn:uuid:all">{images}</OME>'
    )
    return [*paths, companion]
