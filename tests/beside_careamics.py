"""CAREamics and torch train from a set as it is; `nox -s careamics` runs this."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_patchset import PatchSet, Split, Tiled, export
from napari_patchset.exporting.plan import ImageRef
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import plan_for

SCENE = SceneSpec(rect=(0, 0, 128, 64), z=8, c=2)
SIZES = {"none": (32, 32), "Z": (8, 16, 16)}
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
