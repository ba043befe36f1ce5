"""Near-duplicates in an export: which are rejected, and what the set says of it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from typer.testing import CliRunner

from napari_patchset import ExportPlan, Split, Tiled, export, verify
from napari_patchset.cli.app import app
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import command_line, make_plan
from napari_patchset.patching.verdicts import Override
from napari_patchset.training.lazy import LazyPatchSet

N = 24


@pytest.fixture
def plan(tmp_path: Path) -> ExportPlan:
    """Plan patches of which the last third look like the first one, in two files."""
    rng = np.random.default_rng(0)
    coarse = rng.gamma(2, 300, (N, 8, 8))
    coarse[2 * N // 3 :] = coarse[: N // 3]
    tiles = coarse.repeat(2, axis=1).repeat(2, axis=2) + rng.normal(500, 20, (N, 16, 16))
    tiles[2] /= 5  # darker, of less contrast, and yet alike
    for i, half in enumerate(np.split(tiles.astype(np.uint16), 2)):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.hstack(half))
    return ExportPlan(
        sources=[tmp_path / "0.tif", tmp_path / "1.tif"],
        strategy=Tiled(size=(16, 16)),
        out=tmp_path / "set.patches.zarr",
    )


def changed(plan: ExportPlan, **fields: object) -> ExportPlan:
    return ExportPlan.model_validate({**dict(plan), **fields})


def test_the_first_of_patches_that_look_alike_is_exported(plan: ExportPlan) -> None:
    with export(changed(plan, dedupe=4)) as made:
        table = made.table
        assert table["kept"].to_pylist() == [True] * 16 + [False] * 8
        assert table["reason"].to_pylist()[16:] == ["duplicate"] * 8
        assert made.manifest.rejected == {"duplicate": 8}
        assert made.manifest.schema_version == 2
        hashes = table["hash"].to_numpy()
        assert hashes.dtype == np.int64
        assert np.bitwise_count(hashes[:8] ^ hashes[16:]).max() <= 4
    assert not list(verify(plan.out))
    with LazyPatchSet(changed(plan, dedupe=4)) as lazy:
        for name in ("hash", "kept", "reason", "index"):
            assert lazy.table[name].equals(table[name])


def test_without_it_there_is_no_hash(plan: ExportPlan) -> None:
    with export(plan) as made:
        assert "hash" not in made.table.column_names
        assert made.manifest.schema_version == 1
        assert "dedupe" not in made.manifest.recipe


def test_filters_come_first_and_hands_decide(plan: ExportPlan) -> None:
    with export(changed(plan, filters=["std>0"], dedupe=4)) as made:
        sources = made.manifest.sources
        std = made.table[f"std_{sources[0].channels[0]}"].to_numpy()
    grid = plan.strategy.plan(sources)
    overrides = [
        Override.of(grid, 0, sources, keep=False),
        Override.of(grid, 17, sources, keep=True),
    ]
    rule = f"std>{float(std[2])!r}"
    with export(
        changed(plan, filters=[rule], dedupe=4, overrides=overrides), overwrite=True
    ) as made:
        reasons = made.table["reason"].to_pylist()
    assert (reasons[0], reasons[16]) == ("by hand", "duplicate")  # none takes the place of it
    assert (reasons[1], reasons[17]) == ("duplicate", None)
    assert (reasons[2], reasons[18]) == (rule, None)
    assert (reasons[3], reasons[19]) == (None, "duplicate")
    assert not list(verify(plan.out))


def test_patches_alike_in_two_splits_are_told_whatever_dedupe_says(plan: ExportPlan) -> None:
    notices = list[str]()
    split = Split(val=0.5, by="file")
    with export(changed(plan, split=split)):
        assert not list(verify(plan.out, notice=notices.append))
    (text,) = notices
    assert "8 patches of val/image look like one of train/image" in text
    assert "dedupe=4" in text
    with export(changed(plan, split=split, dedupe=4), overwrite=True):
        assert not list(verify(plan.out, notice=notices.append))
    assert len(notices) == 1


def test_the_command_warns_of_patches_alike_and_passes(plan: ExportPlan) -> None:
    export(changed(plan, split=Split(val=0.5, by="file"))).close()
    verified = CliRunner().invoke(app, ["verify", plan.out])
    assert verified.exit_code == 0
    assert "look like one of train/image" in verified.stderr
    assert "no difference" in verified.stdout


def test_an_edited_hash_is_found(plan: ExportPlan) -> None:
    export(changed(plan, dedupe=4)).close()
    path = Path(plan.out) / "patches.parquet"
    table = pq.read_table(path)
    hashes = table["hash"].to_pylist()
    hashes[9] ^= 1  # which changes no verdict
    index = table.column_names.index("hash")
    pq.write_table(table.set_column(index, "hash", [hashes]), path)
    edited, found = verify(plan.out)
    assert (edited.name, found.name) == ("edited table", "edited table")
    assert f"hash of row 9 is {hashes[9]}, not {hashes[9] ^ 1}" in found.message


def test_padding_is_not_hashed(plan: ExportPlan) -> None:
    strategy = Tiled(size=(12, 12), edge="pad", pad="constant")
    with export(changed(plan, strategy=strategy, dedupe=2, dtype="float32")) as made:
        assert (made.table["pad_y"].to_numpy() > 0).any()
    assert not list(verify(plan.out))


def test_patches_with_nan_are_like_no_other(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48), np.float32)
    pixels[0, ::16] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    plan = ExportPlan(
        sources=[tmp_path / "a.tif"],
        strategy=Tiled(size=(16, 16)),
        dedupe=2,
        out=tmp_path / "set.patches.zarr",
    )
    with export(plan) as made:
        assert made.table["hash"].null_count == len(made["all"]) == 3
    assert not list(verify(plan.out))


def test_the_command_has_the_option(plan: ExportPlan) -> None:
    deduped = changed(plan, dedupe=3)
    command = command_line(deduped)
    assert command is not None
    assert command.endswith("--dedupe 3")
    made = make_plan([*(ref.path for ref in plan.sources)], plan.out, patch_size="16,16", dedupe=3)
    assert made.dedupe == 3
    assert ExportPlan.model_validate_json(deduped.model_dump_json()) == deduped


def test_a_set_for_prediction_has_all_patches(plan: ExportPlan, tmp_path: Path) -> None:
    files = [ref.path for ref in plan.sources]
    with pytest.raises(ArgumentError, match="so --dedupe can't go with it"):
        make_plan(files, plan.out, for_prediction=True, dedupe=4)
    saved = tmp_path / "plan.json"
    saved.write_text(changed(plan, dedupe=4).model_dump_json())
    assert make_plan([], None, plan=saved, for_prediction=True).dedupe is None
    assert make_plan([], None, plan=saved).dedupe == 4
