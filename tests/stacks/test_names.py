"""Names, folders and clocks as people have them."""

import errno
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_patchset import (
    CziImageStack,
    ExportPlan,
    PatchSet,
    Tiled,
    export,
    iter_export,
    list_scenes,
    open_stack,
    verify,
)
from napari_patchset.errors import ExportError, UnreadableFileError
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.source import local_path
from napari_patchset.stacks.metadata import describe
from support.czi_maker import MakeCzi, SceneSpec
from support.export_makers import digests, plan_for
from support.pixels import encode, expected

SCENE = SceneSpec(rect=(0, 0, 48, 32), c=2)
GREY = expected(0, 0, 32, 48)

NAMES = {
    "spaces": " two  words ",
    "letters": "Zellkerne µm 細胞 é́",
    "at": "a@3",
    "only at": "@",
    "line": "first\nsecond",
    "quotes": 'it\'s "so"; $HOME `x`',
    "pattern": "[0-9]*?{a,b}",
    "address": "50%20#x?y=z&c:d",
    "long": "n" * 200,
}


def czi_of(czi: MakeCzi, folder: Path, name: str) -> Path:
    path = folder / f"{name}.czi"
    return czi(SCENE).rename(path)


def tiff_of(czi: MakeCzi | None, folder: Path, name: str) -> Path:
    tifffile.imwrite(folder / f"{name}.tif", GREY, tile=(16, 16), compression="zlib")
    return folder / f"{name}.tif"


def zarr_of(czi: MakeCzi | None, folder: Path, name: str) -> Path:
    zarr.create_array(folder / f"{name}.zarr", data=GREY, chunks=(16, 16))
    return folder / f"{name}.zarr"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("make", [czi_of, tiff_of, zarr_of])
def test_any_name_of_a_source_and_of_a_set(
    czi: MakeCzi, tmp_path: Path, make: Any, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = make(czi, folder, name)
    (scene,) = list_scenes(path)
    with open_stack(path, scene.id) as stack:
        np.testing.assert_array_equal(stack.extract_patch(0, [0], (0, 0), (32, 48))[0], GREY)
    out = folder / f"{name}.patches.zarr"
    made = export(ExportPlan(sources=[path], strategy=Tiled(size=(16, 16)), out=out))
    assert made.path == out
    assert len(made["all"]) == 6
    assert sorted(p.name for p in folder.iterdir()) == sorted([path.name, out.name])
    made.close()


def test_a_name_of_250_bytes(czi: MakeCzi, tmp_path: Path) -> None:
    path = czi_of(czi, tmp_path, "é" * 123)
    out = tmp_path / ("µ" * 118 + "u.patches.zarr")
    assert {len(os.fsencode(each.name)) for each in (path, out)} == {250}
    assert len(export(plan_for(path, out))["all"]) > 0


@pytest.mark.parametrize("name", ["spaces", "letters", "at", "line", "pattern"])
def test_any_name_on_the_command_line(run: Any, czi: MakeCzi, tmp_path: Path, name: str) -> None:
    path = czi_of(czi, tmp_path, NAMES[name])
    out = f"{NAMES[name]}.patches.zarr"
    code, said, err = run("export", path.name, "--patch-size", "16,16", "--out", out)
    assert code == 0, said + err
    assert len(PatchSet(tmp_path / out)["all"]) == 6
    assert run("info", path.name)[0] == run("verify", out)[0] == 0


def test_a_name_too_long_for_the_system_is_one_error(czi: MakeCzi, tmp_path: Path) -> None:
    plan = plan_for(czi(SCENE), tmp_path / ("x" * 260 + ".patches.zarr"))
    with pytest.raises(OSError, match="too long"):
        export(plan)


def writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def test_a_folder_that_may_not_be_written_to_is_one_error(czi: MakeCzi, tmp_path: Path) -> None:
    path, folder = czi(SCENE), tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if writable(folder):
        pytest.skip("this user may write anywhere")
    with pytest.raises(PermissionError, match="locked"):
        export(plan_for(path, folder / "a.patches.zarr"))


@pytest.mark.parametrize("moment", ["plan", "write"])
def test_a_disk_that_fails_is_one_error_and_the_export_goes_on(
    czi: MakeCzi,
    tmp_path: Path,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    path = czi(SceneSpec(rect=(0, 0, 96, 96), c=2))
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    events = iter_export(plan, workers=1)
    assert any(event.stage == moment for event in events)
    with monkeypatch.context() as patched:

        def refuse(fd: int, data: Any) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patched.setattr(os, "write", refuse)
        with pytest.raises(OSError, match=r"Input/output error.*a\.partial"):
            list(events)
    assert not Path(plan.out).exists()
    assert digests(export(plan).path) == digests(whole.path)


@pytest.mark.parametrize("moment", ["plan", "write"])
def test_a_destination_that_vanishes_is_one_error_and_can_be_written_anew(
    czi: MakeCzi, tmp_path: Path, small_shards: None, moment: str
) -> None:
    path, folder = czi(SceneSpec(rect=(0, 0, 96, 96), c=2)), tmp_path / "disk"
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    plan = plan_for(path, folder / "a.patches.zarr")
    events = iter_export(plan, workers=1)
    assert any(event.stage == moment for event in events)
    folder.rename(tmp_path / "away")
    with pytest.raises((OSError, ExportError)) as caught:
        list(events)
    assert "disk" in str(caught.value)
    shutil.rmtree(folder, ignore_errors=True)
    assert digests(export(plan).path) == digests(whole.path)


def test_a_file_where_the_folder_should_be_is_one_error(czi: MakeCzi, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"file is a file, so that no folder can be made in it"):
        export(plan_for(czi(SCENE), tmp_path / "file" / "a.patches.zarr"))
    (tmp_path / "a.partial").write_text("")
    with pytest.raises((OSError, ExportError), match=r"a\.partial"):
        export(plan_for(czi(SCENE), tmp_path / "a.patches.zarr"))


@pytest.mark.parametrize("stamp", [0, -(10**9), 2**33, 1.5])
def test_a_file_of_any_time(czi: MakeCzi, tmp_path: Path, stamp: float) -> None:
    path = czi(SCENE)
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    os.utime(path, (stamp, stamp))
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    events = iter_export(plan)
    next(event for event in events if event.stage == "plan")
    events.close()
    assert digests(export(plan).path) == digests(whole.path)


def test_a_clock_that_jumps(
    czi: MakeCzi, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = czi(SCENE)
    whole = export(plan_for(path, tmp_path / "whole.patches.zarr"))
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))
    plan = plan_for(path, tmp_path / "a.patches.zarr")
    for event in (events := iter_export(plan)):
        if event.stage == "write":
            break
    events.close()
    assert WorkDir.for_set(plan.out).root.exists()
    for file in WorkDir.for_set(plan.out).root.rglob("*"):
        os.utime(file, (2**33, 2**33))
    made = export(plan)
    assert digests(made.path) == digests(whole.path)
    assert made.manifest == whole.manifest


def test_a_set_is_written_to_a_disk(file: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = run("export", file, "--out", "s3://me:secret@bucket/a.patches.zarr")
    assert code != 0
    assert "written to a disk, not to s3://bucket/a.patches.zarr" in error
    assert "secret" not in error
    assert not Path("s3:").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_refused_at_once(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sound = tiff_of(None, folder, "sound")
    for name in ("pipe.tif", "pipe.czi", "pipe.geojson"):
        os.mkfifo(folder / name)
    for words in (("info",), ("export", "--patch-size", "16", "--out", "a.patches.zarr")):
        code, _, error = run(*words, folder / "pipe.tif")
        assert code == 1
        assert "pipe.tif: it is a pipe" in error
        assert error.count("\n") == 1
    code, _, error = run(
        *("export", sound, "--annotations", folder / "pipe.geojson", "--patch-size", "16"),
        *("--out", "a.patches.zarr"),
    )
    assert code == 1
    assert "pipe.geojson: it is a pipe" in error
    with pytest.raises(UnreadableFileError, match=r"pipe\.czi: it is a pipe"):
        CziImageStack(folder / "pipe.czi")
    group = zarr_of(None, folder, "with pipe")
    (group / "zarr.json").unlink()
    (group / ".zgroup").touch()  # a folder is a store by this file
    os.mkfifo(group / "zarr.json")
    with pytest.raises(UnreadableFileError, match=r"zarr\.json: it is a pipe"):
        list_scenes(group)
    shutil.rmtree(group)
    assert run("export", folder, "--patch-size", "16", "--out", "b.patches.zarr")[::2] == (0, "")


def test_a_link_to_nothing_is_skipped_in_a_folder_too(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sound = tiff_of(None, folder, "sound")
    broken, circle = folder / "broken.tif", folder / "circle.tif"
    try:
        broken.symlink_to("nowhere.tif")
        circle.symlink_to("circle.tif")
        (folder / "notes.txt").symlink_to("nowhere.txt")
    except OSError:
        pytest.skip("this user may make no links")
    for out, files in (("a", [folder]), ("b", [broken, circle, sound])):
        code, _, error = run("export", *files, "--patch-size", "16", "--out", f"{out}.patches.zarr")
        assert code == 1  # something was skipped
        remedy, *lines = sorted(error.splitlines())
        assert remedy.startswith("patchset: 2 sources skipped; once they can be read")
        assert [line.partition(".tif")[0] for line in lines] == [
            f"skipped: {broken.with_suffix('')}",
            f"skipped: {circle.with_suffix('')}",
        ]
        assert len(PatchSet(f"{out}.patches.zarr")["all"]) == 6
        assert "No such file" in lines[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", [b"z \xe4.zarr", b"\xff/z%41.zarr"])
def test_a_zarr_whose_name_is_not_utf8(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], name: bytes
) -> None:
    folder = tmp_path / "folder"
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True)
    zarr.create_array(zarr_of(None, tmp_path, "plain").rename(path) / "more", data=GREY)
    with open_stack(path) as stack:
        assert describe(stack).name == str(path)
    assert run("info", path)[0] == 0
    for source in (path, path.parent, path / "more"):
        code, _, error = run(
            *("export", source, "--patch-size", "16", "--out", "a.patches.zarr", "--overwrite")
        )
        assert (code, error) == (0, "")
        assert list(verify("a.patches.zarr")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = folder / os.fsdecode(b"\xff.tif")
    y, x = np.ogrid[:32, :32]
    tifffile.imwrite(path, encode(y, x), photometric="minisblack")
    assert run("info", path)[0] == 0
    for words in (("export", path), ("export", folder, "--executor", "processes")):
        code, out, error = run(
            *words, "--patch-size", "16", "--out", "a.patches.zarr", "--overwrite", "--json"
        )
        assert (code, error) == (0, ""), out
        assert list(verify("a.patches.zarr")) == []
    (source,) = PatchSet("a.patches.zarr").provenance.sources
    assert source["path"].endswith("/caf%E9/%FF.tif")
    path.write_bytes(b"damaged")
    code, _, error = run("export", path, "--patch-size", "16", "--out", "b.patches.zarr")
    assert code == 1
    assert "%FF.tif" in error or "\\xff.tif" in error
    code, _, error = run("info", folder / os.fsdecode(b"no \xe4.tif"))
    assert code == 1
    assert "/caf\\xe9/no \\xe4.tif: No such file" in error


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_no_name_that_is_not_utf8_breaks_a_message_or_what_is_printed_as_json(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9")
    folder.mkdir()
    y, x = np.ogrid[:64, :64]
    names = (b"a\xff.tif", b"b\xff.tif", b"\xff.log", b"a\xff.geojson", b"p\xff.npy")
    image, damaged, log, outlines, predictions = (folder / os.fsdecode(name) for name in names)
    tifffile.imwrite(image, encode(y, x), photometric="minisblack")
    damaged.write_bytes(b"damaged")
    ring = [[0, 0], [40, 0], [40, 40], [0, 40], [0, 0]]
    outlines.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    out, words = "a.patches.zarr", ("--patch-size", "16", "--overwrite", "--log-file", log)
    np.save(predictions, np.zeros((16, 1, 16, 16), np.float32))
    commands: dict[int, list[tuple[object, ...]]] = {
        0: [
            ("info", folder),
            ("plan", image, damaged, *words, "--out", out),
            ("status", out, "--of", 2),
            ("export", image, *words, "--out", out, "--annotations", outlines),
            ("verify", out),
            ("geojson", out, "--out", folder / "places", "--overwrite"),
            ("stitch", out, "--predictions", out, "--out", folder / "s.ome.zarr", "--overwrite"),
            ("status", folder / "s.ome.zarr"),
            ("stitch", out, "--predictions", predictions, "--out", "s.ome.zarr", "--overwrite"),
        ],
        1: [
            ("info", damaged),
            ("export", image, damaged, *words, "--out", out),
            ("export", image, *words, "--out", folder / out),
            ("export", image, *words, "--out", out, "--target", damaged),
            ("geojson", out, "--out", folder / "places"),
            ("status", folder / out),
            ("verify", folder / out),
        ],
    }
    for expected_code, lines in commands.items():
        for line in lines:
            for options in ((), ("--json",)):
                code, printed, error = run(*line, *options)
                assert code == expected_code, (line, printed, error)
                assert not re.search("[\udc80-\udcff]", printed + error)
                if options and line[0] != "info":
                    events = [json.loads(event) for event in printed.splitlines()]
                    assert json.dumps(events, ensure_ascii=False).encode()
    logged = log.read_text("utf-8")
    assert "Traceback" not in logged
    assert r"d\xe9/b\xff.tif: not a TIFF file" in logged
    summary = json.loads(
        run("geojson", out, "--out", folder / "more", "--json")[1].splitlines()[-1]
    )
    assert local_path(summary["path"]) == str(folder / "more")
