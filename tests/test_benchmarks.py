"""The benchmarks run, and their counts hold, at a tiny size; times are not looked at."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench import TINY, Bench
from measure import Result, Target, in_turn, median_ratio
from peers import PeerError
from rows import ROWS
from run import as_table, main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    bench = Bench(folder, folder / "out", TINY)
    bench.clear()
    return bench


IO = Path("/proc/self/io")
IN_WINDOW = ("preview", "first-picture", "key-strokes")


def parameter(name: str) -> Any:
    needs_io = pytest.mark.skipif(not IO.exists(), reason=f"no {IO} here")
    return pytest.param(name, marks=[needs_io] if name.startswith(("transfers", "memory")) else [])


@pytest.mark.parametrize("name", [parameter(name) for name in ROWS if name not in IN_WINDOW])
def test_counts_hold(bench: Bench, name: str) -> None:
    results = list(ROWS[name](bench))
    assert results
    failed = [r for r in results if r.kind == "count" and not r.ok]
    assert not failed, [(r.name, r.ours, str(r.target)) for r in failed]


def test_a_row_is_held_to_its_target() -> None:
    at_least = Result("a", "time", "s", 1, 600, 600, Target(">=", 500))
    at_most = Result("b", "time", "s", 2, 1, 2, Target("<=", 1.1))
    absolute = Result("c", "memory", "MB", 500, target=Target("<=", 400, "MB"))
    alone = Result("d", "time", "s", 1, target=Target(">=", 500), note="peer not installed")
    assert [r.ok for r in (at_least, at_most, absolute, alone)] == [True, False, False, None]
    assert as_table([at_least, at_most, absolute, alone]).row_count == 4


def test_the_ratio_is_of_turns_not_of_sums() -> None:
    assert median_ratio([2, 20, 6], [1, 10, 2]) == 2


def test_a_peer_that_fails_leaves_out_only_its_own_rows() -> None:
    def failing() -> float:
        raise PeerError("not installed")

    assert in_turn({"ours": lambda: 1.0, "peer": failing}, 2) == {"ours": [1, 1]}


def test_a_row_that_fails_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ROWS, "opening", lambda bench: iter([1 / 0]))
    with pytest.raises(SystemExit) as ended:
        main(["--no-peers", "--only", "opening,planning", "--repeats", "1"])
    output = capsys.readouterr().out
    assert ended.value.code == 1
    assert "failed: ZeroDivisionError" in output
    assert "plan 1000000 patches" in output


def test_the_table_is_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "bench.json"
    main(["--no-peers", "--only", "planning", "--repeats", "1", "--json", str(target)])
    assert "plan 1000000 patches" in capsys.readouterr().out
    assert '"rows"' in target.read_text()
