"""Ctrl-C and SIGTERM end the command in one line; nothing of it outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from napari_patchset import PatchSet
from napari_patchset.cli.signals import handled
from support.czi_maker import MakeCzi, SceneSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals"),
]

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

COMMAND = """
import signal, sys
from napari_patchset.cli import main

module, number, *words = sys.argv[1:]

class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            signal.raise_signal(int(number))

sys.meta_path.insert(0, Interrupt())
sys.argv = ["patchset", *words]
main()
"""


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("module", ["typer", "numpy", "napari_patchset.exporting.run", "pyarrow"])
def test_a_signal_while_libraries_are_imported_is_one_line(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    words = [module, str(int(number)), "export", "none.czi", "--out", "a.patches.zarr"]
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (CODES[number], "")
    assert ended.stderr == "patchset: stopped before it began; run the same command again.\n"


@contextmanager
def exporting(path: Path, folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run an export of many patches, and wait until it has a plan."""
    command = [sys.executable, "-m", "napari_patchset", "export", str(path)]
    command += ["--out", "a.patches.zarr", "--patch-size", "16,16", "--overlap", "12", *options]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    plan = folder / "a.partial" / "plan.json"
    try:
        if "--json" in options:
            for line in process.stdout:
                if json.loads(line)["stage"] == "plan":
                    break
        else:
            while not plan.exists() and process.poll() is None:
                time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def large(czi: MakeCzi) -> Path:
    """Write a file whose export takes seconds."""
    return czi(SceneSpec(rect=(0, 0, 600, 600), t=3), tile=(100, 100))


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGINT, ["--json"]), (signal.SIGTERM, ["--json"]), (signal.SIGINT, [])],
)
def test_a_signal_stops_an_export_and_the_same_command_resumes(
    large: Path, tmp_path: Path, number: signal.Signals, options: list[str]
) -> None:
    with exporting(large, tmp_path, *options) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == CODES[number]
        (line,) = err.splitlines()
        assert "run the same command again" in line
        if options:
            last = json.loads(out.splitlines()[-1])
            assert (last["event"], last["exit_code"]) == ("error", CODES[number])
            assert line == f"patchset: {last['message']}"
    assert not (tmp_path / "a.patches.zarr").exists()
    assert not list((tmp_path / "a.partial").glob("running.*"))
    with exporting(large, tmp_path, *options) as process:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert len(PatchSet(tmp_path / "a.patches.zarr")["all"]) == 3 * 147**2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_of_a_pool_outlives_the_command_or_reports_the_signal(
    large: Path, tmp_path: Path, number: signal.Signals
) -> None:
    pool = ("--json", "--executor", "processes", "--workers", "2")
    with exporting(large, tmp_path, *pool) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        for each in (process, *(children if number == signal.SIGINT else ())):
            with suppress(psutil.NoSuchProcess):  # a helper that has just ended
                each.send_signal(number)  # a terminal sends Ctrl-C to all of them
        _, err = process.communicate(timeout=60)
        if number == signal.SIGINT:  # else Python notes its semaphores
            assert err.startswith("patchset: stopped; ")
            assert err.count("\n") == 1
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in CODES]
    with handled():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in CODES] == before
