"""Noise2Void with CAREamics: train on the patches of a set, predict them, stitch the image.

The image is compared with CAREamics' own tiled prediction, which holds all of it in memory. Without
CAREamics, the mean of 3 x 3 pixels stands for the model.
"""

from typing import Any

import numpy as np
import tifffile
import zarr

from napari_patchset import ExportPlan, Tiled, export, sample_plane, stitch

SIZE, OVERLAP = (64, 64), (32, 32)

clean = sample_plane(0, t=0, z=2, c=0)
noisy = np.random.default_rng(0).normal(clean, 50).astype(np.float32)
tifffile.imwrite("noisy.tif", noisy)

# As a command: patchset export noisy.tif --for-prediction --patch-size 64,64 --overlap 32,32 ...
plan = ExportPlan(
    sources="noisy.tif",
    strategy=Tiled(size=SIZE, overlap=OVERLAP),
    out="noisy.patches.zarr",
)
patches = export(plan, overwrite=True)
images = patches["all"][:]


def smooth(image: np.ndarray) -> np.ndarray:
    """Average 3 x 3 pixels along the last two axes."""
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)], "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-2, -1))
    return windows.mean((-2, -1), dtype=np.float32)


try:
    from careamics import CAREamist
    from careamics.config.factories import create_n2v_config
except ImportError:
    predictions, tiled = smooth(images), None
else:
    config = create_n2v_config(
        "noisy", data_type="array", axes="SCYX", patch_size=SIZE, batch_size=8,
        num_epochs=1, num_steps=50, n_channels=1,
    )  # fmt: skip
    careamist = CAREamist(config, work_dir="careamics", enable_progress_bar=False)
    careamist.train(train_data=images)
    predicted: Any = careamist.predict(images, axes="SCYX", batch_size=8)[0]
    predictions = np.concatenate([np.asarray(each) for each in predicted])
    tiles = {"tile_size": SIZE, "tile_overlap": OVERLAP}
    tiled = np.squeeze(careamist.predict(noisy[None, None], axes="SCYX", **tiles)[0][0])

np.save("denoised.npy", predictions.reshape(images.shape).astype(np.float32))
result = stitch("noisy.patches.zarr", "denoised.npy", "denoised.ome.zarr", overwrite=True)
denoised = zarr.open_group(result.path, mode="r")["0"][0]
print(f"{result.path.name}: {denoised.shape}, patches cover {result.covered:.0%} of it")
for name, image in (("noisy", noisy), ("denoised", denoised)):
    print(f"{name}: {np.sqrt(np.mean((image - clean) ** 2)):.1f} from the clean image")
if tiled is not None:
    difference = np.abs(denoised - tiled).max()
    print(f"at most {difference:.2g} from CAREamics' tiled prediction")
    assert np.allclose(denoised, tiled, rtol=1e-4, atol=1e-3 * denoised.std())
