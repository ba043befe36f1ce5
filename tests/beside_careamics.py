"""CAREamics and torch train from a set as it is; `nox -s careamics` runs this."""

import gc
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset import (
    ExportPlan,
    LazyPatchSet,
    Normalize,
    PatchSet,
    Split,
    TileAwareSampler,
    Tiled,
    export,
    load_stacks,
)
from napari_patchset.exporting.plans.image_refs import ImageRef
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import plan_for

SCENE = SceneSpec(rect=(0, 0, 128, 64), z=8, c=2)
SIZES = {"none": (32, 32), "Z": (8, 16, 16)}
REAL = "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi"
QUICK: dict[str, Any] = {"batch_size": 4, "num_epochs": 1, "num_steps": 2}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to the test's folder, where the trainer writes files."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def made(czi: MakeCzi, tmp_path: Path) -> Any:
    """Export a set with targets and a split: `made("tiff", depth_axis="Z")`."""
    image, target = czi(SCENE), ImageRef(path=str(czi(SCENE, name="target.czi")))

    def made(form: str, depth_axis: str = "none", **more: Any) -> PatchSet:
        out = tmp_path / {"zarr": "a.patches.zarr", "tiff": "a.patches"}[form]
        options = {"strategy": Tiled(size=SIZES[depth_axis]), "split": Split(val=0.2, by="block")}
        plan = plan_for(image, out, format=form, depth_axis=depth_axis, **options, **more)
        paired = tuple(ref.model_copy(update={"target": target}) for ref in plan.sources)
        return export(plan.model_copy(update={"sources": paired}))

    return made


def n2v(data_type: str, axes: str, size: tuple[int, ...], **more: Any) -> Any:
    from careamics.config.factories import create_n2v_config

    return create_n2v_config("a", data_type=data_type, axes=axes, patch_size=size, **QUICK, **more)


@pytest.mark.parametrize(("depth_axis", "axes"), [("none", "SCYX"), ("Z", "SCZYX")])
def test_n2v_trains_on_the_arrays(made: Any, depth_axis: str, axes: str) -> None:
    from careamics import CAREamist

    with closing(made("zarr", depth_axis)) as patches:
        arrays = patches.path.as_uri()
    config = n2v("zarr", axes, SIZES[depth_axis], n_channels=2)
    CAREamist(config).train(train_data=f"{arrays}/train/image", val_data=f"{arrays}/val/image")


@pytest.mark.parametrize(
    ("depth_axis", "channels", "axes"),
    [("none", (0, 1), "CYX"), ("none", (1,), "YX"), ("Z", (0, 1), "CZYX"), ("Z", (1,), "ZYX")],
)
def test_n2v_trains_on_the_tiffs(
    made: Any, depth_axis: str, channels: tuple[int, ...], axes: str
) -> None:
    from careamics import CAREamist

    target = {"channels": channels} if len(channels) == 1 else {}
    with closing(made("tiff", depth_axis, **target)) as patches:
        folder = patches.path
    config = n2v("tiff", axes, SIZES[depth_axis], n_channels=len(channels))
    CAREamist(config).train(
        train_data=folder / "train" / "image", val_data=folder / "val" / "image"
    )


def test_care_trains_on_pairs(made: Any) -> None:
    from careamics import CAREamist
    from careamics.config.factories import create_care_config

    with closing(made("zarr")) as patches:
        arrays = patches.path.as_uri()
    config = create_care_config(
        experiment_name="a",
        data_type="zarr",
        axes="SCYX",
        patch_size=SIZES["none"],
        n_channels_in=2,
        n_channels_out=2,
        **QUICK,
    )
    CAREamist(config).train(
        train_data=f"{arrays}/train/image",
        train_data_target=f"{arrays}/train/target",
        val_data=f"{arrays}/val/image",
        val_data_target=f"{arrays}/val/target",
    )


def test_a_loader_with_workers_takes_pairs(made: Any) -> None:
    from torch.utils.data import DataLoader

    with closing(made("zarr")) as patches:
        loader = DataLoader(patches.pairs("train"), batch_size=4, num_workers=2)
        images = np.concatenate([np.asarray(image) for image, _ in loader])
        np.testing.assert_array_equal(images, patches["train"][:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_tensors_are_normalized_as_arrays_are(dtype: str) -> None:
    import torch

    normalize = Normalize([500, 90], [80, 7], 2)
    patches = np.random.default_rng(0).integers(0, 255, (3, 2, 8, 8)).astype(dtype)
    tensor = torch.from_numpy(patches)
    made = normalize(tensor)
    wide = torch.float64 if dtype == "float64" else torch.float32
    assert made.dtype == normalize.inverse(made).dtype == wide
    np.testing.assert_allclose(made.numpy(), normalize(patches), rtol=1e-5)
    np.testing.assert_allclose(normalize.inverse(made).numpy(), patches, atol=1e-3)
    made.requires_grad_()
    normalize.inverse(made).sum().backward()
    assert made.grad[0, :, 0, 0].tolist() == [80, 7]


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.realdata)])
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> ExportPlan:
    """Return a plan of one channel of a CZI, with a split."""
    if request.param == "made":
        source = str(request.getfixturevalue("czi")(SCENE))
    else:
        source = f"{request.getfixturevalue('data_dir')}/czi/{REAL}"
    return ExportPlan(
        sources=source,
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=SIZES["none"]),
        channels=(0,),
        split=Split(val=0.2, by="block"),
    )


def first_batch(data_config: Any, train: Any, val: Any, **more: Any) -> list[np.ndarray]:
    """Return the images of the first training batch."""
    from careamics.lightning.data import CareamicsDataModule
    from pytorch_lightning import seed_everything

    seed_everything(0, workers=True)
    module = CareamicsDataModule(data_config=data_config, train_data=train, val_data=val, **more)
    module.prepare_data()
    module.setup("fit")
    return [np.asarray(part.data) for part in next(iter(module.train_dataloader()))]


def test_n2v_trains_without_an_export_as_with_one(plan: ExportPlan) -> None:
    from careamics import CAREamist, ImageStackLoading

    config = n2v("custom", "SCYX", SIZES["none"], n_channels=1)
    loading, of_zarr = ImageStackLoading(load_stacks), {"data_type": "zarr", "in_memory": False}
    with export(plan) as patches, LazyPatchSet(plan) as lazy:
        arrays = [f"{patches.path.as_uri()}/{split}/image" for split in ("train", "val")]
        exported = first_batch(config.data_config.model_copy(update=of_zarr, deep=True), *arrays)
        own, same = (
            first_batch(config.data_config, each["train"], each["val"], loading=loading)
            for each in (lazy, patches)
        )
        assert len(exported) == len(own) == len(same) >= 1
        for one, other, by_zarr in zip(own, same, exported, strict=True):
            np.testing.assert_array_equal(one, other)
            # CAREamics sums up a zarr's mean and deviation in another order.
            np.testing.assert_allclose(one, by_zarr, atol=1e-6)
        CAREamist(config).train(train_data=lazy["train"], val_data=lazy["val"], loading=loading)


def test_predictions_of_patches_and_images_need_no_copy(czi: MakeCzi) -> None:
    from careamics import CAREamist, ImageStackLoading

    path = czi(*(SceneSpec(i, (200 * i, 0, 128, 64), z=2) for i in range(2)))
    plan = plan_for(path, Path("a.patches.zarr"), strategy=Tiled(size=SIZES["none"]))
    loading = ImageStackLoading(load_stacks)
    model = CAREamist(n2v("custom", "SCYX", SIZES["none"], n_channels=1))
    with LazyPatchSet(plan) as lazy:
        train = lazy["all"]
        model.train(train_data=train, val_data=train, loading=loading)
        of_patches, _ = model.predict(pred_data=train, loading=loading)
        assert of_patches[0].shape == train.shape
    tiles: Any = {"tile_size": (32, 32), "tile_overlap": (8, 8)}
    of_image, names = model.predict(pred_data=[path], loading=loading, **tiles)
    assert [image.shape for image in of_image] == [(2, 1, 64, 128)] * 2
    assert names
    # CAREamics names a TIFF after the file, so it writes one scene of each.
    model.predict_to_disk(pred_data=[f"{path}@1"], loading=loading, **tiles)
    assert [each.name for each in Path().rglob("*.tiff")] == [f"{path.stem}.tiff"]
    del model
    gc.collect()  # which closes the image


def test_a_loader_with_workers_takes_patches_without_an_export(made: Any) -> None:
    from torch.utils.data import DataLoader

    with closing(made("zarr")) as patches:
        expected = patches["train"][:], patches["train/target"][:]
        recipe = {"out": "b.patches.zarr", **patches.manifest.recipe}
        plan = ExportPlan.model_validate({"sources": patches.provenance.sources, **recipe})
    with LazyPatchSet(plan, threads=1) as lazy:
        pairs = lazy.pairs("train")
        for method in ("fork", "spawn"):
            options: Any = {"num_workers": 2, "multiprocessing_context": method, "batch_size": 4}
            batches = list(DataLoader(pairs, **options))
            for i, array in enumerate(expected):
                loaded = np.concatenate([batch[i] for batch in batches])
                np.testing.assert_array_equal(loaded, array)
            sampler = TileAwareSampler(pairs, seed=1)
            batches = list(DataLoader(pairs, sampler=sampler, **options))
            shuffled = np.concatenate([batch[0] for batch in batches])
            np.testing.assert_array_equal(shuffled, expected[0][list(sampler)])
