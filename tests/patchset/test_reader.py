"""The patch set on disk: written by hand, read by everyone."""

import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorstore
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_patchset import ExportPlan, ImageRef, PatchSet, SourceRef, Split, Tiled, export
from napari_patchset.errors import IncompleteSetError, UnreadableFileError
from napari_patchset.patchset import layout
from napari_patchset.patchset.layout import ArrayLayout
from napari_patchset.patchset.reader import PatchArray
from napari_patchset.patchset.table import TableFile
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.patchset.writers import zarr as zarr_format
from napari_patchset.patchset.writers.zarr import CODECS, open_shard, write_shard
from napari_patchset.source import PixelSize
from support.czi_maker import MakeCzi, SceneSpec

SCENE = SceneSpec(rect=(5, -7, 96, 80), t=2, c=2)
OTHER = SceneSpec(rect=(5, -7, 96, 80), t=range(1, 3), c=2)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put 10 patches of 2 x 16 x 16 uint16 into a shard."""
    monkeypatch.setattr(layout, "SHARD_BYTES", 10 * 2 * 16 * 16 * 2 + 1)


@pytest.fixture
def patch_set(czi: MakeCzi, tmp_path: Path, small_shards: None) -> Iterator[PatchSet]:
    out = tmp_path / "made.patches.zarr"
    plan = ExportPlan(sources=[czi(SCENE)], strategy=Tiled(size=(16, 16)), out=out)
    opened = export(plan)
    yield opened
    opened.close()


def test_zarr_python_and_tensorstore_read_the_same_patches(patch_set: PatchSet) -> None:
    path = patch_set.path / "all" / "image"
    ours = patch_set["all"][:]
    assert ours.shape == (60, 2, 16, 16)
    assert ours.dtype == np.uint16
    array = zarr.open(str(patch_set.path), mode="r")["all/image"]
    assert array.metadata.dimension_names == ("s", "c", "y", "x")
    np.testing.assert_array_equal(array[:], ours)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), ours)


class Replaced(NamedTuple):
    """Handles to a set that was replaced since."""

    read: PatchSet
    unread: PatchSet
    worker: PatchArray
    patches: np.ndarray


@pytest.fixture(params=sorted(set(FORMATS) - {"coordinates"}))
def replaced(
    request: pytest.FixtureRequest, czi: MakeCzi, tmp_path: Path, small_shards: None
) -> Iterator[Replaced]:
    """Open a set of 60 patches twice, and pickle a split; then put another set in its place."""
    set_format, suffix = request.param, FORMATS[request.param].suffix
    fields = {"out": tmp_path / f"made{suffix}", "format": set_format}
    first, second = czi(SCENE, name="a.czi"), czi(OTHER, name="b.czi")
    opened = export(ExportPlan(sources=[first], strategy=Tiled(size=(16, 16)), **fields))
    unread = PatchSet(opened.path)
    patches = opened["all"][:]
    pickled = pickle.dumps(opened["all"])
    plan = ExportPlan(sources=[second], strategy=Tiled(size=(16, 16)), **fields)
    with export(plan, overwrite=True) as other:
        assert not np.array_equal(other["all"][:], patches)
    yield Replaced(opened, unread, pickle.loads(pickled), patches)
    opened.close()
    unread.close()


def test_a_replaced_set_gives_an_error_and_never_the_pixels_of_the_other(
    replaced: Replaced,
) -> None:
    n = len(replaced.patches)
    for array in (replaced.unread["all"], replaced.worker):
        for index in (0, n - 1):
            with pytest.raises(UnreadableFileError, match="replaced by another patch set"):
                array[index]
    for index in range(n):  # what is mapped already is of the set that was opened
        try:
            patch = replaced.read["all"][index]
        except UnreadableFileError as error:
            assert "replaced by another" in str(error)  # noqa: PT017  # either is right
        else:
            np.testing.assert_array_equal(patch, replaced.patches[index])


def test_table_of_a_replaced_set_is_an_error(replaced: Replaced) -> None:
    opened = replaced.unread
    reads: list[Callable[[], Any]] = [
        lambda: opened.table,
        lambda: opened.locate(0),
        lambda: list(opened.table_parts(["id"])),
    ]
    for read in reads:
        with pytest.raises(UnreadableFileError, match="replaced by another"):
            read()


def test_a_removed_set_is_named(patch_set: PatchSet) -> None:
    patch_set.path.rename(patch_set.path.with_name("elsewhere"))
    with pytest.raises(UnreadableFileError, match="was removed after it was opened"):
        patch_set["all"][0]


def test_a_set_that_is_exported_again_from_the_same_plan_is_the_same(
    czi: MakeCzi, tmp_path: Path
) -> None:
    out = tmp_path / "made.patches.zarr"
    plan = ExportPlan(sources=[czi(SCENE)], strategy=Tiled(size=(16, 16)), out=out)
    opened = export(plan)
    with export(plan, overwrite=True) as again:
        np.testing.assert_array_equal(opened["all"][:], again["all"][:])
    opened.close()


def test_the_table_is_read_in_parts(patch_set: PatchSet, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(patch_set.table, patch_set.path / "patches.parquet", row_group_size=7)
    opened = PatchSet(patch_set.path)
    whole = patch_set.table.to_pylist()
    monkeypatch.delattr(TableFile, "read")  # what reads it whole
    assert [row for part in opened.table_parts() for row in part.to_pylist()] == whole
    assert [len(part) for part in opened.table_parts(["id"])] == [7] * 8 + [4]
    assert [opened.locate(i)[1] for i in range(60)] == whole
    assert opened.locate(-1)[1] == whole[-1]
    assert pickle.loads(pickle.dumps(opened)).locate(59)[1] == whole[59]


def test_metadata_is_consolidated(patch_set: PatchSet) -> None:
    group = zarr.open_consolidated(str(patch_set.path), mode="r")
    assert group["all/image"].shape == (60, 2, 16, 16)
    assert group.metadata.consolidated_metadata is not None


def array_for(patches: np.ndarray, spare: int = 0, codec: str = "none") -> ArrayLayout:
    """Lay out an array whose only shard is not quite full."""
    return ArrayLayout(
        name="all/image",
        shape=patches.shape,
        patches_per_shard=len(patches) + spare,
        dtype=patches.dtype.name,
        axes="SCZYX" if patches.ndim == 5 else "SCYX",
        channels=tuple("abcdef"[: patches.shape[1]]),
        codec=codec,
        pixel_size=PixelSize(),
    )


@given(
    hnp.arrays(
        st.sampled_from([np.bool_, np.uint8, np.int16, np.dtype(">u2"), np.float32, np.float64]),
        st.tuples(st.integers(1, 5), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4)),
        elements=st.integers(0, 1),
    ),
    st.integers(0, 3),
    st.sampled_from(list(CODECS)),
)
def test_a_shard_comes_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, patches: np.ndarray, spare: int, codec: str
) -> None:
    path = tmp_path_factory.mktemp("shards") / "c" / "0"
    array = array_for(patches, spare, codec)
    write_shard(path, array, patches)
    shard = open_shard(path, array, len(patches))
    np.testing.assert_array_equal([shard[row] for row in range(len(patches))], patches)
    assert [p.name for p in path.parent.iterdir()] == ["0"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"\0", lambda _: b""]
)
def test_a_shard_of_another_length_is_refused(
    tmp_path: Path, codec: str, damage: Callable[[bytes], bytes]
) -> None:
    patches = np.ones((3, 1, 4, 4), np.uint16)
    path, array = tmp_path / "0", array_for(patches, codec=codec)
    write_shard(path, array, patches)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableFileError, match="damaged"):
        open_shard(path, array, 3)


def test_what_is_in_a_set_is_what_it_iterates(czi: MakeCzi, tmp_path: Path) -> None:
    path = str(czi(SCENE))
    plan = ExportPlan(
        sources=SourceRef(path=path, labels=ImageRef(path=path)),
        strategy=Tiled(size=(16, 16)),
        split=Split(val=0.3),
        out=tmp_path / "pairs.patches.zarr",
    )
    with export(plan) as patches:
        names = ["train", "train/labels", "val", "val/labels"]
        assert list(patches) == list(patches.keys()) == names
        assert len(patches) == 4
        assert patches.splits == ("train", "val")
        assert all(name in patches and patches[name] is array for name, array in patches.items())
        for name in ("test", "train/image", "val/target"):
            assert name not in patches
            with pytest.raises(KeyError, match=f"no '{name}'; its arrays are train, train/labels,"):
                patches[name]
        with pytest.raises(KeyError, match="no 'train/target'"):
            patches.pairs("train", "image", "target")
        patches["train"][0]
        n = patches.manifest.counts
        assert repr(patches) == (
            f"<PatchSet pairs.patches.zarr (zarr): train {n['train']} x (2, 16, 16) uint16, "
            f"train/labels {n['train']} x (2, 16, 16) uint16, val {n['val']} x (2, 16, 16) uint16, "
            f"val/labels {n['val']} x (2, 16, 16) uint16>"
        )


def test_index_slice_and_iteration_agree(patch_set: PatchSet) -> None:
    patches = patch_set["all"]
    everything = patches[:]
    np.testing.assert_array_equal(np.stack(list(patches)), everything)
    np.testing.assert_array_equal(patches[-1], everything[59])
    np.testing.assert_array_equal(patches[7:31:9], everything[7:31:9])
    assert patches[5:5].shape == (0, 2, 16, 16)
    with pytest.raises(IndexError, match="60"):
        patches[60]


def test_a_patch_is_a_copy_that_may_be_changed(patch_set: PatchSet) -> None:
    patch = patch_set["all"][3]
    before = patch.copy()
    patch[:] = 0
    np.testing.assert_array_equal(patch_set["all"][3], before)


def test_a_batch_is_one_array_that_is_filled_once(czi: MakeCzi, tmp_path: Path) -> None:
    source, out = czi(SceneSpec(0, (0, 0, 640, 640))), tmp_path / "a.patches.zarr"
    with export(ExportPlan(sources=source, strategy=Tiled(size=128), out=out)) as patch_set:
        patches = patch_set["all"]
        chosen = [7, 3, 3, *range(9, 24)]
        expected = np.stack([patches[i] for i in chosen])
        tracemalloc.start()
        batch = patches[chosen]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(batch, expected)
        assert batch.nbytes <= peak < 1.2 * batch.nbytes
        first, *others = patches.__getitems__([3, 3])
        first[...] = 0
        assert np.array_equal(others, [patches[3]])
        assert np.array_equal(others[0], expected[1])


def test_it_pickles_into_a_worker(patch_set: PatchSet) -> None:
    patches = patch_set["all"]
    first = patches[0]
    copy = pickle.loads(pickle.dumps(patches))
    np.testing.assert_array_equal(copy[0], first)
    copy.close()


def test_a_whole_set_pickles(patch_set: PatchSet) -> None:
    assert len(patch_set.table) == 60
    patch_set["all"][0]
    copy = pickle.loads(pickle.dumps(patch_set))
    np.testing.assert_array_equal(copy["all"][7], patch_set["all"][7])
    assert copy.locate(7) == patch_set.locate(7)
    assert copy.statistics == patch_set.statistics
    copy.close()


class Loader:
    """Load batches as torch's DataLoader does: all that it asks of a set are len and an index.

    Each worker gets a pickled copy, and indices that were shuffled and cut into batches; what it
    gives is stacked.
    """

    def __init__(self, dataset: Any, batch: int, workers: int) -> None:
        order = np.random.default_rng(0).permutation(len(dataset)).tolist()
        self.batches = [order[i : i + batch] for i in range(0, len(order), batch)]
        self._workers = [pickle.loads(pickle.dumps(dataset)) for _ in range(workers)]

    def __iter__(self) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(len(self._workers)) as pool:
            yield from pool.map(self._fetch, enumerate(self.batches))

    def _fetch(self, job: tuple[int, list[int]]) -> np.ndarray:
        number, indices = job
        worker = self._workers[number % len(self._workers)]
        return np.stack([worker[i] for i in indices])

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


def test_a_loader_takes_it_by_duck_type(patch_set: PatchSet) -> None:
    whole = patch_set["all"][:]
    with closing(Loader(patch_set["all"], batch=8, workers=3)) as loader:
        for indices, batch in zip(loader.batches, loader, strict=True):
            np.testing.assert_array_equal(batch, whole[indices])


def test_only_so_many_shards_stay_mapped(
    patch_set: PatchSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_format, "_MAPPED_SHARDS", 2)
    with closing(PatchSet(patch_set.path)) as opened:
        patches = opened["all"]
        assert patches.layout.n_shards == 6
        list(patches)
        assert len(patches._store._mapped) == 2


def test_locate_says_where_a_patch_was_cut(patch_set: PatchSet) -> None:
    for index in (0, 17, 59):
        source, row = patch_set.locate(index)
        window = (row["y_start"], row["x_start"], row["y_size"], row["x_size"])
        expected = [SCENE.pixels({"T": row["t"], "Z": 0, "C": c}, window) for c in range(2)]
        np.testing.assert_array_equal(patch_set["all"][index], np.stack(expected))
        assert (source.scene, row["scene"]) == (0, "0")


def test_a_missing_shard_is_named(patch_set: PatchSet) -> None:
    patch_set.close()
    shard = patch_set.path / "all" / "image" / "c" / "3" / "0" / "0" / "0"
    shard.unlink()
    with pytest.raises(UnreadableFileError, match="all/image/c/3"):
        PatchSet(patch_set.path)


def test_a_folder_that_is_no_patch_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such"):
        PatchSet(tmp_path / "none.patches.zarr")
    with pytest.raises(IncompleteSetError, match="not a patch set"):
        PatchSet(tmp_path)
    partial = tmp_path / "x.partial"
    partial.mkdir()
    with pytest.raises(IncompleteSetError, match="not completed"):
        PatchSet(partial)


def test_a_manifest_of_another_schema_is_refused(patch_set: PatchSet) -> None:
    metadata = patch_set.path / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"recipe_hash"', '"receipt"'))
    with pytest.raises(IncompleteSetError, match="schema 1"):
        PatchSet(patch_set.path)
