"""CSBDeep: an npz of images and targets; its own loader reads it, and so does NumPy."""

import numpy as np
import tifffile

from napari_patchset import ExportPlan, SourceRef, Stratified, export, sample_plane

tifffile.imwrite("dim.tif", sample_plane(1, t=0, z=2, c=1) // 4)
tifffile.imwrite("bright.tif", sample_plane(1, t=0, z=2, c=1))

plan = ExportPlan(
    sources=SourceRef(path="dim.tif", target="bright.tif"),
    strategy=Stratified(size=48, seed=1),
    split=0.2,
    format="npz",
    out="csbdeep.patches",
)
export(plan, overwrite=True)

try:
    from csbdeep.io import load_training_data

    (x, y), _, axes = load_training_data("csbdeep.patches/train.npz")
except ImportError:
    print("csbdeep is not here: NumPy loads the file")
    with np.load("csbdeep.patches/train.npz") as file:
        x, y, axes = file["X"], file["Y"], str(file["axes"])
print(x.shape, y.shape, axes)
