"""Add pages to the site that are not in docs/, and resolve the links between all of them.

MkDocs calls these functions: see mkdocs.yml.
"""

import os.path
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/reliability/README.md": "reliability.md",
}
"""The files outside docs/ that are pages, and their names in the site."""

LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]*)((?:#[^)\s]*)?)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages whose files are outside docs/, and the reference of the command."""
    pages = {page: (REPOSITORY / source).read_text("utf-8") for source, page in PAGES.items()}
    pages["reference/command.md"] = command_reference()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def command_reference() -> str:
    """Return a page with the help of every command."""
    words = ["napari_patchset.cli.app", "utils", "docs", "--name", "patchset"]
    command = [sys.executable, "-m", "typer", *words, "--title", "The command"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace links between files of the repository by links between pages."""
    name = page.file.src_uri
    source = next((file for file, made in PAGES.items() if made == name), f"docs/{name}")

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match[1]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(target):
            return f"]({os.path.relpath(target, os.path.dirname(name) or '.')}{match[2]})"
        return f"]({config.repo_url.rstrip('/')}/blob/main/{target}{match[2]})"

    return LINK.sub(link, markdown)
