"""What is replaced on request is there whole until the new one is, however often it is killed."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_patchset import ExportPlan, Tiled, export, stitch
from napari_patchset.exporting.writing.workdir import WorkDir
from napari_patchset.jobs.folder import REPLACED
from napari_patchset.jobs.status import find_unfinished
from napari_patchset.stitching.stitch_folder import StitchFolder
from support.kills import killed

KINDS = (StitchFolder, WorkDir)

Replace = Callable[[Path, int], None]
"""Makes the result of a number at a path, in place of any other."""


def export_to(out: Path, number: int) -> None:
    source = out.with_name("a.tif")
    if not source.exists():
        tifffile.imwrite(source, np.arange(256, dtype=np.uint16).reshape(16, 16))
    strategy = Tiled(size=(16 // number, 16 // number))
    plan = ExportPlan(sources=[source], out=out, strategy=strategy)
    export(plan, workers=1, overwrite=True).close()


def stitch_to(out: Path, number: int) -> None:
    patches = out.with_name("p.patches.zarr")
    if not patches.exists():
        export_to(patches, 2)
    stitch(patches, patches, out, workers=1, overwrite=True, fill=number)


def digest(root: Path) -> str:
    """Return one digest of the names and bytes of all files but those that tell the time."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    names = [(str(path.relative_to(root)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr([n for n in names if n[0] != "zarr.json"]).encode()).hexdigest()


def unfinished(folder: Path) -> list[Path]:
    return [each.root for each in find_unfinished(folder, KINDS)]


def clean(folder: Path) -> None:
    for each in find_unfinished(folder, KINDS):
        each.delete()


@pytest.mark.parametrize(
    ("replace", "name"),
    [(export_to, "a.patches.zarr"), (stitch_to, "a.ome.zarr")],
    ids=["export", "stitch"],
)
@pytest.mark.parametrize("then", ["the same", "clean", "another, killed too"])
@pytest.mark.filterwarnings("ignore:the unfinished export in")
def test_the_old_or_the_new_one_is_whole_after_every_kill(
    replace: Replace, name: str, then: str, tmp_path: Path
) -> None:
    made = {number: tmp_path / str(number) / name for number in (1, 2, 4)}
    for number, out in made.items():
        out.parent.mkdir()
        replace(out, number)
    numbers = {digest(out): number for number, out in made.items()}
    assert len(numbers) == 3

    def whole(folder: Path) -> set[int]:
        """Return which results are whole, under their name or where they are set aside."""
        places = [folder / name, *folder.glob(f"*.partial/{REPLACED}")]
        return {numbers[d] for place in places if (d := digest(place)) in numbers}

    def killed_after(after: int) -> tuple[Path, list[str]]:
        folder = tmp_path / f"killed after {after}"
        shutil.copytree(made[1].parent, folder)
        with killed(folder, after) as changes:
            replace(folder / name, 2)
        return folder, changes

    _, changes = killed_after(10**6)
    aside, last = changes.index(f"os.rename /{name}"), len(changes) - 1
    middles = (aside // 2, (aside + last) // 2)
    for after in {0, *range(aside, aside + 4), *middles, last - 1, last}:
        folder, changes = killed_after(after)
        assert whole(folder) & {1, 2}, changes
        if then == "the same":
            replace(folder / name, 2)
            assert whole(folder) == {2}
            continue
        expected = {1} if after <= aside + 1 else {2}
        if then != "clean":
            with killed(folder, aside):
                replace(folder / name, 4)
            assert whole(folder) == expected, changes
        clean(folder)
        assert not unfinished(folder)
        assert whole(folder) == expected, changes
