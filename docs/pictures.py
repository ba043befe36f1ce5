"""Draw the pictures of patching.md with the library itself: .venv/bin/python docs/pictures.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from napari_patchset import (
    InMemoryImageStack,
    Random,
    Split,
    Stratified,
    Tiled,
    describe,
    parse_filter,
)
from napari_patchset.annotations.raster import BoolArray
from napari_patchset.patching.filters.patch_filters import Filter
from napari_patchset.patching.regions import MaskRegion, Polygon
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patching.verdicts import judge
from napari_patchset.preview.categories import patch_categories
from napari_patchset.preview.image import composite, draw_patches
from napari_patchset.preview.outlines import PlanePatches
from napari_patchset.sample import sample_plane
from napari_patchset.stacks.metadata import image_metadata

IMAGES = Path(__file__).with_name("images")
HEIGHT, WIDTH, SIZE = 210, 270, (48, 48)
GREYS = 12
"""So few shades keep the files small."""

PLANE = sample_plane(0, t=1, z=2, c=0)[:HEIGHT, 120 : 120 + WIDTH]
STACK = InMemoryImageStack.from_array(PLANE, "YX")
SOURCE = describe(STACK)
PIXELS = np.argwhere(np.ones_like(PLANE, bool))
NUCLEI = PLANE > 250
MASK = MaskRegion(digest="nuclei")
CORNERS = ((20, 30), (150, 5), (262, 120), (140, 200))


def draw(
    strategy: Strategy,
    filters: Sequence[str] = (),
    split: Split | None = None,
    masks: Mapping[str, BoolArray] | None = None,
) -> NDArray[np.uint8]:
    """Draw what a strategy, filters and a split make of the image."""
    grid = strategy.plan([SOURCE], masks)
    read = [parse_filter(text) for text in filters]
    metrics = {name: values for each in read for name, values in measure(each, grid).items()}
    verdicts = judge(grid, [SOURCE], filters=read, split=split, metrics=metrics)
    picture = background()
    if strategy.region is not None:
        area = strategy.region.area(SOURCE, masks or {})
        picture[~area.contains(PIXELS, (1, 1)).reshape(PLANE.shape)] //= 2
    return draw_patches(
        picture, PlanePatches.from_grid(grid, patch_categories(verdicts), 0, 0), scale=1
    )


def measure(each: Filter, grid: Any) -> dict[str, NDArray[np.float64]]:
    """Measure every patch, as an export does while it scores."""
    patches = [STACK.extract_patch(spec.sample, None, spec.start, spec.size) for spec in grid]
    pixels = np.stack(patches)
    return {name: each.measure(pixels[:, i]) for i, name in each.columns(SOURCE.channels).items()}


def background() -> NDArray[np.uint8]:
    """Return the image in a few dark greys, so that the patches stand out."""
    picture = composite(PLANE[np.newaxis], image_metadata(STACK).channels)
    return np.round(picture / 255 * GREYS).astype(np.uint8) * np.uint8(12) + np.uint8(36)


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Draw all of them, by the name of their file."""
    pictures = {
        f"edge-{edge}": draw(Tiled(size=SIZE, edge=edge))
        for edge in ("shift", "balance", "drop", "pad")
    }
    return pictures | {
        "strategy-tiled": draw(Tiled(size=SIZE, edge="drop")),
        "strategy-overlap": draw(Tiled(size=SIZE, overlap=(12, 12), edge="drop")),
        "strategy-random": draw(Random(size=SIZE, count=12, seed=1)),
        "strategy-apart": draw(Random(size=SIZE, count=12, seed=1, max_overlap=0)),
        "strategy-stratified": draw(Stratified(size=SIZE, seed=1)),
        "region-polygon": draw(Tiled(size=(24, 24), region=Polygon(points=CORNERS))),
        "region-mask": draw(Tiled(size=(8, 8), region=MASK), masks={"nuclei": NUCLEI}),
        "filter-percentile": draw(Tiled(size=(30, 30)), ["std>p40"]),
        "filter-otsu": draw(Tiled(size=(30, 30)), ["max>otsu"]),
        "split-apart": draw(Tiled(size=(30, 30)), split=Split(val=0.2)),
        "split-overlap": draw(Tiled(size=(40, 40), overlap=(10, 10)), split=Split(val=0.2)),
    }


def main() -> None:
    """Write the pictures."""
    for name, picture in pictures().items():
        path = IMAGES / f"{name}.png"
        path.write_bytes(imagecodecs.png_encode(picture, level=9))
        print(path, f"{path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
