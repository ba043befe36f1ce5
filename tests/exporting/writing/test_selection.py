"""Filters and split: what is scored, what is kept, and where it is written."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_patchset import ExportPlan, PatchSet, Tiled, export, iter_export, open_stack, verify
from napari_patchset.errors import ArgumentError, ExportError
from napari_patchset.exporting import run as engine
from napari_patchset.exporting.plans.image_refs import ImageRef, SourceRef
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.exporting.writing.metrics import MetricRequest
from napari_patchset.exporting.writing.scores import Scores
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.patching.filters.patch_filters import parse_filter
from napari_patchset.patching.splits.split import Split
from napari_patchset.stacks.metadata import channel_names
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import SCENES, advance, digests, plan_for

pytestmark = pytest.mark.usefixtures("small_shards")


def filtered(path: Path, out: Path, *texts: str, **fields: Any) -> ExportPlan:
    return plan_for(path, out, filters=[parse_filter(text) for text in texts], **fields)


def cut(path: Path, row: dict[str, Any]) -> np.ndarray:
    """Cut what a row of the table names, without its padding."""
    where = row["y_start"], row["x_start"]
    size = row["y_size"] - row["pad_y"], row["x_size"] - row["pad_x"]
    with open_stack(path, int(row["scene"])) as stack:
        return stack.extract_patch(row["sample"], None, where, size)


def test_the_same_filter_twice_counts_what_it_rejects(czi: MakeCzi, tmp_path: Path) -> None:
    path, counts = czi(*SCENES, tile=(32, 32)), []
    for i, texts in enumerate((["mean>p50"], ["mean>p50", "max>0", "mean>p50"])):
        with closing(export(filtered(path, tmp_path / f"{i}.patches.zarr", *texts))) as made:
            counts.append(made.manifest.rejected)
            assert sum(counts[-1].values()) == made.table["kept"].to_pylist().count(False) > 0
    assert counts[0] == counts[1]


def test_a_filter_measures_a_channel_that_is_not_exported(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(*SCENES, tile=(32, 32))
    with open_stack(path, 3) as stack:
        first, second = channel_names(stack)
    texts, out = (f"mean[{second}]>p30", f"max[{first}]>0", "max[0]>0"), tmp_path / "a.patches.zarr"
    with closing(export(filtered(path, out, *texts, channels=[second, first]))) as made:
        both = made.table
    out = tmp_path / "b.patches.zarr"
    with closing(export(filtered(path, out, *texts, channels=[first]))) as made:
        table, images = made.table, made["all"][:]
        assert made.manifest.channels == (first,)
        assert made.manifest.sources[0].filter_channels == (second,)
    # An index counts the exported channels: it was the second one before.
    assert {name for name in table.column_names if name.startswith("max_")} == {f"max_{first}"}
    for column in ("kept", f"mean_{second}", f"max_{first}"):
        assert table[column].equals(both[column])
    rows = [row for row in table.to_pylist() if row["kept"]]
    assert 0 < len(rows) < len(table)
    for row, image in zip(rows, images, strict=True):
        np.testing.assert_array_equal(cut(path, row)[:1], image)
    assert list(verify(out)) == []


def test_a_filter_on_a_channel_that_another_source_lacks_is_refused(tmp_path: Path) -> None:
    files = []
    for i, (name, channels) in enumerate((("a", "DAPI,GFP"), ("b", "DAPI,Cy5"))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((2, 32, 32), i, "u1"))
        files.append(SourceRef(path=tmp_path / f"{name}.tif", axes="CYX", channel_names=channels))
    plan = ExportPlan(
        sources=files,
        out=tmp_path / "a.patches.zarr",
        strategy=Tiled(size=16),
        channels="DAPI",
        filters="max[GFP]>0",
    )
    with pytest.raises(ExportError, match="channels for filters"):
        export(plan)
    with pytest.raises(ArgumentError, match="There is no channel 'Cy7'"):
        export(plan.model_copy(update={"filters": (parse_filter("max[Cy7]>0"),)}))


@settings(max_examples=8)
@given(st.integers(-2, 2), st.sampled_from([2**53, 2**60, 2**63 - 4, -(2**55)]))
def test_integers_of_64_bits_are_compared_exactly(offset: int, near: int) -> None:
    limit, values = near + offset, near + np.arange(-3, 4)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "wide.tif"
        tifffile.imwrite(path, np.array([values], np.int64), metadata=None)
        for text, expected in ((f"max>{limit}", values > limit), (f"max<{limit}", values < limit)):
            plan = filtered(path, Path(folder) / "a.patches.zarr", text, strategy=Tiled(size=1))
            assert parse_filter(str(plan.filters[0])) == plan.filters[0]
            with closing(export(plan, overwrite=True)) as made:
                table = made.table
                assert table["kept"].to_pylist() == expected.tolist()
                assert list(verify(made.path)) == []
            parts = [table[f"{rest}max_Channel 0"].to_pylist() for rest in ("", "rest of ")]
            assert [int(a) + int(b) for a, b in zip(*parts, strict=True)] == values.tolist()


@pytest.mark.parametrize("edge", ["shift", "pad"])
def test_every_candidate_has_its_metrics_and_the_rejected_their_reason(
    czi: MakeCzi, tmp_path: Path, edge: str
) -> None:
    path = czi(*SCENES, tile=(32, 32))
    strategy = Tiled(size=(16, 16), edge=edge)
    texts = ("mean[all]>p40", "max[1]>65000")
    with closing(
        export(filtered(path, tmp_path / "a.patches.zarr", *texts, strategy=strategy))
    ) as made:
        rows = made.table.to_pylist()
        for row in rows:
            pixels = cut(path, row)
            means = [row[f"mean_Channel {c}"] for c in range(2)]
            np.testing.assert_allclose(means, pixels.mean(axis=(1, 2)), rtol=1e-12)
            assert row["max_Channel 1"] == pixels[1].max()
        limits = [made.manifest.limits[f"mean_Channel {c}"]["p40"] for c in range(2)]
        for row in rows:
            passed = all(row[f"mean_Channel {c}"] > limits[c] for c in range(2))
            reason = None if row["max_Channel 1"] > 65000 else str(parse_filter(texts[1]))
            assert row["reason"] == (reason if passed else str(parse_filter(texts[0])))
        check_rows(made, path)


def check_rows(made: PatchSet, path: Path) -> None:
    """Hold counts and every written patch against the table."""
    rows = made.table.to_pylist()
    kept = [row for row in rows if row["kept"]]
    assert sum(made.manifest.counts.values()) == len(kept) > 0
    assert sum(made.manifest.rejected.values()) == len(rows) - len(kept) > 0
    for split in made.splits:
        array = made[split]
        mine = [row for row in kept if row["split"] == split]
        assert [row["index"] for row in mine] == list(range(len(array)))
        for patch, row in zip(array, mine, strict=True):
            pixels = cut(path, row)
            np.testing.assert_array_equal(patch[:, : pixels.shape[1], : pixels.shape[2]], pixels)


def test_train_and_val_are_written_with_their_targets(czi: MakeCzi, tmp_path: Path) -> None:
    scene = SceneSpec(rect=(0, 0, 160, 160), z=2)
    path = czi(scene, tile=(64, 64))
    plan = filtered(path, tmp_path / "a.patches.zarr", "mean>p20", split=Split(val=0.3, by="block"))
    target = ImageRef(path=str(path))
    plan = plan.model_copy(
        update={"sources": tuple(s.model_copy(update={"target": target}) for s in plan.sources)}
    )
    with closing(export(plan)) as made:
        assert made.splits == ("train", "val")
        check_rows(made, path)
        for split in made.splits:
            image, beside = (
                made.manifest.arrays[f"{split}/{role}"].digest for role in ("image", "target")
            )
            assert image == beside


def test_the_mask_filter_reads_the_labels(czi: MakeCzi, tmp_path: Path) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[:16, :20] = 1
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    plan = filtered(czi(), tmp_path / "a.patches.zarr", "mask>0.2", strategy=Tiled(size=(16, 16)))
    with pytest.raises(ArgumentError, match="needs a mask or labels"):
        export(plan)
    beside = {"mask": ImageRef(path=str(tmp_path / "labels.tif"))}
    sources = tuple(ref.model_copy(update=beside) for ref in plan.sources)
    with closing(export(plan.model_copy(update={"sources": sources}))) as made:
        shares = [labels[r["y_start"] :, r["x_start"] :][:16, :16] for r in made.table.to_pylist()]
        assert made.table["mask"].to_pylist() == [(share != 0).mean() for share in shares]
        assert len(made["all"]) == 2
        assert list(made.manifest.arrays) == ["all/image"]


def test_a_plan_that_leaves_no_patch_is_refused_and_blocks_no_other(
    czi: MakeCzi, tmp_path: Path
) -> None:
    path, out = czi(), tmp_path / "a.patches.zarr"
    with pytest.raises(ArgumentError, match="No patches left: mean>99999 rejected all 16"):
        export(filtered(path, out, "mean>99999"))
    assert not out.exists()
    with closing(export(filtered(path, out, "mean>0"))) as made:
        assert len(made["all"]) == 16


def test_an_error_in_a_job_discards_nothing_that_was_done(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = filtered(czi(), tmp_path / "a.patches.zarr", "mean>0")

    def fail(*_: Any, **__: Any) -> Any:
        raise ArgumentError("the file has no scene 3 now")

    for event in iter_export(plan, workers=1):
        if event.stage == "write":
            monkeypatch.setattr(engine, "run_jobs", fail)
            break
    with pytest.raises(ArgumentError, match="no scene 3 now"):
        export(plan)
    workdir = WorkDir.for_set(plan.out)
    assert workdir.scores.has(0)
    assert workdir.find_plan() is not None


def test_an_export_resumes_when_a_missing_source_is_back(czi: MakeCzi, tmp_path: Path) -> None:
    scene = SceneSpec(rect=(0, 0, 64, 64))
    paths = [czi(replace(scene, t=range(i, i + 1)), name=f"{i}.czi") for i in range(2)]
    split = Split(val=0.5, by="file")
    plan = filtered(paths[0], tmp_path / "a.patches.zarr", "mean>0", split=split)
    both = plan.model_copy(update={"sources": tuple(expand_sources(paths))})
    events = iter_export(both, workers=1)
    advance(events, "plan")
    events.close()
    hidden = paths[1].rename(tmp_path / "hidden")
    with pytest.raises(ArgumentError, match="at least two files"):
        export(both)
    hidden.rename(paths[1])
    assert WorkDir.for_set(both.out).find_plan() is not None


def test_scoring_resumes_where_it_stopped(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi(*SCENES)
    whole = export(filtered(path, tmp_path / "whole.patches.zarr", "std>p30"))
    plan = filtered(path, tmp_path / "stopped.patches.zarr", "std>p30")
    measure, write, measured, runs = MetricRequest.measure, Scores.write, list[int](), []

    def counting(self: MetricRequest, patches: np.ndarray) -> Any:
        measured.append(len(patches))
        return measure(self, patches)

    def stopping(self: Scores, run: int, columns: Any) -> None:
        write(self, run, columns)
        runs.append(run)
        if len(runs) == 2:
            WorkDir.for_set(plan.out).request_stop()

    monkeypatch.setattr(MetricRequest, "measure", counting)
    monkeypatch.setattr(Scores, "write", stopping)
    with pytest.raises(Stopped):
        export(plan, workers=1)
    stopped = WorkDir.for_set(plan.out).plan()
    measured.clear()
    resumed = export(plan, workers=1)
    assert sorted(runs) == list(range(stopped.n_score_chunks))
    assert sum(measured) == len(resumed.table) - 2 * stopped.scored_at_once
    assert resumed.manifest == whole.manifest
    assert digests(resumed.path) == digests(whole.path)


def test_metrics_that_are_known_are_not_measured_again(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi(*SCENES)
    whole = export(filtered(path, tmp_path / "whole.patches.zarr", "std>p30"))
    known = {
        name: whole.table[name].to_numpy()
        for name in whole.table.column_names
        if name.startswith("std_")
    }
    monkeypatch.setattr(MetricRequest, "measure", None)
    again = export(filtered(path, tmp_path / "again.patches.zarr", "std>p30"), metrics=known)
    assert digests(again.path) == digests(whole.path)
