"""Normalize: mean 0 and standard deviation 1 over the training patches, and back."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, Normalize, Split, Tiled, export
from napari_patchset.errors import ArgumentError


@pytest.fixture
def patches(tmp_path: Path):
    random = np.random.default_rng(0)
    pixels = random.normal([[[500]], [[90]]], [[[80]], [[7]]], (2, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": "CYX"}, photometric="minisblack")
    plan = ExportPlan(
        sources=tmp_path / "a.tif",
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=(8, 8)),
        split=Split(folds=2, by="block"),
    )
    with export(plan) as made:
        yield made


def test_training_patches_have_mean_0_and_deviation_1(patches) -> None:
    normalize = pickle.loads(pickle.dumps(Normalize.from_manifest(patches.manifest)))
    batch = normalize(patches["train"][:])
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(batch.std(axis=(0, 2, 3)), 1, atol=1e-5)
    one = normalize(patches["train"][3])
    np.testing.assert_array_equal(one, batch[3])
    np.testing.assert_allclose(normalize.inverse(one), patches["train"][3], atol=1e-3)


def test_percentiles_become_0_and_1(patches) -> None:
    normalize = Normalize.from_manifest(patches.manifest, percentiles=(1, 99.8))
    batch = normalize(patches["train"][:])
    low, high = np.percentile(batch, (1, 99.8), axis=(0, 2, 3))
    np.testing.assert_allclose(low, 0, atol=0.01)
    np.testing.assert_allclose(high, 1, atol=0.01)
    with pytest.raises(ArgumentError, match=r"no percentile 4\.5; there are"):
        Normalize.from_manifest(patches.manifest, percentiles=(4.5, 99.8))
    with pytest.raises(ArgumentError, match=r"percentiles 99\.8 and 1 become 0 and 1; name"):
        Normalize.from_manifest(patches.manifest, percentiles=(99.8, 1))
    with pytest.raises(ArgumentError, match=r"percentiles is \(1,\); give two of them"):
        Normalize.from_manifest(patches.manifest, percentiles=(1,))


def test_a_set_stands_for_its_manifest(patches) -> None:
    assert repr(Normalize.from_manifest(patches)) == repr(Normalize.from_manifest(patches.manifest))
    with pytest.raises(ArgumentError, match=r"A Fold has no manifest; use Normalize\.from_stat"):
        Normalize.from_manifest(patches.fold(0))


def test_a_fold_is_normalized_by_its_own_training_patches(patches) -> None:
    fold = patches.fold(1)
    normalize = Normalize.from_statistics(fold.statistics["image"], 2)
    np.testing.assert_allclose(normalize(fold["train"][:]).mean(axis=(0, 2, 3)), 0, atol=1e-5)


def test_what_does_not_fit_is_refused(patches) -> None:
    normalize = Normalize.from_manifest(patches.manifest)
    for shape in ((8, 8), (3, 8, 8), (1, 1, 2, 8, 8)):
        with pytest.raises(ArgumentError, match="are not CYX or NCYX with 2 channels"):
            normalize(np.zeros(shape))
    with pytest.raises(ArgumentError, match="no statistics of target; it has image"):
        Normalize.from_manifest(patches.manifest, role="target")
    assert Normalize([5], [0], 2)(np.full((1, 2, 2), 5)).tolist() == [[[0, 0], [0, 0]]]
    with pytest.raises(ArgumentError, match="n_spatial is 4; a patch has 2 or 3 spatial axes"):
        Normalize.from_statistics(patches.manifest.statistics["image"], 4)


def test_its_repr_says_what_it_does() -> None:
    text = repr(Normalize([500, 90.25], [80, 0], 2))
    assert text == "Normalize(offset=[500.  ,  90.25], scale=[80.,  1.], n_spatial=2)"
