"""The packages that we are measured against: installed apart from ours, in a process apart."""

import json
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".venv-peers"

ALONE = ("careamics==0.3.5",)
"""Without its dependencies (torch and more): only its stack class is used."""

FOREIGN = ("tensorstore", "zarrs")
SHARED = ("numpy", "pylibCZIrw", "tifffile", "zarr")
"""Installed in our version, so that both sides decode with the same library."""


def peer_python(environment: Path = ENVIRONMENT) -> Path:
    """Give the Python that has the peers; make its environment if it is not there.

    Raises
    ------
    subprocess.CalledProcessError
        If the package index can't be reached.
    """
    python = environment / "bin" / "python"
    wanted = [*FOREIGN, *(f"{name}=={version(name)}" for name in SHARED)]
    stamp, content = environment / ".stamp", json.dumps([sys.version, ALONE, wanted])
    if not stamp.is_file() or stamp.read_text() != content:
        venv.create(environment, clear=True)
        _install(python, *wanted)
        _install(python, "--no-deps", *ALONE)
        stamp.write_text(content)
    return python


def _install(python: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, *arguments], check=True)


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
        """Run one function there, and give the seconds that it says it took.

        Raises
        ------
        RuntimeError
            If it failed; its own words are on the error stream.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peers' side failed in {call}")
        return float(json.loads(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
