"""The one worker: a background thread, whose results are emitted in the GUI thread."""

from collections.abc import Iterator
from threading import Event, current_thread, main_thread
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from napari_patchset.plugin.worker import Worker
from support.window import WAIT_MS


class Heard:
    """Note what a worker emits, and in which thread."""

    def __init__(self, worker: Worker) -> None:
        self.events: list[tuple[str, Any]] = []
        self.threads = set()
        for name in ("yielded", "returned", "failed"):
            getattr(worker, name).connect(lambda value, name=name: self._note(name, value))

    def _note(self, name: str, value: Any) -> None:
        self.events.append((name, value))
        self.threads.add(current_thread())


@pytest.fixture
def worker(qtbot: QtBot) -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.release()
    qtbot.waitUntil(lambda: worker.at_rest, timeout=WAIT_MS)


def wait_for_rest(qtbot: QtBot, worker: Worker) -> None:
    qtbot.waitUntil(lambda: worker.at_rest, timeout=WAIT_MS)


def test_a_result_comes_later_in_the_windows_thread(qtbot: QtBot, worker: Worker) -> None:
    heard, ran_in = Heard(worker), []
    worker.run(lambda n: ran_in.append(current_thread()) or n + 1, 41)
    assert worker.running
    assert heard.events == []
    wait_for_rest(qtbot, worker)
    assert heard.events == [("returned", 42)]
    assert heard.threads == {main_thread()} != set(ran_in)
    assert not worker.running


def test_a_generator_emits_what_it_yields_then_what_it_returns(
    qtbot: QtBot, worker: Worker
) -> None:
    def count() -> Any:
        yield 1
        yield 2
        return "done"

    heard = Heard(worker)
    worker.run(count)
    wait_for_rest(qtbot, worker)
    assert heard.events == [("yielded", 1), ("yielded", 2), ("returned", "done")]


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), StopIteration("no")])
def test_an_error_ends_a_run(qtbot: QtBot, worker: Worker, error: Exception) -> None:
    def fail() -> None:
        raise error

    heard = Heard(worker)
    worker.run(fail)
    wait_for_rest(qtbot, worker)
    assert heard.events == [("failed", error)]


def test_the_latest_wins(qtbot: QtBot, worker: Worker) -> None:
    heard, go_on = Heard(worker), Event()
    worker.run(lambda: go_on.wait(60) and "first")
    worker.run(lambda: "second")
    go_on.set()
    wait_for_rest(qtbot, worker)
    assert heard.events == [("returned", "second")]


def test_what_is_stopped_says_nothing_though_its_result_is_on_its_way(
    qtbot: QtBot, worker: Worker
) -> None:
    heard, done = Heard(worker), Event()
    worker.run(done.set)
    assert done.wait(60)
    worker.stop()
    wait_for_rest(qtbot, worker)
    assert heard.events == []
    assert not worker.running


def test_a_generator_is_closed_in_its_own_thread(qtbot: QtBot, worker: Worker) -> None:
    closed_in, go_on = [], Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
                go_on.wait(60)
        finally:
            closed_in.append(current_thread())

    heard = Heard(worker)
    worker.run(endless)
    qtbot.waitUntil(lambda: bool(heard.events), timeout=WAIT_MS)
    worker.stop()
    go_on.set()
    wait_for_rest(qtbot, worker)
    assert closed_in
    assert main_thread() not in closed_in


def test_one_that_is_released_never_runs_again(qtbot: QtBot, worker: Worker) -> None:
    heard, ran = Heard(worker), list[int]()
    worker.run(lambda: None)
    worker.release()
    worker.run(lambda: ran.append(1))
    assert not worker.running
    wait_for_rest(qtbot, worker)
    qtbot.wait(0)
    assert (ran, heard.events) == ([], [])
