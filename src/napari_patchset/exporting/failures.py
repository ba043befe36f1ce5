"""Sources that can't be read: an export skips each as a `Failure`, and stops when none is left."""

from collections.abc import Mapping

from napari_patchset._model import Frozen
from napari_patchset.errors import ExportError, UnreadableFileError

SOURCE_ERRORS = (UnreadableFileError, OSError)
"""Raised by a file that is damaged or missing; a file that does not fit the plan raises others."""


class Failure(Frozen):
    """A source that was skipped, and why."""

    source: str
    message: str

    def __str__(self) -> str:
        return self.message if self.source in self.message else f"{self.source}: {self.message}"


class SourcesFailed(ExportError):
    """Sources can't be read, or have changed since the plan was made.

    Attributes
    ----------
    failures : dict of int to Failure
        By index of the source.
    """

    def __init__(self, failures: Mapping[int, Failure]) -> None:
        super().__init__("; ".join(map(str, failures.values())))
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[type["SourcesFailed"], tuple[dict[int, Failure]]]:
        return SourcesFailed, (self.failures,)
