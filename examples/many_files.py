"""Many files with one plan, saved once and run here or elsewhere: patchset export --plan plan.json.

A file that can't be read is skipped, with a warning that names it; the others are exported.
"""

from pathlib import Path

import numpy as np
import tifffile

from napari_patchset import ExportPlan, Split, Tiled, export, sample_plane

folder = Path("series")
folder.mkdir(exist_ok=True)
for i in range(4):
    planes = np.stack([sample_plane(i % 2, t=i // 2, z=2, c=c) for c in (0, 1)])
    options = {"axes": "CYX", "PhysicalSizeX": 0.325, "PhysicalSizeY": 0.325}
    tifffile.imwrite(folder / f"{i}.ome.tif", planes, metadata=options, photometric="minisblack")
(folder / "broken.ome.tif").write_bytes(b"II*\0 and no more")

plan = ExportPlan(
    sources=sorted(folder.glob("*.tif")),
    strategy=Tiled(size=96, edge="balance"),
    filters=["max[1]>otsu"],
    split=Split(val=0.25, by="file"),
    out="series.patches.zarr",
)
Path("plan.json").write_text(plan.model_dump_json(indent=1))

patches = export(plan, overwrite=True)  # a SkippedSourcesWarning names the broken file
print(patches.manifest.counts, "rejected:", patches.manifest.rejected)
source, row = patches.locate(0, "val")
print("the first patch that validates is from", source.key, "at", row["y_start"], row["x_start"])
