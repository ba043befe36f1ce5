"""What a user can mend: an argument or a file. Each message names value, limit and remedy."""

from collections.abc import Iterable


class PatchsetError(Exception):
    """Say in one line what is wrong and what to do; shown as it is, never with a traceback."""


class ArgumentError(PatchsetError, ValueError):
    """An argument is outside of what is allowed."""


class MissingAxisError(PatchsetError, RuntimeError):
    """The image lacks the axis that was asked for as depth axis."""


class SampleIndexError(PatchsetError, IndexError):
    """The sample index is outside of the stack."""


class UnreadableFileError(PatchsetError, ValueError):
    """The file is damaged, or of a kind that can't be read."""


class ExportError(PatchsetError, RuntimeError):
    """The export can't begin, go on or be completed as asked."""


class MissingArrayError(PatchsetError, KeyError):
    """The patch set has no split or array of that name."""

    __str__ = Exception.__str__  # KeyError shows the repr of its message


class IncompleteSetError(PatchsetError, ValueError):
    """The folder is no complete patch set."""


class SkippedSourcesWarning(UserWarning):
    """Some sources could not be read; the patch set lacks their patches.

    Attributes
    ----------
    failures : tuple of Failure
        The sources, and why each was skipped.
    """

    def __init__(self, failures: Iterable[object]) -> None:
        self.failures = tuple(failures)
        super().__init__("skipped: " + "; ".join(map(str, self.failures)))
