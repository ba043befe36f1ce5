"""Choose positions with your own program: here, patches centred on the brightest nuclei.

`Fixed` takes the positions; the rest of the export does not change. docs/extending.md shows how to
add a strategy to the package itself.
"""

import numpy as np
import tifffile

from napari_patchset import (
    ExportPlan,
    Fixed,
    FixedPatch,
    describe,
    export,
    open_stack,
    sample_plane,
)

SIZE, COUNT = 64, 12
tifffile.imwrite("nuclei.tif", sample_plane(1, t=1, z=2, c=0))

with open_stack("nuclei.tif") as stack:
    source, (_, _, height, width) = describe(stack), stack.data_shape
    (plane,) = stack.extract_patch(0, [0], (0, 0), (height, width))

starts: list[tuple[int, int]] = []
remaining = plane.astype(float)
while len(starts) < COUNT:
    y, x = np.unravel_index(remaining.argmax(), plane.shape)
    remaining[max(0, y - SIZE) : y + SIZE, max(0, x - SIZE) : x + SIZE] = 0  # no patch overlaps it
    start = np.clip((y - SIZE // 2, x - SIZE // 2), 0, (height - SIZE, width - SIZE))
    starts.append((int(start[0]), int(start[1])))

positions = [FixedPatch(source=source.key, scene=source.scene, start=start) for start in starts]
plan = ExportPlan(
    sources="nuclei.tif",
    strategy=Fixed(size=SIZE, patches=positions),
    out="nuclei.patches.zarr",
)
patches = export(plan, overwrite=True)["all"]
print(len(patches), "patches, each with its nucleus:", bool(patches[:].max() == plane.max()))
