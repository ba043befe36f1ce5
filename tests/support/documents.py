"""Run the code of a page as it stands: its blocks of Python and its commands, in their order."""

import contextlib
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_patchset.cli import main

REPOSITORY = Path(__file__).parents[2]
OPTIONAL = ("careamics", "csbdeep", "torch")
"""Packages that the tests need not have; `noxfile.py` runs the blocks that import them."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Yield each code block of a page: its language, its first line's number, its text."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield match[1], text[: match.start()].count("\n") + 2, match[2]


def commands(block: str) -> Iterator[list[str]]:
    """Yield the words of each line that calls the command."""
    joined = block.replace("\\\n", " ")
    for line in joined.splitlines():
        if line.strip().startswith("patchset "):
            yield shlex.split(line, comments=True)


def tables(name: str) -> dict[str, list[list[str]]]:
    """Return the cells of each table of a page by its header, without code marks."""
    text = (REPOSITORY / "docs" / f"{name}.md").read_text("utf-8")
    found = dict[str, list[list[str]]]()
    for header, rows in re.findall(r"^(\|.+\|)\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE):
        cells = [re.split(r"(?<!\\) *\| *", row)[1:-1] for row in rows.splitlines()]
        found[header] = [[cell.strip("`") for cell in row] for row in cells]
    return found


def number(text: str) -> float:
    """Return the number that a text begins with: 1 of "1 000 files" is 1000."""
    return float(re.match(r"[\d ]*\d(?:\.\d+)?", text)[0].replace(" ", ""))


def shown_errors(block: str) -> Iterator[tuple[list[str], str]]:
    """Yield each command of a block of language `console`, and the message below it."""
    for part in block.split("$ ")[1:]:
        command, _, message = part.partition("\n")
        yield shlex.split(command), message.strip()


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run every block of a page in one scope, in the current folder; return the scope."""
    scope: dict[str, Any] = {"__name__": page.stem}
    for language, line, block in blocks(page):
        if language == "sh":
            for words in commands(block):
                run_command(words, monkeypatch)
        elif language == "console":
            for words, message in shown_errors(block):
                fail_command(words, message, monkeypatch)
        elif language == "csv":
            Path("samples.csv").write_text(block, "utf-8")
        elif language == "python" and _is_possible(block):
            padding = "\n" * (line - 1)  # so that a traceback names the line of the page
            exec(compile(padding + block, str(page), "exec"), scope)
    return scope


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None), shlex.join(words)
    if "--out" in words and words[1] != "plan":
        assert Path(words[words.index("--out") + 1]).exists(), shlex.join(words)


def fail_command(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command that must fail with a message, in which "…" stands for anything."""
    monkeypatch.setattr(sys, "argv", words)
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(said):
        main()
    assert ended.value.code == 1, shlex.join(words)
    pattern = re.escape(message).replace("…", ".*")
    assert re.fullmatch(pattern, said.getvalue().strip()), said.getvalue()


def _is_possible(block: str) -> bool:
    absent = {name for name in OPTIONAL if importlib.util.find_spec(name) is None}
    return absent.isdisjoint(_IMPORT.findall(block))
