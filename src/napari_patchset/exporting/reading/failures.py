"""Sources that can't be read: an export skips each as a `Failure`, and fails if none is left.

A source whose storage does not respond may be readable later, so it is skipped only if the user
allows it. Otherwise the rest is exported, and the set is completed when that source can be read.
"""

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Self, cast

from napari_patchset._model import Frozen
from napari_patchset.credentials import hide_credentials
from napari_patchset.errors import (
    ExportError,
    MissingFileError,
    UnreachableError,
    describe_os_error,
    printable,
)
from napari_patchset.source import split_source
from napari_patchset.stacks.retrying import is_transient

_MAX_NAMED, _MAX_LINES = 5, 20
"""The most sources that an error names, and files that are listed."""

_PASSING = (MissingFileError, UnreachableError)


class Failure(Frozen):
    """A source that was skipped, and why."""

    source: str
    message: str
    is_transient: bool = False
    """Whether its storage did not respond, so that the file may be readable later."""
    may_return: bool = False
    """Whether the file may be there again as it was: it was gone, or could not be opened."""

    @classmethod
    def from_error(cls, source: object, error: Exception) -> Self:
        """Describe an error of reading a source; raise MemoryError if memory was lacking."""
        cause, may_return = cast("BaseException | None", error), False
        while cause is not None:
            number = getattr(cause, "errno", None)
            if isinstance(cause, MemoryError) or number == errno.ENOMEM:
                raise MemoryError(str(cause)) from error
            may_return |= isinstance(cause, _PASSING) or number is not None
            cause = cause.__cause__
        return cls(
            source=str(source),
            message=printable(hide_credentials(describe_os_error(error))),
            is_transient=isinstance(error, UnreachableError) or is_transient(error),
            may_return=may_return,
        )

    def __str__(self) -> str:
        return self.message if self.source in self.message else f"{self.source}: {self.message}"


def sentence(failures: Iterable[Failure]) -> str:
    """Return one sentence, without its full stop, on some sources: the first few, and how many."""
    texts = [str(failure).removesuffix(".") for failure in failures]
    more = f"; and {len(texts) - _MAX_NAMED:,} more" if len(texts) > _MAX_NAMED else ""
    return "; ".join(texts[:_MAX_NAMED]) + more


def grouped(skipped: Iterable[str]) -> Iterator[str]:
    """Yield a line for each file of what `Failure` says, with the number of its other scenes."""
    by_file = dict[str, list[str]]()
    for text in skipped:
        source = text.partition(": ")[0].partition(", scene ")[0]
        by_file.setdefault(str(split_source(source)[0]), []).append(text)
    for first, *others in islice(by_file.values(), _MAX_LINES):
        yield first + (f" (and {len(others):,} more of that file)" if others else "")
    if (n := len(by_file) - _MAX_LINES) > 0:
        yield f"and {n:,} more files"


class SourcesFailed(ExportError):
    """Sources can't be read, or have changed since the plan was made.

    Attributes
    ----------
    failures : dict of int to Failure
        By index of the source.
    n_skipped : int or None
        How many sources would have to be skipped, if that is not allowed.
    """

    def __init__(
        self, failures: Mapping[int, Failure], remedy: str = "", n_skipped: int | None = None
    ) -> None:
        is_sentence = any(str(each).endswith(".") for each in failures.values())
        super().__init__(sentence(failures.values()) + (remedy or "." * is_sentence))
        self.failures, self._remedy, self.n_skipped = dict(failures), remedy, n_skipped

    def __reduce__(self) -> tuple[type["SourcesFailed"], tuple[Any, ...]]:
        return SourcesFailed, (self.failures, self._remedy, self.n_skipped)

    @classmethod
    def needed(
        cls, failures: Mapping[int, Failure], skipped: Collection[Failure], max_failures: int | None
    ) -> Self:
        """Return the error for sources that a set must not be completed without.

        Parameters
        ----------
        failures : dict of int to Failure
            By index of the source.
        skipped : sequence of Failure
            The others that were skipped before.
        max_failures : int or None
            See `may_be_skipped`.
        """
        n = len(failures) + len(skipped)
        limit = f"only {max_failures} may be skipped"
        if not max_failures:
            limit = "none may be skipped"
        if max_failures is None:
            limit = "one whose storage does not answer is not skipped by default"
        count = "1 source" if n == 1 else f"{n:,} sources"
        before = f"; before: {sentence(skipped)}" if skipped else ""
        remedy = (
            f"{before}. {count} can't be read, but {limit}. What is written stays: run the same "
            "again when all can be read, or allow that "
            f"{'it is' if n == 1 else f'{n:,} are'} skipped."
        )
        return cls(failures, remedy, n)


def may_be_skipped(failures: Collection[Failure], max_failures: int | None) -> bool:
    """Return whether a set may be completed without some sources.

    Up to `max_failures` may be skipped, for any reason; if it is None, any number of damaged or
    missing ones, but none that may be readable later.
    """
    if max_failures is None:
        return not any(failure.is_transient for failure in failures)
    return len(failures) <= max_failures
