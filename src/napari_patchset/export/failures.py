"""Sources that can't be read: one of many is left out and reported, the last one is an error."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from napari_patchset.errors import ExportError, UnreadableFileError
from napari_patchset.model import Frozen

BROKEN = (UnreadableFileError, OSError)
"""What a file that is damaged or gone raises, as opposed to one that does not fit the plan."""


class Failure(Frozen):
    """A source whose patches are left out, and why."""

    source: str
    message: str

    def __str__(self) -> str:
        return self.message if self.source in self.message else f"{self.source}: {self.message}"


class SourcesFailed(ExportError):
    """Sources can't be read, or are not any more what was planned for.

    Attributes
    ----------
    failures : dict of int to Failure
        By the index of the source.
    """

    def __init__(self, failures: Mapping[int, Failure]) -> None:
        super().__init__("; ".join(map(str, failures.values())))
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[type["SourcesFailed"], tuple[dict[int, Failure]]]:
        return SourcesFailed, (self.failures,)


@contextmanager
def blaming(index: int, source: object) -> Iterator[None]:
    """Blame what goes wrong while a source is opened or read on that source."""
    try:
        yield
    except BROKEN as error:
        failure = Failure(source=str(source), message=str(error))
        raise SourcesFailed({index: failure}) from error
