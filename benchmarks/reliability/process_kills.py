"""kill -9 of the command, its processes, or a part of a dask cluster; then the same export again.

usage: process_kills.py [--n KILLS] [--seed S] [--json FILE] [--kinds processes,dask]

Each case plans an export, runs `patchset export` on a pool of processes or on a dask cluster, and
kills at a random moment: the command, one of its processes; or the scheduler, a worker. Afterwards
the same plan goes on, or (a third of the cases) another one replaces it, while jobs of the killed
export may still be on the cluster. The set must equal the uninterrupted one, nothing else may be
left beside it, and no process of the command may outlive it.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from random import Random

import psutil
from forked import Died, in_child
from reporting import Row, run_row
from small_export import digests, export, plan_of, write_sources

from napari_patchset import ExportPlan
from napari_patchset.exporting.stages import plan_export

TARGETS = {"processes": ("command", "process"), "dask": ("command", "scheduler", "worker")}

PATIENCE_S = 60.0
"""How long the command may change nothing on disk after a kill, and not end. A kill that finds no
process of the pool yet kills nothing: the export then goes on, for minutes on a busy machine."""

GONE_S = 60.0
"""How long its processes may take to notice that it is gone: one that starts imports first."""


WRITING_S = 0.6
"""How long the command writes."""


class Reference:
    """The uninterrupted exports of a plan and of another one, made when they are compared with."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan

    @cached_property
    def plan(self) -> dict[str, str]:
        """The digests of the plan's set."""
        return in_child(lambda: _whole(self._plan))

    @cached_property
    def other(self) -> dict[str, str]:
        """Those of another plan's set."""
        return in_child(lambda: _whole(_other(self._plan)))


def main() -> int:
    """Run the row."""
    kinds = {"default": "processes,dask", "help": "where the jobs run"}
    return run_row("process kills", run, 200, [("--kinds", kinds)])


def run(options: argparse.Namespace, row: Row) -> None:
    """Kill `n` times, going on after each."""
    shape = getattr(options, "shape", (2, 384, 352))
    sources = write_sources(options.work / "sources", options.seed, shape)
    plan = plan_of(sources, options.work / "a.patches.zarr")
    reference = Reference(plan)
    cluster = Cluster()
    kinds = options.kinds.split(",")
    try:
        for number in range(options.n):
            chance = Random(f"{options.seed}:{number}")
            kind = kinds[number % len(kinds)]
            target = chance.choice(TARGETS[kind])
            folder = options.work / str(number)
            folder.mkdir()
            case = f"{number}: {kind}, {target}"
            try:
                _one_kill(plan_in(plan, folder), reference, cluster, kind, target, chance)
                row.add("resumed")
            except (AssertionError, Died, psutil.Error) as error:
                row.add("lost", f"{case}: {error}")
            row.figures[f"{kind} {target}"] = row.figures.get(f"{kind} {target}", 0) + 1
            shutil.rmtree(folder)
    finally:
        cluster.stop()


def plan_in(plan: ExportPlan, folder: Path) -> ExportPlan:
    """Return the plan with its set in another folder."""
    return plan.model_copy(update={"out": str(folder / "a.patches.zarr")})


def _other(plan: ExportPlan) -> ExportPlan:
    """Return a plan with as many shards of the same names, and other pixels."""
    sources = tuple(reversed(plan.sources))
    return plan.model_copy(update={"sources": sources})


def _whole(plan: ExportPlan) -> dict[str, str]:
    export(plan)
    made = digests(Path(plan.out))
    shutil.rmtree(plan.out)
    return made


class Cluster:
    """A dask scheduler and two workers, each a process; started when needed, and after a kill."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def ensure(self) -> None:
        """Start what does not run."""
        if self._processes and all(p.poll() is None for p in self._processes.values()):
            return
        self.stop()
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self._start("scheduler", "scheduler", "--port", port, "--no-dashboard")
        for name in ("worker 0", "worker 1"):
            self._start(name, "worker", self.address, "--nthreads", "1", "--no-dashboard")

    def _start(self, name: str, *words: str) -> None:
        command = [sys.executable, "-m", "dask", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes[name] = subprocess.Popen(command, **quiet, start_new_session=True)

    def kill(self, target: str, chance: Random) -> None:
        """Kill the scheduler, or a worker (the process that runs jobs, under its nanny or not)."""
        if target == "scheduler":
            self._processes["scheduler"].kill()
            return
        nanny = psutil.Process(self._processes[chance.choice(("worker 0", "worker 1"))].pid)
        for process in chance.choice(([nanny], nanny.children())):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """End all of it."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes = {}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def command(plan: ExportPlan, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `patchset export` on a plan that is frozen already."""
    saved = Path(plan.out).with_name("plan.json")
    saved.write_text(plan.model_dump_json())
    line = [sys.executable, "-m", "napari_patchset", "export", "--plan", str(saved), "--json"]
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*line, *words], env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        saved.unlink()


def _one_kill(
    plan: ExportPlan,
    reference: Reference,
    cluster: Cluster,
    kind: str,
    target: str,
    chance: Random,
) -> None:
    in_child(lambda: plan_export(plan))  # with the small shards of this process
    words = ["--executor", "processes", "--workers", "2"]
    if kind == "dask":
        cluster.ensure()
        words = ["--scheduler", cluster.address, "--workers", "4"]
    with command(plan, *words) as process:
        if chance.random() < 0.8:  # when it is at work
            process.stdout.readline()
        time.sleep(chance.uniform(0, 2 * WRITING_S))
        own = psutil.Process(process.pid)
        started = own.children(recursive=True) if process.poll() is None else []
        if target == "command":
            process.kill()
        elif target == "process":
            pool = [child for child in started if "spawn_main" in " ".join(child.cmdline())]
            for child in pool and [chance.choice(pool)]:
                child.kill()
        else:
            cluster.kill(target, chance)
        if target == "command":
            process.wait()
        else:
            _require_one_line(process, Path(plan.out).parent)
        _, alive = psutil.wait_procs(started, timeout=GONE_S)
        alive = [each.pid for each in alive if is_running(each)]
        assert not alive, f"outlived the command: {alive}"
    _go_on(plan, reference, chance)


def is_running(process: psutil.Process) -> bool:
    """Return whether a process is more than an entry that no one has asked for."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _require_one_line(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Require that the command completes, or ends with one line on what is lost."""
    before = -1.0
    while True:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
            break
        except subprocess.TimeoutExpired:
            changed = max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
            assert changed > before, f"it neither ended nor wrote anything for {PATIENCE_S:g} s"
            before = changed
    errors = [line for line in out.splitlines() if '"event": "error"' in line]
    is_clean = err == "" and len(errors) == (process.returncode != 0)
    assert is_clean, f"exit code {process.returncode}: {err[-900:]}"


def _go_on(plan: ExportPlan, reference: Reference, chance: Random) -> None:
    out = Path(plan.out)
    is_other = chance.random() < 1 / 3
    expected = reference.other if is_other else reference.plan
    if is_other:
        in_child(lambda: export(_other(plan), overwrite=True))
    elif not out.exists() or out.with_name("a.partial").exists():
        in_child(lambda: export(plan))
    for wait in (0.0, 0.3):  # what is still on the cluster may try to write
        time.sleep(wait)
        assert in_child(lambda: digests(out)) == expected, "the resumed set is another one"
        left = sorted(path.name for path in out.parent.iterdir())
        assert left == [out.name], f"left behind: {left}"


if __name__ == "__main__":
    sys.exit(main())
