"""A mask as the region of an export: named by content, whatever its path."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, Tiled, export, iter_export
from napari_patchset.errors import ExportError
from napari_patchset.exporting.sources import mask_region
from support.czi_maker import MakeCzi, SceneSpec


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Write a mask of which the left half is not zero."""
    pixels = np.zeros((50, 70), np.uint8)
    pixels[:, :32] = 7
    tifffile.imwrite(tmp_path / "mask.tif", pixels)
    return tmp_path / "mask.tif"


def plan_of(image: Path, mask: Path, name: str) -> ExportPlan:
    strategy = Tiled(size=(16, 16), region=mask_region(str(mask)))
    return ExportPlan(sources=[image], strategy=strategy, out=mask.parent / name)


def test_a_mask_elsewhere_gives_the_same_set(czi: MakeCzi, mask: Path) -> None:
    image, sets = czi(SceneSpec(rect=(0, 0, 70, 50))), []
    for i in range(2):
        plan = plan_of(image, mask, f"{i}.patches.zarr")
        with closing(export(plan)) as made:
            assert {row["x_start"] for row in made.table.to_pylist()} == {0, 16}
            sets.append(made.manifest)
        mask = mask.rename(mask.parent / "moved.tif")
    assert sets[0] == sets[1]


def test_a_mask_that_has_changed_is_refused(czi: MakeCzi, mask: Path) -> None:
    plan = plan_of(czi(SceneSpec(rect=(0, 0, 70, 50))), mask, "a.patches.zarr")
    tifffile.imwrite(mask, np.ones((50, 70), np.uint8))
    with pytest.raises(ExportError, match=r"mask\.tif has changed"):
        next(iter_export(plan))


def test_a_recipe_alone_does_not_know_where_the_mask_lies(czi: MakeCzi, mask: Path) -> None:
    plan = plan_of(czi(SceneSpec(rect=(0, 0, 70, 50))), mask, "a.patches.zarr")
    there = plan.model_copy(update={"strategy": plan.recipe.strategy})
    with pytest.raises(ExportError, match="does not say where the mask"):
        next(iter_export(there))
    assert there.recipe.hash == plan.recipe.hash
