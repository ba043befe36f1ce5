"""The packages to compare with, in an environment and a process of their own."""

import json
import subprocess
import sys
import venv
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".venv-peers"

ALONE = ("careamics==0.3.5",)
"""Without its dependencies (torch and more): only its stack class is used."""

FOREIGN = ("tensorstore", "zarrs")
"""One that can't be had here leaves out its rows only."""

SHARED = ("numpy", "pylibCZIrw", "tifffile", "zarr")
"""Installed in our version, so that both sides decode with the same library."""


class PeerError(Exception):
    """A peer can't be installed, or failed."""


def peer_python(environment: Path = ENVIRONMENT) -> Path:
    """Return the Python that has the peers; build its environment if there is none.

    Raises
    ------
    PeerError
        If the package index can't be reached.
    """
    python = environment / "bin" / "python"
    shared = [f"{name}=={version(name)}" for name in SHARED]
    stamp, content = environment / ".stamp", json.dumps([sys.version, ALONE, FOREIGN, shared])
    if stamp.is_file() and stamp.read_text() == content:
        return python
    try:
        venv.create(environment, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"their environment can't be made: {error}") from error
    _install(python, *shared)
    complete = True
    for arguments in (["--no-deps", *ALONE], *([name] for name in FOREIGN)):
        try:
            _install(python, *arguments)
        except PeerError as error:
            complete = False
            print(error, file=sys.stderr)
    if complete:
        stamp.write_text(content)
    return python


def _install(python: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    if subprocess.run([*pip, *arguments]).returncode:
        raise PeerError(f"{' '.join(arguments)} can't be installed")


class Peers:
    """Call the functions of `peer_side` in a process of the peers' Python."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(HERE / "peer_side.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, call: str, **arguments: Any) -> float:
        """Run one function there, and return the seconds that it reports.

        Raises
        ------
        PeerError
            If it failed, or is not installed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"their process died before {call}") from None
        answer = self._process.stdout.readline()
        if not answer:
            raise PeerError(f"their process died in {call}")
        result = json.loads(answer)
        if isinstance(result, str):
            raise PeerError(result)
        return float(result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate()
