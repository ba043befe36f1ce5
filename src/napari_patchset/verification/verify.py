"""verify: find every difference between a patch set and what it should be."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_patchset.errors import UnreadableFileError
from napari_patchset.jobs.executors import DEFAULT_MEMORY, DEFAULT_WORKERS
from napari_patchset.patching.duplicates import hashes_of
from napari_patchset.verification.check_set import (
    PixelCheck,
    check_files,
    check_manifest,
    check_table,
)
from napari_patchset.verification.check_sources import SourceCheck
from napari_patchset.verification.check_split import check_repeats, check_split, find_alike
from napari_patchset.verification.opened_set import Finding, OpenedSet, RecordedCandidates


def verify(
    path: str | Path,
    *,
    sources: bool = True,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[int, int], None] = lambda done, total: None,
    notice: Callable[[str], object] | None = None,
) -> Iterator[Finding]:
    """Find every difference between a patch set and what it should be; none if it is sound.

    Every file, digest, count and statistic is compared with the patches, the verdicts in the table
    with the recipe; the split is proved again, and each patch is cut again from its source. A
    check that depends on one that failed is left out.

    Parameters
    ----------
    path : str or Path
        The set.
    sources : bool
        Whether to read the sources again, from the paths that the set was made from.
    workers : int
        Number of threads that decode sources.
    memory : int
        Bytes for decoded tiles.
    progress : callable
        Called with the number of patches read, and of all to read.
    notice : callable or None
        Called with a sentence on patches of different splits or folds that look alike, which is no
        difference. None to look for none.

    Yields
    ------
    Finding
        Each difference, as soon as it is found.

    Raises
    ------
    FileNotFoundError, IncompleteSetError
        If there is no such set, or it was not completed.
    """
    patch_set = OpenedSet(Path(os.path.abspath(path)))
    yield from check_manifest(patch_set)
    yield from check_files(patch_set)
    candidates = None
    if patch_set.can_be_replanned and patch_set.table_path.is_file():
        try:
            candidates = RecordedCandidates.read(patch_set)
        except UnreadableFileError as error:
            yield patch_set.edited_table(f"it can't be read: {error}")
        else:
            yield from check_table(patch_set, candidates)
            yield from check_split(patch_set, candidates)
    done, total = 0, (1 + sources) * sum(array.n for array in patch_set.arrays)

    def count_read(n: int) -> None:
        nonlocal done
        done += n
        progress(done, total)

    count_read(0)
    has_hashes = candidates is not None and hashes_of(candidates.metrics) is not None
    pixels = PixelCheck(patch_set, candidates, count_read, has_hashes or notice is not None)
    yield from pixels.run()
    yield from check_repeats(patch_set, candidates, pixels)
    if notice is not None:
        for text in find_alike(patch_set, candidates, pixels):
            notice(text)
    if sources and candidates:
        yield from SourceCheck(patch_set, candidates, pixels, count_read, memory, workers).run()
