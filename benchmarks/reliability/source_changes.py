"""A source that is deleted, cut or replaced midway: it is left out and named, or one error.

usage: source_changes.py [--n N] [--seed S] [--json FILE]

At a random change to the file system a source, or every one, is damaged. Where others are left,
the set is completed with them: their patches are those of the undisturbed export, none comes from
what was damaged. Where none is, there is one error that names a file; the files are put back, and
the same export goes on to the bytes of the undisturbed one.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from forked import Died, in_child
from reporting import Row, run_row
from small_export import Watch, digests, digests_if_complete, export, plan_of, write_sources

from napari_patchset import ExportPlan, PatchSet, iter_export
from napari_patchset.errors import ExportError

Patches = dict[str, dict[str, int]]
"""Checksum by place, by source."""


def main() -> int:
    """Run the row."""
    return run_row("source changes", run, 50)


def run(options: argparse.Namespace, row: Row) -> None:
    """Disturb `n` exports."""
    originals = write_sources(options.work / "sources", options.seed)
    others = write_sources(options.work / "others", options.seed + 1)
    for number in range(options.n):
        chance = Random(f"{options.seed}:{number}")
        folder = options.work / str(number)
        shutil.copytree(options.work / "sources", folder)
        sources = [folder / path.name for path in originals]
        # A limit that depends on all patches would change with the patches that are left out.
        plan = partial(plan_of, sources, filters=[])
        whole, disturbed = plan(folder / "whole.patches.zarr"), plan(folder / "a.patches.zarr")
        kind = chance.choice([delete, cut, replace])
        hit = [chance.randrange(len(sources))] if chance.random() < 0.7 else range(len(sources))
        try:
            reference, moments = in_child(partial(_measure, whole))
            harm = partial(_harm, kind, [(sources[i], others[i]) for i in hit])
            at = chance.randint(1, moments)
            names = [str(sources[i]) for i in hit]
            complete = in_child(partial(disturb, disturbed, at, harm, names, reference["patches"]))
            if not complete:
                for i in hit:
                    shutil.copy2(originals[i], sources[i])
                in_child(partial(go_on, disturbed, reference["digests"]))
            row.add("complete" if complete else "resumed")
        except Died as error:
            row.add("lost", f"{number}, {kind.__name__} {[*hit]}: {error}")
        shutil.rmtree(folder)


def delete(path: Path, other: Path) -> None:
    """Remove a source."""
    path.unlink()


def cut(path: Path, other: Path) -> None:
    """Cut a source in the middle, in place, as a copy that goes on does."""
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path, other: Path) -> None:
    """Put another image in a source's place."""
    shutil.copyfile(other, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _harm(kind: Callable[[Path, Path], None], pairs: Sequence[tuple[Path, Path]]) -> None:
    for path, other in pairs:
        kind(path, other)


def _measure(plan: ExportPlan) -> tuple[dict[str, Any], int]:
    watch, _ = _export_watched(plan)
    moments, root = watch.count, Path(plan.out)
    return {"digests": digests(root), "patches": patches_of(root)}, moments


def _export_watched(plan: ExportPlan, at: int = -1, act: Any = None) -> tuple[Watch, list[str]]:
    """Export, and act at a moment after the plan was made of the sources."""
    events = iter_export(plan, workers=2)
    next(event for event in events if event.stage == "plan")
    watch = Watch(Path(plan.out).with_suffix("").with_suffix(""), at, act)
    *_, last = events
    return watch, [str(failure) for failure in last.failures]


def patches_of(root: Path) -> Patches:
    """Return the checksums of a patch set by source and position."""
    made = PatchSet(root)
    rows = [row for row in made.table.to_pylist() if row["kept"]]
    paths = made.provenance.sources
    made.close()
    patches_by_source: Patches = {}
    for row in rows:
        place = ", ".join(str(row[name]) for name in ("sample", "y_start", "x_start"))
        source = paths[row["source_index"]]["path"]
        patches_by_source.setdefault(Path(source).name, {})[place] = row["checksum"]
    return patches_by_source


def disturb(
    plan: ExportPlan, at: int, harm: Callable[[], None], names: Sequence[str], whole: Patches
) -> bool:
    """Export while sources are damaged; return whether a patch set was made."""
    out = Path(plan.out)
    try:
        _, failures = _export_watched(plan, at, harm)
    except ExportError as error:
        message = str(error)
    else:
        _require_the_others(plan, failures, names, whole)
        return True
    assert any(name in message for name in names), f"no source is named: {message}"
    assert digests_if_complete(out) is None, "an error, and yet a set"
    return False


def _require_the_others(
    plan: ExportPlan, failures: Sequence[str], names: Sequence[str], whole: Patches
) -> None:
    """Require what was undisturbed whole, and a word on each source that is left out."""
    out = Path(plan.out)
    patches_by_source = patches_of(out)
    damaged = {Path(name).name for name in names}
    for name, patches in patches_by_source.items():
        assert patches == whole[name], f"other patches of {name}"
    for name in damaged - patches_by_source.keys():
        assert any(name in failure for failure in failures), f"{name} is left out without a word"
    assert whole.keys() - damaged <= patches_by_source.keys(), "a sound source was left out"
    digests(out)


def go_on(plan: ExportPlan, expected: dict[str, str]) -> None:
    """End the export with the sources as they were."""
    export(plan)
    assert digests(Path(plan.out)) == expected, "the resumed set is another one"


if __name__ == "__main__":
    sys.exit(main())
