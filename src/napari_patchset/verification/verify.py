"""verify: hold a patch set against itself and against its sources."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_patchset.errors import UnreadableFileError
from napari_patchset.export.cutting.holding import DEFAULT_MEMORY
from napari_patchset.export.engine import DEFAULT_WORKERS
from napari_patchset.verification.describing import check_files, check_manifest
from napari_patchset.verification.finding import Finding
from napari_patchset.verification.pixels import PixelCheck
from napari_patchset.verification.sourcing import SourceCheck
from napari_patchset.verification.subject import Subject
from napari_patchset.verification.tabling import (
    check_split,
    check_table,
    edited,
    read_candidates,
)


def verify(
    path: str | Path,
    *,
    sources: bool = True,
    workers: int = DEFAULT_WORKERS,
    memory: int = DEFAULT_MEMORY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Finding]:
    """Find every difference between a patch set and what it should be; none if it is sound.

    Every file, digest, count and statistic is held against the patches, the verdicts in the table
    against the recipe, the split is proved again, and each patch is cut again from its source. What
    can't be looked at, because something before it is wrong, is left out.

    Parameters
    ----------
    path : str or Path
        The set.
    sources : bool
        Whether to read the sources again, from where they were when the set was made.
    workers : int
        Number of threads that decode sources.
    memory : int
        Bytes for decoded tiles.
    progress : callable
        Told how many patches have been read, of how many.

    Yields
    ------
    Finding
        As soon as it is found.

    Raises
    ------
    FileNotFoundError, IncompleteSetError
        If there is no such set, or one that was not completed.
    """
    subject = Subject(Path(os.path.abspath(path)))
    yield from check_manifest(subject)
    yield from check_files(subject)
    candidates = None
    if subject.is_understood and subject.table_path.is_file():
        try:
            candidates = read_candidates(subject)
        except UnreadableFileError as error:
            yield edited(subject, f"it can't be read: {error}")
        else:
            yield from check_table(subject, candidates)
            yield from check_split(subject, candidates)
    tick = _counting(progress, (1 + sources) * sum(array.n for array in subject.arrays))
    pixels = PixelCheck(subject, candidates, tick)
    yield from pixels.run()
    if sources and candidates:
        yield from SourceCheck(subject, candidates, pixels, tick, memory, workers).run()


def _counting(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(done, total)

    progress(0, total)
    return tick
