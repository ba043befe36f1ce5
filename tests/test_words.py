"""One word for one thing: retired words stand in no page, help, window or message."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.documents import REPOSITORY

RETIRED = {
    r"contact sheets?": "gallery",
    r"training sets?": "patch set",
    r"dismiss(ed|es)?": "reject",
    r"left out|leaves? out": "excluded (no candidate), rejected, skipped (a source), missing",
    r"set apart|sets? \w+ apart": "held back",
    r"parted|parts them": "split",
    r"by chance": "random",
    r"anew": "again",
    r"(go|goes|went) on where": "resume",
    r"came to": "the number that a limit stands for",
    r"(?<!Otsu's )thresholds?": "limit",
    r"mended?": "repair",
    r"patches that (train|validate)": "training patches, validation patches",
    r"forget all": "remove all",
    r"sign file|done sign": "done marker",
}
"""What a pattern of retired words was replaced by (it matches whole words in any case)."""

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def test_no_page_uses_a_retired_word() -> None:
    for page in PAGES:
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            check(line, f"{page.name}:{number}")


def test_no_text_of_the_program_uses_a_retired_word() -> None:
    for module in sorted((REPOSITORY / "src").rglob("*.py")):
        for number, text in texts(module):
            check(text, f"{module.name}:{number}")


def check(text: str, where: str) -> None:
    for pattern, instead in RETIRED.items():
        found = re.search(rf"\b({pattern})\b", text, re.IGNORECASE)
        assert found is None, f"{where}: {found[0]!r} is retired; use: {instead}"


def texts(module: Path, words: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string with a space, or of single words too; no docstrings."""
    tree = ast.parse(module.read_text("utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and (words or " " in node.value) and id(node) not in docstrings:
            yield node.lineno, " ".join(node.value.split())
