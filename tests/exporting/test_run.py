"""From a plan to a patch set, whole or not at all."""

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_patchset import (
    ExportPlan,
    PatchSet,
    Progress,
    SourceRef,
    Tiled,
    export,
    iter_export,
    verify,
)
from napari_patchset.errors import (
    ArgumentError,
    DestinationExistsError,
    ExportError,
    MissingAxisError,
)
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import Stopped
from napari_patchset.jobs.lock import LOCK
from napari_patchset.patchset.writers.zarr import shard_path
from support.czi_maker import MakeCzi, SceneSpec, metadata_xml
from support.export_makers import SCENES, advance, digests, plan_for


@pytest.mark.parametrize("depth_axis", ["none", "Z"])
@pytest.mark.parametrize("edge", ["shift", "drop", "pad", "balance"])
@pytest.mark.parametrize("compression", [None, "zstd1:"])
def test_every_pixel_comes_from_where_the_table_says(
    czi: MakeCzi, tmp_path: Path, depth_axis: str, edge: str, compression: str | None
) -> None:
    size = (16, 24) if depth_axis == "none" else (2, 16, 24)
    path = czi(*SCENES, tile=(32, 32), compression=compression)
    strategy = Tiled(size=size, edge=edge, pad="constant")
    plan = plan_for(path, tmp_path / "a.patches.zarr", strategy=strategy, depth_axis=depth_axis)
    with_pads = 0
    made = export(plan)
    for patch, row in zip(made["all"], made.table.to_pylist(), strict=True):
        scene = SCENES[row["source_index"]]
        assert row["scene"] == str(scene.id)
        first = row["z"] if depth_axis == "none" else scene.z.start + row["z_start"]
        window = (row["y_start"], row["x_start"], 16 - row["pad_y"], 24 - row["pad_x"])
        for c in range(2):
            planes = patch[c][np.newaxis] if depth_axis == "none" else patch[c]
            for z, plane in enumerate(planes[: len(planes) - row.get("pad_z", 0)], first):
                expected = scene.pixels({"T": row["t"], "Z": z, "C": c}, window)
                np.testing.assert_array_equal(plane[: window[2], : window[3]], expected)
                assert not plane[window[2] :].any()
                assert not plane[:, window[3] :].any()
        with_pads += bool(row["pad_y"] or row["pad_x"])
    assert (with_pads > 0) == (edge == "pad")
    made.close()


@pytest.mark.parametrize("pad", ["reflect", "symmetric", "edge", "constant"])
def test_padding_is_numpys_on_the_whole_plane(czi: MakeCzi, tmp_path: Path, pad: str) -> None:
    scene = SceneSpec(rect=(0, 0, 21, 9))
    strategy = Tiled(size=(20, 16), edge="pad", pad=pad, small="pad")
    made = export(plan_for(czi(scene), tmp_path / "a.patches.zarr", strategy=strategy))
    whole = np.pad(scene.pixels({"T": 0, "Z": 0, "C": 0}), ((0, 11), (0, 11)), pad)
    np.testing.assert_array_equal(made["all"][:][:, 0], [whole[:, :16], whole[:, 16:]])
    made.close()


def test_channels_are_chosen_by_index_or_name(czi: MakeCzi, tmp_path: Path) -> None:
    names = metadata_xml(channels={"Channel:0": "DAPI", "Channel:1": "EGFP"})
    path = czi(SceneSpec(rect=(0, 0, 16, 16), c=2), xml=names)
    made = export(plan_for(path, tmp_path / "a.patches.zarr", channels=("EGFP", 0)))
    scene = SceneSpec(rect=(0, 0, 16, 16), c=2)
    expected = [scene.pixels({"T": 0, "Z": 0, "C": c}) for c in (1, 0)]
    np.testing.assert_array_equal(made["all"][0], np.stack(expected))
    assert made.manifest.channels == ("EGFP", "DAPI")
    made.close()
    with pytest.raises(ArgumentError, match=r"'Cy5'; the channels are 0 \(DAPI\), 1 \(EGFP\)"):
        export(plan_for(path, tmp_path / "b.patches.zarr", channels=("Cy5",)))


def test_missing_planes_give_no_patch(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(SceneSpec(rect=(0, 0, 16, 16), t=3, missing=({"T": 1},)))
    made = export(plan_for(path, tmp_path / "a.patches.zarr"))
    assert made.table["t"].to_pylist() == [0, 2]
    assert made.manifest.dropped == {"missing plane": 1}
    made.close()


def test_a_copy_of_the_file_gives_the_same_set(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(*SCENES)
    copy = tmp_path / "another name.czi"
    copy.write_bytes(path.read_bytes())
    sets = [export(plan_for(p, tmp_path / f"{i}.patches.zarr")) for i, p in enumerate((path, copy))]
    assert sets[0].manifest == sets[1].manifest
    assert digests(sets[0].path) == digests(sets[1].path)


@pytest.mark.usefixtures("small_shards")
def test_a_stopped_export_resumes_and_ends_with_the_same_bytes(
    czi: MakeCzi, tmp_path: Path
) -> None:
    path = czi(*SCENES)
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    plan = plan_for(path, tmp_path / "stopped.patches.zarr")
    events = iter_export(plan, workers=1)
    assert advance(events, "write").done > 0
    events.close()
    workdir = WorkDir.for_set(plan.out)
    frozen = workdir.plan()
    (array,) = workdir.selection().arrays(frozen.arrays)
    written = [shard.number for shard in array.shards if workdir.done_marker(shard)]
    assert written
    stamps = [shard_path(workdir.result, array.layout, i).stat().st_mtime_ns for i in written]
    assert not Path(plan.out).exists()
    with pytest.raises(FileNotFoundError):
        PatchSet(plan.out)
    resumed = export(plan)
    again = [shard_path(resumed.path, array.layout, i).stat().st_mtime_ns for i in written]
    assert again == stamps
    assert resumed.manifest == whole.manifest
    assert digests(resumed.path) == digests(whole.path)
    assert not workdir.root.exists()


@pytest.mark.usefixtures("small_shards")
def test_a_stop_requested_from_outside_stops_the_export(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    events = iter_export(plan, workers=1)
    advance(events, "plan")
    WorkDir.for_set(plan.out).request_stop()
    with pytest.raises(Stopped):
        list(events)
    assert not WorkDir.for_set(plan.out).stop_requested


@pytest.mark.usefixtures("small_shards")
def test_another_plan_does_not_resume_an_unfinished_export(czi: MakeCzi, tmp_path: Path) -> None:
    path, out = czi(*SCENES), tmp_path / "a.patches.zarr"
    events = iter_export(plan_for(path, out), workers=1)
    advance(events, "write")
    events.close()
    other = plan_for(path, out, strategy=Tiled(size=(8, 8)))
    with pytest.raises(ExportError, match=r"another plan; finish that \(`patchset status .*zarr`"):
        export(other)
    with pytest.warns(
        UserWarning, match=r"a.partial, of which \d+ shards? .* written, is replaced"
    ):
        assert export(other, overwrite=True)["all"].shape[2:] == (8, 8)


@pytest.mark.parametrize("is_scored", [False, True])
def test_another_plan_takes_the_place_of_one_that_scored_nothing(
    czi: MakeCzi, tmp_path: Path, is_scored: bool
) -> None:
    path, out = czi(*SCENES), tmp_path / "a.patches.zarr"
    events = iter_export(plan_for(path, out, filters=["std>p20"]), workers=1)
    advance(events, "score" if is_scored else "plan")
    events.close()
    other = plan_for(path, out, strategy=Tiled(size=(8, 8)))
    if not is_scored:
        assert export(other)["all"].shape[2:] == (8, 8)
        return
    with pytest.raises(DestinationExistsError, match="unfinished export of another plan"):
        export(other)
    text = r"of which \d+ of \d+ candidates were scored and 0 shards were written, is replaced"
    with pytest.warns(UserWarning, match=text):
        assert export(other, overwrite=True)["all"].shape[2:] == (8, 8)


def test_a_plan_that_cannot_be_read_is_refused_or_overwritten(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr")
    folder = tmp_path / "a.partial"
    folder.mkdir()
    (folder / LOCK).touch()
    (folder / "plan.json").write_text('{"plan": 1')
    with pytest.raises(ExportError, match="can't be read; start over with overwrite"):
        export(plan)
    assert len(export(plan, overwrite=True)["all"]) > 0


def test_a_set_that_exists_is_replaced_only_on_demand(czi: MakeCzi, tmp_path: Path) -> None:
    path, out = czi(*SCENES), tmp_path / "a.patches.zarr"
    before = digests(export(plan_for(path, out)).path)
    with pytest.raises(ExportError, match="exists"):
        export(plan_for(path, out))
    assert digests(out) == before
    smaller = plan_for(path, out, strategy=Tiled(size=(8, 8)))
    assert len(export(smaller, overwrite=True)["all"]) > 0
    assert digests(out) != before
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".czi"] == [out.name]


def test_a_source_that_changes_midway_is_refused(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(*SCENES)
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    events = iter_export(plan)
    advance(events, "write")
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ExportError, match=r"image\.czi has changed"):
        list(events)
    assert not Path(plan.out).exists()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (SceneSpec(id=1, rect=(200, 0, 32, 32), c=3), "channels"),
        (SceneSpec(id=1, rect=(200, 0, 32, 32), c=2, kind="Gray8"), "pixel type"),
    ],
)
def test_sources_that_differ_are_named(
    czi: MakeCzi, tmp_path: Path, other: SceneSpec, what: str
) -> None:
    path = czi(SceneSpec(id=0, rect=(0, 0, 32, 32), c=2), other)
    with pytest.raises(ExportError, match=rf"differ in {what}: .*scene 0 has .* scene 1 has"):
        export(plan_for(path, tmp_path / "a.patches.zarr"))


def test_many_sources_that_differ_are_counted_from_what_most_have(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    n_channels = [3, *[2] * 6, *[3] * 4]
    for i, n in enumerate(n_channels):
        image = np.full((n, 8, 8), i, np.uint16)
        tifffile.imwrite(tmp_path / f"{i:02}.tif", image, metadata={"axes": "CYX"}, ome=True)
    code, _, err = run("export", tmp_path, "--patch-size", "8", "--out", "a.patches.zarr")
    assert code == 1
    text = re.sub(r"\S*/", "", err)
    assert text == (
        "patchset: The sources differ in channels: 01.tif has 2, like 5 more, but 00.tif has 3; "
        "07.tif has 3; 08.tif has 3; and 2 more differ. Export them as separate sets, or only "
        "channels that all have, like --channels 0.\n"
    )
    more = ("--channels", "0", "--out", "a.patches.zarr")
    assert run("export", tmp_path, "--patch-size", "8", *more)[0] == 0


def test_the_pixel_size_along_z_concerns_only_patches_with_that_axis(
    run: Callable[..., tuple[int, str, str]], czi: MakeCzi, tmp_path: Path
) -> None:
    paths = [
        czi(
            SceneSpec(rect=(0, 0, 16, 16 + i), z=2),
            name=f"{i}.czi",
            xml=metadata_xml({"X": 1e-7, "Y": 1e-7, "Z": z}),
        )
        for i, z in enumerate((1e-6, 2e-6))
    ]
    flat = ExportPlan(
        sources=paths,
        depth_axis="none",
        strategy=Tiled(size=(16, 16)),
        out=tmp_path / "a.patches.zarr",
    )
    assert len(export(flat)["all"]) == 6
    assert not list(verify(flat.out))
    deep = flat.model_copy(
        update={
            "depth_axis": "Z",
            "strategy": Tiled(size=(2, 16, 16)),
            "out": str(tmp_path / "b.patches.zarr"),
        }
    )
    with pytest.raises(ExportError, match="differ in pixel size along Z"):
        export(deep)
    words = ("--depth-axis", "Z", "--patch-size", "2,16,16", "--out", tmp_path / "c.patches.zarr")
    code, _, err = run("export", *paths, *words)
    assert code == 1
    assert err.endswith(
        "Export them as separate sets; no option resamples Z, but --source-pixel-size corrects "
        "what files state.\n"
    )


def test_sources_of_another_pixel_size_are_refused(
    run: Callable[..., tuple[int, str, str]], czi: MakeCzi, tmp_path: Path
) -> None:
    sizes = {"a.czi": 1e-7, "b.czi": 1.005e-7, "c.czi": 1.02e-7, "d.czi": 2e-7}
    a, b, c, d = (
        czi(SceneSpec(rect=(0, 0, 16, 16)), name=n, xml=metadata_xml({"X": m, "Y": m}))
        for n, m in sizes.items()
    )
    strategy = Tiled(size=(16, 16))
    near = ExportPlan(sources=[a, b], strategy=strategy, out=tmp_path / "near.patches.zarr")
    assert len(export(near)["all"]) == 2
    far = ExportPlan(sources=[a, b, c, d], strategy=strategy, out=tmp_path / "far.patches.zarr")
    said = (
        r"along Y: .*a\.czi has 0\.1 um, like 1 more, but .*c\.czi has 0\.102 um; "
        r".*d\.czi has 0\.2 um \(.*\)\. "
        r"Resample all to one pixel size, 0\.2 um or more, or export them as separate sets\."
    )
    with pytest.raises(ExportError, match=f"differ in pixel size {said}"):
        export(far)
    _, _, err = run("export", c, d, "--patch-size", "16", "--out", tmp_path / "c.patches.zarr")
    assert "as separate sets; --pixel-size resamples, and --source-pixel-size corrects" in err


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"strategy": Tiled(size=(512, 512))}, ArgumentError),
        ({"depth_axis": "T", "strategy": Tiled(size=(2, 8, 8))}, MissingAxisError),
        ({"channels": (9,)}, ArgumentError),
    ],
)
def test_bad_input_leaves_nothing_behind(
    czi: MakeCzi, tmp_path: Path, fields: dict[str, Any], error: type[Exception]
) -> None:
    plan = plan_for(czi(SceneSpec(rect=(0, 0, 64, 48))), tmp_path / "a.patches.zarr", **fields)
    with pytest.raises(error):
        export(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["image.czi"]


def test_too_little_space_is_refused_before_the_first_byte(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExportError, match=r"has 1 kB free; make room"):
        export(plan_for(czi(), tmp_path / "a.patches.zarr"))
    assert not (tmp_path / "a.partial").exists()


def test_each_tile_is_decoded_once(
    czi: MakeCzi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_patchset.stacks.czi.subblocks import SubblockDecoder

    reads: list[int] = []
    decode = SubblockDecoder.decode

    def counted(self: SubblockDecoder, row: int) -> Any:
        reads.append(row)
        return decode(self, row)

    monkeypatch.setattr(SubblockDecoder, "decode", counted)
    path = czi(SceneSpec(rect=(0, 0, 96, 64), t=2, c=2), tile=(32, 32))
    export(plan_for(path, tmp_path / "a.patches.zarr"))
    assert len(reads) == len(set(reads)) == 2 * 2 * 3 * 2


def test_a_plan_is_its_own_file(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr", channels=(0, "Channel 1"))
    assert ExportPlan.model_validate_json(plan.model_dump_json()) == plan


def test_a_plan_names_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.patches\.zarr"):
        ExportPlan(sources=["a.czi"], strategy=Tiled(size=(8, 8)), out=tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="at least one source"):
        ExportPlan(sources=[], strategy=Tiled(size=(8, 8)), out=tmp_path / "a.patches.zarr")


def test_one_source_is_a_plan_of_one_source(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    one = {"strategy": Tiled(size=(8, 8)), "out": "a.patches.zarr"}
    listed = ExportPlan(sources=[path], **one)
    for source in (path, str(path), SourceRef(path=str(path)), {"path": str(path)}):
        assert ExportPlan(sources=source, **one) == listed
    pair = SourceRef(path=path, target="b.czi@2", labels=tmp_path / "c.tif")
    assert (pair.target.path, pair.target.scene) == ("b.czi", 2)
    assert pair.labels.path == str(tmp_path / "c.tif")


def test_progress_is_reported_and_may_stop_the_export(czi: MakeCzi, tmp_path: Path) -> None:
    plan, events = plan_for(czi(*SCENES), tmp_path / "a.patches.zarr"), []

    def stop(event: Progress) -> None:
        events.append(event.stage)
        if event.stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(plan, workers=1, progress=stop)
    assert list(dict.fromkeys(events)) == ["open", "plan", "write"]
    assert not Path(plan.out).exists()
    with closing(export(plan, progress=lambda event: events.append(event.stage))) as patches:
        assert patches.path == Path(plan.out)
    assert events[-1] == "done"
