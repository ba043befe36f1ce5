"""Steps: generators that yield how far a part of an export is, and return its result."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Literal, NamedTuple, TypeVar

Result = TypeVar("Result")

Report = Callable[[int, int], None]
"""Is called with how much is done, and of how much."""

Stage = Literal["read", "compare", "choose"]

_MAX_STEPS = 100
"""Largest number of steps reported for one pass over the sources."""


class Step(NamedTuple):
    """How much is done, and of how much.

    Attributes
    ----------
    done, total : int
        Sources, unless a stage is named.
    stage : {"read", "compare", "choose"} or None
        Annotations are read, in bytes or megabytes; images that look alike are compared, in
        megabytes; or candidates are chosen, in percent.
    """

    done: int
    total: int
    stage: Stage | None = None


def step_at(done: int, total: int) -> Iterator[Step]:
    """Yield how many sources are done, if it is time to report it."""
    if done % -(-total // _MAX_STEPS) == 0:
        yield Step(done, total)


def run_steps(
    steps: Generator[Step, None, Result], progress: Callable[[Step], object] | None = None
) -> Result:
    """Run steps to their end, and return what they return."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if progress is not None:
            progress(step)


def run_in_thread(
    work: Callable[[Report], Result],
    check_cancelled: Callable[[], None],
    stage: Stage,
) -> Generator[Step, None, Result]:
    """Run the work of a stage in a thread, yield what it reports, and return what it returns.

    Parameters
    ----------
    work : callable
        Calls its argument from time to time, which raises an exception if the work is to end.
    check_cancelled : callable
        Called whenever the work reports something; an exception that it raises ends the work.
    """
    steps, is_closed = SimpleQueue[Step | None](), Event()

    def report(done: int, total: int) -> None:
        check_cancelled()
        if is_closed.is_set():
            raise CancelledError
        steps.put(Step(done, total, stage))

    with ThreadPoolExecutor(1, "steps") as pool:
        running = pool.submit(work, report)
        running.add_done_callback(lambda _: steps.put(None))
        try:
            while (step := steps.get()) is not None:
                yield step
        finally:
            is_closed.set()
    return running.result()
