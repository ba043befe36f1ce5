"""Draw the house into CONTRIBUTING.md, from the imports: .venv/bin/python docs/house.py."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "CONTRIBUTING.md"
PACKAGE = REPOSITORY / "src" / "napari_patchset"
DRAWN = {
    "the house": PACKAGE,
    "the export": PACKAGE / "exporting",
    "the plugin": PACKAGE / "plugin",
}
"""What is drawn, by the mark in the page that it stands after."""

FACES = {"__init__", "__main__"}
END = "<!-- end -->"

Arrows = dict[str, set[str]]
"""What each room imports."""


def rooms(folder: Path) -> Arrows:
    """Find what imports what in a folder: a room is a folder in it, or a file beside them."""
    found: Arrows = {}
    inside = ".".join(folder.relative_to(PACKAGE.parent).parts) + "."
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).with_suffix("").parts[0]
        imports = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(inside):
                imports.add(str(node.module).removeprefix(inside).split(".")[0])
    return {room: found[room] - {room} - FACES for room in found if room not in FACES}


def reduced(arrows: Arrows) -> Arrows:
    """Leave out an arrow where others lead to the same room."""
    return {
        room: {one for one in below if not any(one in _under(arrows, o) for o in below - {one})}
        for room, below in arrows.items()
    }


def drawing(folder: Path) -> str:
    """Write the graph for Mermaid."""
    arrows = reduced(rooms(folder))
    lines = [f"    {room} --> {one}" for room in arrows for one in sorted(arrows[room])]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def filled(page: str) -> str:
    """Give a page with each drawing after its mark."""
    for name, folder in DRAWN.items():
        mark = f"<!-- {name}: by docs/house.py -->"
        before, _, rest = page.partition(mark)
        _, _, after = rest.partition(END)
        page = f"{before}{mark}\n\n{drawing(folder)}\n\n{END}{after}"
    return page


def _under(arrows: Arrows, room: str) -> set[str]:
    """Give every room that a room imports, straight or through others."""
    return arrows[room].union(*(_under(arrows, one) for one in arrows[room]))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
