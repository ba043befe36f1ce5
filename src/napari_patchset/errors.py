"""Errors that a user can fix. Each message names the value, the limit and the remedy."""

from collections.abc import Iterable
from typing import Self


class PatchsetError(Exception):
    """An error whose message, one line, is shown to the user without a traceback."""


class ArgumentError(PatchsetError, ValueError):
    """An argument has a value that is not allowed."""


class UnknownPixelSizeError(ArgumentError):
    """The file does not say how large its pixels are, and no one else does.

    Python states it with `pixel_size` of a source, the command with --source-pixel-size.
    """


class MissingAnnotationsError(ArgumentError):
    """A class is named, but no source has annotations.

    Python names them with `annotations` of a source, the command with --annotations.
    """


class UnquotedNameError(ArgumentError):
    """A name that has a comma was read as several, as it is not in quotes.

    In the command the quotes must be in quotes of the shell.
    """


class SplitError(ArgumentError):
    """The split can't be made of these sources and patches, or the samples sheet does not fit."""


class MissingAxisError(PatchsetError, RuntimeError):
    """The image lacks the requested depth axis."""


class SampleIndexError(PatchsetError, IndexError):
    """The sample index is out of bounds."""


NO_MEMORY = (
    "There is too little memory, whatever file was being read; use fewer workers or less memory "
    "for tiles, or raise the limit of the process"
)
"""What a MemoryError says to a user."""


class UnreadableFileError(PatchsetError, ValueError):
    """The file is damaged or its format is not supported."""


class UnknownAxesError(UnreadableFileError):
    """The pages of a TIFF are sound, but not what the file says of them.

    Python states their axes with `axes` of `open_stack` or a source, the command with --axes.
    """


class MissingFileError(UnreadableFileError):
    """A file is gone that was there when a plan was made."""

    path: str
    """The file, which may be one of several of an image."""

    @classmethod
    def since(cls, path: str, began: str, remedy: str) -> Self:
        """Return the error for a file that was there when something began."""
        error = cls(f"{path} is missing, but was there when {began}; restore it, and {remedy}.")
        error.path = path
        return error


class UnreachableError(UnreadableFileError):
    """The storage of a file did not answer, after several attempts; the file may be sound."""


SOURCE_ERRORS = (UnreadableFileError, OSError)
"""Raised by a file that is damaged or missing; a file that does not fit a plan raises others."""


def describe_os_error(error: Exception) -> str:
    """Return the message of an error; of one of the system, "FILE: No such file or directory"."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def printable(text: str) -> str:
    r"""Return a text with the bytes of a file name that are not UTF-8, like \xe4, written out."""
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)


class ExportError(PatchsetError, RuntimeError):
    """The export can't begin, resume or be completed."""


class DestinationExistsError(ExportError):
    """There is something at the destination that an export replaces only on request.

    Python requests it with `overwrite=True`, the command with --overwrite.
    """


class DifferingSourcesError(ExportError):
    """Sources differ in what all patches of a set have in common.

    Attributes
    ----------
    what : str
        "channels", "pixel type", "pixel size along Y", ...
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


class MissingArrayError(PatchsetError, KeyError):
    """The patch set has no split or array of that name."""

    __str__ = Exception.__str__  # KeyError shows the repr of its message


class IncompleteSetError(PatchsetError, ValueError):
    """The folder is not a complete patch set."""


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
