"""The images of a plan while patches are read: each is opened at its first use.

Only a few stay open at a time. A file that was replaced since the plan was made is refused
(`PlannedFiles`).
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from napari_patchset.annotations.features import ClassLabel
from napari_patchset.annotations.geojson import is_geojson
from napari_patchset.errors import (
    SOURCE_ERRORS,
    ArgumentError,
    MissingAxisError,
    MissingFileError,
    UnreachableError,
    UnreadableFileError,
)
from napari_patchset.exporting.plans.image_refs import ANNOTATIONS, MASK, ImageRef, SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.reading.class_images import is_of_classes, open_classes
from napari_patchset.exporting.reading.failures import Failure, SourcesFailed
from napari_patchset.patchset.layout import IMAGE, LABELS
from napari_patchset.patchset.manifest import digest_file
from napari_patchset.source import SourceInfo, is_remote, local_path, path_text
from napari_patchset.stacks.cache import FileStat
from napari_patchset.stacks.fingerprint import (
    content_key,
    detailed_key,
    is_detailed,
    part_digests,
)
from napari_patchset.stacks.metadata import channel_names, describe, image_metadata
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.protocol import ClosableStack
from napari_patchset.stacks.resampled import ResampledStack
from napari_patchset.stacks.retrying import call_with_retries

_MAX_OPEN = 8


def find_stat(path: str) -> FileStat | None:
    """Return size and time of a file, None for a folder or a URL."""
    file = local_path(path)
    return FileStat.from_file(file) if Path(file).is_file() else None


class PlannedFiles:
    """The files of a plan's images, with their sizes, times and keys when the plan was made.

    A file of the same size and time has not changed. Of another time alone, as a copy has, its key
    decides.

    Parameters
    ----------
    images : dict of str to sequence of SourceInfo
        By role, the description of every source's image.
    stats : dict of str to FileStat
        Size and time of each file, by path.
    began, remedy : str
        When the plan was made, and what the user can do, for messages.
    after_restoring : str
        What the user can do once a missing file is there again; "" for the same.
    """

    def __init__(
        self,
        plan: ExportPlan,
        images: Mapping[str, Sequence[SourceInfo]],
        stats: Mapping[str, FileStat],
        began: str = "the export began",
        remedy: str = "export again with overwrite",
        after_restoring: str = "",
    ) -> None:
        self._plan, self._images, self._stats = plan, images, dict(stats)
        self._began, self._remedy = began, remedy
        self._after_restoring = after_restoring or remedy

    def check(self, index: int, role: str, files: Collection[str] = ()) -> bool:
        """Return whether a file of an image has another time, but the same content.

        `files` are those that it is in besides the one it is named by. Raise UnreadableFileError if
        one is gone, or has other content.
        """
        ref = self._plan.sources[index].images[role]
        touched = dict[str, FileStat]()
        for path in sorted({ref.path, *files}):
            stat, planned = find_stat(path), self._stats.get(path)
            if stat == planned:
                continue
            if stat is None:
                raise MissingFileError.since(path, self._began, self._after_restoring)
            if planned is None or stat.size != planned.size:
                raise self.changed(path)
            touched[path] = stat
        if touched:
            if not self._has_planned_content(ref, self._images[role][index].key, touched):
                raise self.changed(next(iter(touched)))
            self._stats |= touched
        return bool(touched)

    def changed(self, path: str) -> UnreadableFileError:
        """Return the error for a file that is not the one that was planned for."""
        return UnreadableFileError(f"{path} has changed since {self._began}; {self._remedy}.")

    def _has_planned_content(self, ref: ImageRef, key: str, touched: Collection[str]) -> bool:
        if is_geojson(ref.path):
            return digest_file(Path(local_path(ref.path))) == key
        try:
            with call_with_retries(str(ref), partial(ref.open, self._plan.depth_axis)) as stack:
                keyed = set(files_of(stack)) or {ref.path}
                found = content_key(stack)
            if is_detailed(key):
                with call_with_retries(str(ref), ref.open) as stack:
                    found = detailed_key(found, part_digests(stack))
            return keyed.issuperset(touched) and found == key
        except UnreachableError:
            raise
        except (UnreadableFileError, ArgumentError, MissingAxisError):
            return False


def open_source(
    plan: ExportPlan,
    source: SourceRef,
    role: str = IMAGE,
    opener: Callable[..., ClosableStack] = open_stack,
    classes: Sequence[ClassLabel] = (),
    check_cancelled: Callable[[], None] = lambda: None,
) -> ClosableStack:
    """Open a source, or an image that is paired with it, at the plan's pixel size.

    The pixels of a paired image have the size of its source's. Transient errors are retried.

    Parameters
    ----------
    classes : sequence of ClassLabel
        The classes of all sources, if annotations are opened; empty for those of this one.
    """
    ref = source.images[role]
    opened = partial(_open_once, plan, source, role, opener)
    if not is_of_classes(role, ref):
        return call_with_retries(str(ref), opened)
    with open_source(plan, source, IMAGE, opener) as stack:
        image = describe(stack, "not needed")
    return open_classes(role, ref, image, classes, opened, check_cancelled)


def _open_once(
    plan: ExportPlan, source: SourceRef, role: str, opener: Callable[..., ClosableStack]
) -> ClosableStack:
    ref = source.images[role]
    stack = ref.open(plan.depth_axis, opener)
    if plan.pixel_size is None:
        return stack
    with ExitStack() as on_error:
        on_error.callback(stack.close)
        own = None
        if role != IMAGE:
            with source.open(plan.depth_axis, opener) as image:
                own = image_metadata(image).pixel_size
        nearest = role in (LABELS, MASK, ANNOTATIONS)
        resampled = ResampledStack(stack, plan.pixel_size, nearest=nearest, source_pixel_size=own)
        on_error.pop_all()
    return resampled


class OpenImage(NamedTuple):
    """A stack, the indices of its channels that are exported, and of those only for filters."""

    stack: ClosableStack
    channels: list[int]
    filter_channels: list[int]


class OpenImages:
    """Open images on demand; use it in a `with` statement.

    `images[index, role]` is an image of the source `index`; the role is "image", "target",
    "labels", "mask" or "annotations", whose channels are classes.

    Parameters
    ----------
    opener : callable
        Opens one of them, as `open_stack` does.
    planned : PlannedFiles or None
        The files when the plan was made. Another one in its place is refused, even if the original
        is back before the export ends.
    threads : int
        Number of threads that decode.
    check_cancelled : callable
        Called before each tile is decoded; an exception that it raises ends the reading.
    classes : sequence of ClassLabel
        The classes of all sources' annotations; empty for those of each.
    """

    def __init__(
        self,
        plan: ExportPlan,
        opener: Callable[..., ClosableStack] = open_stack,
        planned: PlannedFiles | None = None,
        threads: int = 1,
        check_cancelled: Callable[[], None] = lambda: None,
        classes: Sequence[ClassLabel] = (),
    ) -> None:
        self._classes = classes
        self.threads, self.check_cancelled = threads, check_cancelled
        self._plan, self._opener, self._planned = plan, opener, planned
        self._open: OrderedDict[tuple[int, str], OpenImage] = OrderedDict()
        self._pinned: set[tuple[int, str]] = set()

    @contextmanager
    def source_errors(self, index: int) -> Iterator[None]:
        """Convert errors of opening or reading a source to SourcesFailed.

        If one of its files has changed, that is the failure, whatever error the change led to: a
        truncated tile, a missing scene, a file that can't be opened any more.
        """
        source = self._plan.sources[index]
        try:
            yield
        except (*SOURCE_ERRORS, ArgumentError, MissingAxisError) as error:
            failure = Failure.from_error(source, error)
            if not failure.is_transient:
                try:
                    is_touched = self._check_files(index)
                except SOURCE_ERRORS as change:
                    failure = Failure.from_error(source, change)
                    raise SourcesFailed({index: failure}) from error
                if is_touched:  # by its stack it is another file, until it is opened again
                    failure = failure.model_copy(update={"is_transient": True})
            if not isinstance(error, SOURCE_ERRORS):
                raise
            raise SourcesFailed({index: failure}) from error

    def _check_files(self, index: int) -> bool:
        """Return whether a file of a source, as far as it was opened, has only another time.

        Such images are closed. Raise UnreadableFileError if one has changed.
        """
        is_touched = False
        if self._planned is None:
            return is_touched
        for role in self._plan.sources[index].images:
            image = self._open.get((index, role))
            if self._planned.check(index, role, files_of(image.stack) if image else ()):
                is_touched = True
                if image:
                    _close(self._open.pop((index, role)).stack)
        return is_touched

    def __getitem__(self, which: tuple[int, str]) -> OpenImage:
        if which not in self._open:
            with self.source_errors(which[0]):
                self._open[which] = self._open_image(*which)
        self._open.move_to_end(which)
        for oldest in list(self._open)[:-_MAX_OPEN]:
            if oldest not in self._pinned:
                _close(self._open.pop(oldest).stack)
        return self._open[which]

    def is_remote(self, index: int, role: str) -> bool:
        """Return whether an image of a source is read through a network's requests."""
        return is_remote(self._plan.sources[index].images[role].path)

    def pin(self, which: tuple[int, str]) -> OpenImage:
        """Return an image that stays open until it is unpinned."""
        image = self[which]
        self._pinned.add(which)
        return image

    def unpin(self, which: tuple[int, str]) -> None:
        """Allow an image to be closed when others are opened."""
        self._pinned.discard(which)

    def _open_image(self, index: int, role: str) -> OpenImage:
        source = self._plan.sources[index]
        with ExitStack() as on_error:
            stack = open_source(
                self._plan, source, role, self._opener, self._classes, self.check_cancelled
            )
            on_error.callback(stack.close)
            if self._planned is not None:
                self._planned.check(index, role, files_of(stack))
            names = channel_names(stack)
            channels = [*range(len(names))], list[int]()
            image = OpenImage(
                stack, *(self._plan.read_channels(names) if role == IMAGE else channels)
            )
            on_error.pop_all()
        return image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all images; one that is used again is opened again."""
        while self._open:
            _close(self._open.popitem()[1].stack)


def files_of(stack: ClosableStack) -> list[str]:
    """Return the files that the pixels of a stack are in, as far as it lists them."""
    return [path_text(file) for file in getattr(stack, "files", ())]


def _close(stack: ClosableStack) -> None:
    """Close a stack; warn of chunks that its server does not have."""
    n_absent = getattr(stack, "n_absent", 0)
    stack.close()
    if n_absent:
        chunks = f"{n_absent} chunks are" if n_absent > 1 else "a chunk is"
        warnings.warn(
            f"{stack.source}: {chunks} absent on the server, and read as the fill value.",
            stacklevel=2,
        )
