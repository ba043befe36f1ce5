"""The images of a plan, each opened when its first patch is read."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from napari_patchset.errors import UnreadableFileError
from napari_patchset.exporting.plan import ExportPlan, blaming
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import channel_indices
from napari_patchset.stacks.cache import FileStat
from napari_patchset.stacks.metadata import channel_names
from napari_patchset.stacks.opening import open_stack
from napari_patchset.stacks.protocol import ClosableStack


def find_stamp(path: str) -> FileStat | None:
    """Return size and time of a file, None for a folder or a URL."""
    return FileStat.of(path) if Path(path).is_file() else None


def require_stamp(path: str, stamps: Mapping[str, FileStat]) -> None:
    """Refuse a file whose size or time are not those that were found when the plan was made."""
    if find_stamp(path) != stamps.get(path):
        raise changed(path)


def changed(path: str) -> UnreadableFileError:
    """Say that a file is not the one that was planned for."""
    return UnreadableFileError(
        f"{path} has changed since the export began; export again with overwrite."
    )


_MOST_OPEN = 8


class OpenImage(NamedTuple):
    """A stack, and the channels of it that are looked at."""

    stack: ClosableStack
    channels: list[int]


class Images(Protocol):
    """Give the image of a source, by (index of the source, role)."""

    def __getitem__(self, which: tuple[int, str]) -> OpenImage: ...


class OpenImages:
    """Open images on demand; use it in a `with` statement.

    `images[index, role]` is the image of a source, "image", "target", "labels" or "mask".

    Parameters
    ----------
    plan : ExportPlan
        Names the images.
    opener : callable
        Opens one of them, as `open_stack` does.
    stamps : dict of str to FileStat, or None
        What the files were when the plan was made: another one in a file's place is refused, so
        that its pixels are not kept where the first one comes back before the export ends.
    """

    def __init__(
        self,
        plan: ExportPlan,
        opener: Callable[..., ClosableStack] = open_stack,
        stamps: Mapping[str, FileStat] | None = None,
    ) -> None:
        self._plan, self._opener, self._stamps = plan, opener, stamps
        self.pad = plan.strategy.padding
        self._open: OrderedDict[tuple[int, str], OpenImage] = OrderedDict()
        self._kept: set[tuple[int, str]] = set()

    def blaming(self, index: int) -> AbstractContextManager[None]:
        """Blame what goes wrong inside on a source."""
        return blaming(index, self._plan.sources[index])

    def __getitem__(self, which: tuple[int, str]) -> OpenImage:
        if which not in self._open:
            with self.blaming(which[0]):
                self._open[which] = self._opened(*which)
        self._open.move_to_end(which)
        for oldest in list(self._open)[:-_MOST_OPEN]:
            if oldest not in self._kept:
                self._open.pop(oldest).stack.close()
        return self._open[which]

    def keep(self, which: tuple[int, str]) -> OpenImage:
        """Give an image that stays open, whatever others are opened, until it is let go."""
        image = self[which]
        self._kept.add(which)
        return image

    def let_go(self, which: tuple[int, str]) -> None:
        """Let an image be closed when others need its place."""
        self._kept.discard(which)

    def _opened(self, index: int, role: str) -> OpenImage:
        ref = self._plan.sources[index].images[role]
        chosen = self._plan.channels if role == IMAGE else None
        with ExitStack() as unless_kept:
            stack = self._opener(ref.path, ref.scene, self._plan.depth_axis)
            unless_kept.callback(stack.close)
            if self._stamps is not None:
                require_stamp(ref.path, self._stamps)
            image = OpenImage(stack, channel_indices(channel_names(stack), chosen))
            unless_kept.pop_all()
        return image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for image in self._open.values():
            image.stack.close()
