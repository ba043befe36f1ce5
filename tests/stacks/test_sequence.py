"""Files that follow each other along T, Z or C as one image."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_patchset import export, verify
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.command_line import command_line, make_plan
from napari_patchset.stacks.fingerprint import content_key
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.sequence import numbers_notice, varying_numbers
from support.tiff_maker import as_stack, assert_whole, planes, write

DATA = planes(4, 2)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Write a file of two channels for each time point; their names sort in natural order."""
    (tmp_path / "images").mkdir()
    metadata = {"axes": "CYX"}
    paths = [tmp_path / "images" / f"t{8 + i}.tif" for i in range(4)]
    return [str(write(p, d, metadata=metadata)) for p, d in zip(paths, DATA, strict=True)]


@pytest.mark.parametrize("axis", ["T", "Z"])
@pytest.mark.parametrize("is_depth", [False, True])
def test_files_along_t_or_z(axis: str, is_depth: bool, files: list[str]) -> None:
    depth = axis if is_depth else "none"
    with open_stack(files[0], None, depth, sequence=axis, files=files) as stack:  # type: ignore[arg-type]
        assert stack.original_axes == f"{axis}CYX"
        assert_whole(stack, as_stack(DATA, f"{axis}CYX", depth))
        again = pickle.loads(pickle.dumps(stack))
        key = content_key(stack)
    with again:
        assert_whole(again, as_stack(DATA, f"{axis}CYX", depth))
    with open_stack(files[0], sequence="T", files=files[::-1]) as other:
        assert content_key(other) != key


def test_files_along_c_have_their_names_as_channels(tmp_path: Path) -> None:
    data = planes(2, 3)
    names = ("DAPI", "GFP")
    files = [
        str(write(tmp_path / f"{name}.ome.tif", part, metadata={"axes": "ZYX"}))
        for name, part in zip(names, data, strict=True)
    ]
    with open_stack(files[0], None, "Z", sequence="C", files=files) as stack:
        assert tuple(channel.name for channel in stack.metadata.channels) == names
        assert_whole(stack, as_stack(data, "CZYX", "Z"))


def test_files_that_do_not_follow_each_other_are_refused(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"has an axis C already \(C2 Y45 X70\)"):
        open_stack(files[0], sequence="C", files=files)
    other = write(tmp_path / "b.tif", planes(2).astype(np.uint8), metadata={"axes": "CYX"})
    with pytest.raises(ArgumentError, match=r"b\.tif is C2 Y45 X70 of uint8, but .* of uint16"):
        open_stack(files[0], sequence="T", files=[files[0], str(other)])


@pytest.mark.parametrize("named", ["files", "folder"])
def test_a_sequence_is_exported_like_one_file(named: str, files: list[str], tmp_path: Path) -> None:
    sources = files[::-1] if named == "files" else [str(tmp_path / "images")]
    options = {"patch_size": "2,16,16", "depth_axis": "T", "sequence": "T"}
    plan = make_plan(sources, str(tmp_path / "set.patches.zarr"), **options)
    command = command_line(plan)
    assert command is not None
    assert " ".join(files) in command
    assert "--sequence T" in command
    patches = export(plan)
    whole = write(tmp_path / "whole.tif", DATA, metadata={"axes": "TCYX"})
    one = make_plan(
        [str(whole)], str(tmp_path / "one.patches.zarr"), patch_size="2,16,16", depth_axis="T"
    )
    np.testing.assert_array_equal(patches["all"][:], export(one)["all"][:])
    assert list(verify(plan.out)) == []


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ([f"img_t{t}_c{c}.tif" for t in range(12) for c in range(2)], {"t": 12, "c": 2}),
        (
            [f"{w}_{t:03}.tif" for w in range(3) for t in range(4)],
            {"the first number": 3, "the second number": 4},
        ),
        (
            [f"s{w}_s{t}.tif" for w in range(2) for t in range(3)],
            {"the first number": 2, "the second number": 3},
        ),
        ([f"img_{i:03}_time{10 * i}.tif" for i in range(9)], {}),  # they count the same
        ([f"img_{i}.tif" for i in range(9)], {}),
        ([f"{name}_{i}.tif" for name in "ab" for i in range(9)], {}),
        (["one.tif"], {}),
    ],
)
def test_numbers_in_names_that_count_two_things(names: list[str], values: dict[str, int]) -> None:
    assert varying_numbers(names) == values
    notice = numbers_notice([f"/folder 1/{name}" for name in names], "T")
    assert all(f"{name} ({n})" in notice for name, n in values.items())
    assert bool(notice) == bool(values)
    if "the first number" in values:
        assert "join only the files that share the first number." in notice


def test_a_sequence_of_names_that_count_two_things_is_a_warning(tmp_path: Path) -> None:
    for t in range(3):
        for c in range(2):
            write(tmp_path / f"img_t{t}_c{c}.tif", np.zeros((16, 16), np.uint8))
    out = str(tmp_path / "a.patches.zarr")
    with pytest.warns(UserWarning, match=r"count t \(3\) and c \(2\), but all 6 files"):
        plan = make_plan([str(tmp_path)], out, sequence="T", patch_size="8,8")
    assert len(plan.sources[0].files or ()) == 6
    one_channel = [str(tmp_path / f"img_t{t}_c0.tif") for t in range(3)]
    assert make_plan(one_channel, out, sequence="T", patch_size="8,8").sources[0].sequence == "T"
