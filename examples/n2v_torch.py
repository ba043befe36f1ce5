"""Noise2Void: batches in which some pixels are replaced by a neighbour, for the network to guess.

Without torch, the same batches are made with NumPy.
"""

from collections.abc import Iterator

import numpy as np
import tifffile

from napari_patchset import ExportPlan, Random, export, sample_plane

tifffile.imwrite("cells.tif", np.stack([sample_plane(0, t=0, z=z, c=0) for z in range(5)]))
plan = ExportPlan(
    sources="cells.tif",
    strategy=Random(size=64, count=40, seed=1),
    filters=["std>p20"],
    out="n2v.patches.zarr",
)
patches = export(plan, overwrite=True)
images, statistics = patches["all"], patches.statistics["image"][0]
rng = np.random.default_rng(0)


def batches(size: int) -> Iterator[np.ndarray]:
    """Yield shuffled batches N, C, Y, X."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        order = rng.permutation(len(images))
        for rows in np.array_split(order, len(images) // size):
            yield np.stack([images[int(row)] for row in rows])
    else:
        for batch in DataLoader(images, batch_size=size, shuffle=True):
            yield batch.numpy()


for batch in batches(16):
    target = ((batch - statistics.mean) / statistics.std).astype(np.float32)
    masked = rng.random(target.shape) < 0.02
    neighbours = np.roll(target, rng.choice([-1, 1]), axis=rng.choice([-2, -1]))
    shown = np.where(masked, neighbours, target)
    # loss = ((network(shown) - target)[masked] ** 2).mean()
    print(shown.shape, f"{masked.mean():.1%} of the pixels are masked")
