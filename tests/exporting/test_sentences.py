"""What docs/patchset-format.md and docs/patching.md say of table and manifest is true."""

import json
from collections.abc import Callable
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tifffile

from napari_patchset import (
    ExportPlan,
    MaskRegion,
    PatchSet,
    Rectangle,
    SourceRef,
    Tiled,
    export,
    open_stack,
)
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.strategies.base import OUTSIDE, TOO_SMALL
from napari_patchset.stacks.fingerprint import content_key

IMAGE = np.arange(64, dtype=np.uint16).reshape(8, 8)


def rows_of(image: np.ndarray, folder: Path, **fields: Any) -> tuple[list[dict[str, Any]], Any]:
    """Export an image, and return the rows of the table and the manifest."""
    axes = {2: "YX", 3: "CYX", 4: "TCYX"}[image.ndim]
    tifffile.imwrite(folder / "a.ome.tif", image, metadata={"axes": axes})
    fields = {"strategy": Tiled(size=4), "out": folder / "a.patches.zarr", **fields}
    with closing(export(ExportPlan(**{"sources": folder / "a.ome.tif", **fields}))) as made:
        return made.table.to_pylist(), made.manifest


def test_every_row_is_in_all_where_nothing_is_split(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, filters="mean>p50")
    assert {(row["kept"], row["split"]) for row in rows} == {(True, "all"), (False, "all")}
    assert all((row["checksum"] is None) != row["kept"] for row in rows)


def test_a_rejected_row_is_in_no_split(tmp_path: Path) -> None:
    fields = {"filters": "mean>p50", "split": 0.3, "strategy": Tiled(size=2)}
    rows, _ = rows_of(IMAGE, tmp_path, **fields)
    kinds = {(row["kept"], row["split"]) for row in rows}
    assert kinds == {(True, "train"), (True, "val"), (False, None)}


def test_coordinates_have_no_checksum(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, format="coordinates", out=tmp_path / "a.patches")
    assert {(row["array"], row["index"], row["checksum"]) for row in rows} == {(None, None, None)}


def test_an_axis_that_the_image_lacks_is_null(tmp_path: Path) -> None:
    rows, _ = rows_of(np.stack([IMAGE[None], IMAGE[None]]), tmp_path)
    assert {row["t"] for row in rows} == {0, 1}
    assert {row["z"] for row in rows} == {None}


def test_a_patch_with_nan_measures_minus_infinity(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[0, 0] = np.nan
    rows, _ = rows_of(image, tmp_path, filters="max>0")
    assert [np.isneginf(row["max_Channel 0"]) for row in rows] == [True, False, False, False]


def test_a_filters_index_counts_the_chosen_channels(tmp_path: Path) -> None:
    image = np.stack([IMAGE, IMAGE + 100, IMAGE + 200])
    rows, _ = rows_of(image, tmp_path, filters="max[0]>0", channels=(2, 1))
    (column,) = (name for name in rows[0] if name.startswith("max_"))
    assert max(row[column] for row in rows) == 263


def test_an_image_smaller_than_a_patch_counts_each_sample_once(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "small.ome.tif", np.zeros((3, 1, 2, 2), np.uint16), metadata={"axes": "TCYX"}
    )
    tifffile.imwrite(tmp_path / "large.ome.tif", IMAGE)
    paths = [tmp_path / "small.ome.tif", tmp_path / "large.ome.tif"]
    strategy = Tiled(size=4, small="skip")
    plan = ExportPlan(sources=paths, strategy=strategy, out=tmp_path / "b.patches.zarr")
    with closing(export(plan)) as made:
        assert made.manifest.dropped == {TOO_SMALL: 3}


def test_an_axis_that_is_not_there_has_the_number_0(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path, strategy=Tiled(size=4, select={"T": (None, 1)}))
    assert len(rows) == 4
    fields = {"strategy": Tiled(size=4, select={"T": (1, None)})}
    with pytest.raises(ArgumentError, match="Nothing is selected by T 1:"):
        rows_of(IMAGE, tmp_path, out=tmp_path / "c.patches.zarr", **fields)


@pytest.mark.parametrize("kind", ["rectangle", "mask"])
def test_a_patch_past_the_image_is_inside_of_no_region(tmp_path: Path, kind: str) -> None:
    region: Any = Rectangle(x=0, y=0, w=20, h=20)
    if kind == "mask":
        tifffile.imwrite(tmp_path / "mask.tif", np.ones((8, 8), np.uint8))
        with open_stack(tmp_path / "mask.tif") as stack:
            region = MaskRegion(path=str(tmp_path / "mask.tif"), digest=content_key(stack))
    strategy = Tiled(size=5, edge="pad", region=region)
    rows, manifest = rows_of(IMAGE, tmp_path, strategy=strategy)
    assert [(row["y_start"], row["x_start"]) for row in rows] == [(0, 0)]
    assert manifest.dropped == {OUTSIDE: 3}


def root_of(folder: Path) -> Path:
    return folder / "a.patches.zarr"


def test_an_array_names_its_dimensions_and_channels_and_states_its_pixel_size(
    tmp_path: Path,
) -> None:
    source = SourceRef(
        path=str(tmp_path / "a.ome.tif"), pixel_size=(2, 0.5, 0.25), channel_names=("one", "two")
    )
    image = np.zeros((2, 3, 8, 8), np.uint16)
    tifffile.imwrite(source.path, image, metadata={"axes": "CZYX"}, photometric="minisblack")
    strategy = Tiled(size=(3, 4, 4))
    plan = ExportPlan(
        sources=source, strategy=strategy, depth_axis="Z", codec="lz4", out=root_of(tmp_path)
    )
    export(plan).close()
    array = json.loads((root_of(tmp_path) / "all/image/zarr.json").read_text("utf-8"))
    assert array["dimension_names"] == ["s", "c", "z", "y", "x"]
    assert array["attributes"] == {
        "channels": ["one", "two"],
        "pixel_size_um": {"z": 2, "y": 0.5, "x": 0.25},
    }
    (sharding,) = array["codecs"]
    shards = sharding["configuration"]
    assert sharding["name"] == "sharding_indexed"
    assert shards["chunk_shape"] == [1, 2, 3, 4, 4]  # one patch is one inner chunk
    little, blosc = shards["codecs"]
    assert little == {"name": "bytes", "configuration": {"endian": "little"}}
    assert blosc["name"] == "blosc"
    compressor = blosc["configuration"]
    assert (compressor["cname"], compressor["shuffle"]) == ("lz4", "bitshuffle")
    assert shards["index_location"] == "end"
    assert [codec["name"] for codec in shards["index_codecs"]] == ["bytes", "crc32c"]


def test_checksums_and_digests_are_those_that_are_stated(tmp_path: Path) -> None:
    rows, manifest = rows_of(IMAGE.astype(">u2"), tmp_path)
    with PatchSet(root_of(tmp_path)) as made:
        for row in rows:
            patch = made["all"][row["index"]].astype("<u2").tobytes()
            assert row["checksum"] == google_crc32c.value(patch)
    table = (root_of(tmp_path) / "patches.parquet").read_bytes()
    assert manifest.table_digest == blake2b(table, digest_size=16).hexdigest()


def test_statistics_are_of_the_training_patches_and_of_all_where_nothing_is_split(
    tmp_path: Path,
) -> None:
    _, manifest = rows_of(IMAGE, tmp_path)
    assert manifest.statistics["image"][0].mean == IMAGE.mean()
    assert manifest.statistics["image"][0].count == IMAGE.size
    out = tmp_path / "b.patches.zarr"
    _, manifest = rows_of(IMAGE, tmp_path, split=0.3, strategy=Tiled(size=2), out=out)
    with PatchSet(out) as made:
        assert manifest.statistics["image"][0].mean == made["train"][:].mean()


def test_the_provenance_has_date_paths_versions_and_what_was_skipped(tmp_path: Path) -> None:
    rows_of(IMAGE, tmp_path)
    stored = json.loads((root_of(tmp_path) / "zarr.json").read_text("utf-8"))
    provenance = stored["attributes"]["patchset"]["provenance"]
    assert set(provenance) == {"created", "sources", "versions"}
    assert [source["path"] for source in provenance["sources"]] == [str(tmp_path / "a.ome.tif")]
    assert {"napari-patchset", "numpy"} <= set(provenance["versions"])
    assert str(tmp_path) not in json.dumps(stored["attributes"]["patchset"]["manifest"])


def test_micrometres_are_null_where_the_pixel_size_is_not_known(tmp_path: Path) -> None:
    rows, _ = rows_of(IMAGE, tmp_path)
    assert [row["id"] for row in rows] == [0, 1, 2, 3]
    assert {(row["y_start_um"], row["x_size_um"]) for row in rows} == {(None, None)}
    source = SourceRef(path=str(tmp_path / "a.ome.tif"), pixel_size=0.5)
    rows, _ = rows_of(IMAGE, tmp_path, sources=source, out=tmp_path / "b.patches.zarr")
    assert [row["y_start_um"] for row in rows] == [0, 0, 2, 2]
    assert {row["x_size_um"] for row in rows} == {2}


OUTLINE = '{"type": "Polygon", "coordinates": [[[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]]}'
RECTANGLE = '{"kind": "rectangle", "x": 0, "y": 0, "w": 8, "h": 8}'


@pytest.mark.parametrize(
    ("version", "options"),
    [
        (1, "--val 0.3 --region rectangle.json --filter max>0 --codec zstd"),
        (2, "--source-pixel-size 0.5 --pixel-size 1"),
        (2, "--channel-names one,two --channels one --filter max[two]>0"),
        (
            2,
            "--labels labels.ome.tif --strategy balanced --count 1 --classes foreground=1",
        ),
        (2, "--annotations outline.geojson"),
        (2, "--region outline.geojson"),
        (2, "--region rectangle.json --min-inside 0.5"),
        (2, "--dedupe 4"),
        (2, "--test 0.3"),
        (2, "--folds 2"),
        (2, "--samples sheet.csv"),
    ],
)
def test_the_schema_version_rises_with_what_version_1_does_not_have(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, version: int, options: str
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([IMAGE] * 2), metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "labels.ome.tif", IMAGE, metadata={"axes": "YX"})
    (tmp_path / "outline.geojson").write_text(OUTLINE, "utf-8")
    (tmp_path / "rectangle.json").write_text(RECTANGLE, "utf-8")
    (tmp_path / "sheet.csv").write_text("source,animal\na.ome.tif,1\n", "utf-8")
    words = ("export", "a.ome.tif", "--patch-size", 2, *options.split(), "--out", "a.patches.zarr")
    code, _, err = run(*words)
    assert (code, err) == (0, "")
    with PatchSet(root_of(tmp_path)) as made:
        assert made.manifest.schema_version == version
