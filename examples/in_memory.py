"""An array in memory: cut it, process each patch, and put the result together again.

An export needs files: `spool` writes an array to one, named by its content.
"""

from pathlib import Path

import numpy as np

from napari_patchset import (
    ExportPlan,
    InMemoryImageStack,
    Tiled,
    describe,
    export,
    sample_plane,
    spool,
)

image = np.stack([sample_plane(0, t=t, z=2, c=0) for t in range(2)])
stack = InMemoryImageStack.from_array(image, "TYX")
source = describe(stack)

tiled = Tiled(size=128, overlap=32)
grid = tiled.plan([source])
result = np.zeros_like(image)
crops = tiled.crops(grid, [source])
for patch, crop, size, stitch in zip(grid, *crops, strict=True):
    (pixels,) = stack.extract_patch(patch.sample, None, patch.start, patch.size)
    predicted = pixels  # here a network would do its work
    inner = tuple(slice(c, c + n) for c, n in zip(crop, size, strict=True))
    place = tuple(slice(s, s + n) for s, n in zip(stitch, size, strict=True))
    result[patch.sample][place] = predicted[inner]
print("put together from", len(grid), "tiles:", np.array_equal(result, image))

path = spool(stack, Path("spooled"))
plan = ExportPlan(sources=path, strategy=tiled, out="array.patches.zarr")
patches = export(plan, overwrite=True)
print(len(patches["all"]), "patches of", path.name)
