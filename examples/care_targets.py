"""CARE: pairs of a noisy image and a clean one, cut at the same places.

As a command: patchset export noisy.tif --target clean.tif --val 0.1 --out care.patches.zarr
"""

import numpy as np
import tifffile

from napari_patchset import ExportPlan, SourceRef, Tiled, export, sample_plane

clean = np.stack([sample_plane(0, t=0, z=z, c=0) for z in range(3)])
noisy = np.random.default_rng(0).poisson(clean / 20).astype(np.uint16) * 20
for name, image in (("noisy.tif", noisy), ("clean.tif", clean)):
    tifffile.imwrite(name, image, imagej=True, metadata={"axes": "ZYX"})

plan = ExportPlan(
    sources=SourceRef(path="noisy.tif", target="clean.tif"),
    strategy=Tiled(size=64, overlap=16),
    split=0.1,
    out="care.patches.zarr",
)
patches = export(plan, overwrite=True)
pairs = patches.pairs("train")
x, y = pairs[0]
print(len(pairs), "pairs of", x.shape, y.shape, x.dtype)

mean, std = (getattr(patches.statistics["image"][0], name) for name in ("mean", "std"))
noisy_std, clean_std = (((image - mean) / std).std() for image in (x, y))
print(f"normalised, the first patch deviates by {noisy_std:.2f}, its target by {clean_std:.2f}")
