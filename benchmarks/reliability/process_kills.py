"""kill -9 of the command, its processes, or a part of a dask cluster; then the same export again.

usage: process_kills.py [--n KILLS] [--seed S] [--json FILE] [--kinds processes,dask]

Each case plans an export, runs `patchset export` on a pool of processes or on a dask cluster, and
kills at a random moment: the command, one of its processes; or the scheduler, a worker. Afterwards
the same plan goes on, or (a third of the cases) another one replaces it, while jobs of the killed
export may still be on the cluster. The set must equal the uninterrupted one, nothing else may be
left beside it, and no process of the command may outlive it. Each kill prints a line, with the
moment that it came at.

The command and the cluster are forked from this process, which has imported what they need: that
would be most of the time of a case. Processes of a pool, and of the worker that has a nanny, are
new ones. The cluster lives on, but for what was killed.
"""

import argparse
import json
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import dask
import psutil
from forked import Died, Program, in_child
from reporting import Row, run_row
from small_export import digests, export, plan_of, write_sources

from napari_patchset import ExportPlan
from napari_patchset.exporting.stages import plan_export

for module in ("distributed", "dask.cli", "distributed.cli", "napari_patchset.cli.app"):
    import_module(module)  # which the forked programs need

TARGETS = {"processes": ("command", "process"), "dask": ("command", "scheduler", "worker")}

PATIENCE_S = 60.0
"""How long the command may change nothing on disk after a kill, and not end."""

GONE_S = 60.0
"""How long its processes may take to notice that it is gone: one that starts imports first."""

EARLY = 0.2
"""Share of the kills that come before the first candidates are scored."""

NOTHING = "nothing"
"""What a kill hits that comes when all is done."""


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
    shape = getattr(options, "shape", (2, 192, 176))
    sources = write_sources(options.work / "sources", options.seed, shape)
    plan = plan_of(sources, options.work / "a.patches.zarr")
    reference = Reference(plan)
    cluster = Cluster()
    kinds = options.kinds.split(",")
    try:
        for number in range(options.n):
            chance = Random(f"{options.seed}:{number}")
            kind = kinds[number % len(kinds)]
            folder = options.work / str(number)
            folder.mkdir()
            case = Case(plan_in(plan, folder), kind, chance.choice(TARGETS[kind]), chance)
            began, outcome = time.monotonic(), "resumed"
            try:
                case.kill(cluster)
                case.go_on(reference)
                row.add("resumed")
            except (AssertionError, Died, psutil.Error) as error:
                outcome = f"lost: {error}"
                row.add("lost", f"{number}: {case}: {error}")
            print(f"{number}: {case}: {outcome}, {time.monotonic() - began:.1f} s", flush=True)
            hit = f"{kind} {case.hit}"
            row.figures[hit] = row.figures.get(hit, 0) + 1
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
    """A dask scheduler and two workers, one with a nanny; started when needed, and after a kill."""

    def __init__(self) -> None:
        self._programs: dict[str, Program] = {}
        self.address = ""

    def ensure(self) -> None:
        """Start what does not run; workers do not survive their scheduler."""
        if not self._is_alive("scheduler"):
            self.stop()
            self.address = f"tcp://127.0.0.1:{free_port()}"
            port = self.address.rpartition(":")[2]
            self._start("scheduler", "--port", port, "--no-dashboard")
            _wait_until_answered(int(port))
        for name, nanny in (("worker 0", "--nanny"), ("worker 1", "--no-nanny")):
            if not self._is_alive(name):
                self._start(name, self.address, "--nthreads", "1", "--no-dashboard", nanny)

    def _is_alive(self, name: str) -> bool:
        return name in self._programs and is_running(self._programs[name])

    def _start(self, name: str, *words: str) -> None:
        if name in self._programs:  # the process of a nanny that is gone
            self._programs[name].kill_group()
        self._programs[name] = Program("dask", name.partition(" ")[0], *words)

    def kill(self, target: str, chance: Random) -> None:
        """Kill the scheduler, or a worker (the process that runs jobs, under its nanny or not)."""
        if target == "scheduler":
            self._programs["scheduler"].kill()
            return
        program = self._programs[chance.choice(("worker 0", "worker 1"))]
        with suppress(psutil.NoSuchProcess):
            for process in chance.choice(([program], program.children() or [program])):
                process.kill()

    def stop(self) -> None:
        """End all of it."""
        for program in self._programs.values():
            program.kill_group()
        self._programs = {}


def _wait_until_answered(port: int) -> None:
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def command(plan: ExportPlan, *words: str) -> Iterator[Program]:
    """Run `patchset export` on a plan that is frozen already."""
    saved, out = (Path(plan.out).with_name(name) for name in ("plan.json", "events"))
    saved.write_text(plan.model_dump_json())
    options = ("export", "--plan", str(saved), "--json", *words)
    connects = partial(dask.config.set, {"distributed.comm.timeouts.connect": "3s"})
    program = Program("napari_patchset", *options, out=out, before=connects)
    try:
        yield program
    finally:
        with suppress(psutil.NoSuchProcess):
            program.kill()
            program.wait()
        for path in (saved, program.out, program.errors):
            path.unlink()


class Case:
    """An export that is killed, and goes on.

    Attributes
    ----------
    hit : str
        What the kill met: its target, or nothing.
    moment : str
        How far the export was.
    """

    def __init__(self, plan: ExportPlan, kind: str, target: str, chance: Random) -> None:
        self._plan, self._kind, self._target, self._chance = plan, kind, target, chance
        self.hit, self.moment = NOTHING, "never"

    def __str__(self) -> str:
        return f"{self._kind}, {self._target} (hit {self.hit} at {self.moment})"

    def kill(self, cluster: Cluster) -> None:
        """Run the command, and kill; it must end with a line, and leave no process."""
        in_child(lambda: plan_export(self._plan))  # with the small shards of this process
        words = ["--executor", "processes", "--workers", "2"]
        if self._kind == "dask":
            cluster.ensure()
            words = ["--scheduler", cluster.address, "--workers", "4"]
        with command(self._plan, *words) as program:
            self._wait_for_moment(program)
            started = program.children(recursive=True) if is_running(program) else []
            if is_running(program):
                self._kill(program, started, cluster)
            if self.hit == "command":
                program.wait()
            else:
                _require_one_line(program, Path(self._plan.out).parent)
            _, alive = psutil.wait_procs(started, timeout=GONE_S)
            pids = [each.pid for each in alive if is_running(each)]
            assert not pids, f"outlived the command: {pids}"

    def _wait_for_moment(self, program: Program) -> None:
        """Wait until a random share of the work is done, or for a moment soon after the start."""
        at = self._chance.uniform(-EARLY, 1 - EARLY) / (1 - EARLY)
        while is_running(program):
            done, self.moment = _progress(program.out)
            if done >= max(0, at):
                break
            if self._target == "process" and at < 0 and _pool(program.children(recursive=True)):
                break
            if self._target != "process" and at < 0:
                break
            time.sleep(0.005)
        time.sleep(self._chance.uniform(0, 0.3 if at < 0 else 0.05))
        self.moment = _progress(program.out)[1]

    def _kill(self, program: Program, started: list[psutil.Process], cluster: Cluster) -> None:
        if self._target == "command":
            program.kill()
        elif self._target == "process":
            pool = _pool(started)
            if not pool:
                return
            self._chance.choice(pool).kill()
        else:
            cluster.kill(self._target, self._chance)
        self.hit = self._target

    def go_on(self, reference: Reference) -> None:
        """Export again, by the same plan or another; require the set of the uninterrupted one."""
        plan, out = self._plan, Path(self._plan.out)
        is_other = self._chance.random() < 1 / 3
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


def _pool(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those processes that are of a pool."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _progress(events: Path) -> tuple[float, str]:
    """Return the share of scoring and writing that is done, -1 before that, and what it is at."""
    lines = events.read_text().splitlines(keepends=True)
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("\n")]
    of_work = [event for event in parsed if event.get("stage") in ("score", "write")]
    if not of_work:
        return -1.0, "its start"
    last = of_work[-1]
    done = (last["done"] / max(1, last["total"]) + (last["stage"] == "write")) / 2
    return done, f"{last['stage']} {last['done']} of {last['total']}"


def is_running(process: psutil.Process) -> bool:
    """Return whether a process is more than an entry that no one has asked for."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _require_one_line(program: Program, folder: Path) -> None:
    """Require that the command completes, or ends with one line on what is lost."""
    before = -1.0
    while True:
        try:
            code = program.wait(PATIENCE_S)
            break
        except psutil.TimeoutExpired:
            changed = max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
            assert changed > before, f"it neither ended nor wrote anything for {PATIENCE_S:g} s"
            before = changed
    lines = [path.read_text().splitlines() for path in (program.out, program.errors)]
    n_errors = sum('"event": "error"' in line for line in lines[0]), len(lines[1])
    assert set(n_errors) == {int(code != 0)}, f"exit code {code}: {lines[1][-9:]}"


if __name__ == "__main__":
    sys.exit(main())
