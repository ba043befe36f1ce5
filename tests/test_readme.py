"""What the README shows is run as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from czi_maker import SceneSpec, make_czi, metadata_xml

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if "patchset " in line]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scenes = [
        SceneSpec(id=i, rect=(900 * i, 0, 200, 200), t=2, z=5, c=2, stamped=True) for i in (0, 1)
    ]
    xml = metadata_xml(channels={"Channel:0": "DAPI", "Channel:1": "EGFP"})
    make_czi(tmp_path / "cells.czi", scenes, xml=xml)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run_and_write_what_they_name(folder: Path) -> None:
    assert len(commands()) == 5
    for line in commands():
        words = shlex.split(line)
        subprocess.run([sys.executable, "-m", "napari_patchset", *words[1:]], check=True)
        if "--out" in words:
            assert (folder / words[words.index("--out") + 1]).exists()


def test_the_python_blocks_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)
    out = capsys.readouterr().out
    assert "done 320 of 320" in out
    assert "320 (2, 64, 64) uint16" in out
    assert "(320, 2, 64, 64) uint16" in out
