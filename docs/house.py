"""Draw the house into CONTRIBUTING.md, from the imports: .venv/bin/python docs/house.py."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "CONTRIBUTING.md"
PACKAGE = REPOSITORY / "src" / "napari_patchset"
NAME = PACKAGE.name
BEGIN, END = "<!-- the house: by docs/house.py -->", "<!-- end -->"

Arrows = dict[str, set[str]]
"""What each room imports."""


def rooms() -> Arrows:
    """Find what imports what: a room is a folder of the package, or a file beside them."""
    found: Arrows = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        imports = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{NAME}."):
                imports.add(str(node.module).split(".")[1])
    faces = {"__init__", "__main__"}
    return {room: found[room] - {room} - faces for room in found if room not in faces}


def reduced(arrows: Arrows) -> Arrows:
    """Leave out an arrow where others lead to the same room."""
    return {
        room: {one for one in below if not any(one in _under(arrows, o) for o in below - {one})}
        for room, below in arrows.items()
    }


def drawing() -> str:
    """Write the graph for Mermaid."""
    arrows = reduced(rooms())
    lines = [f"    {room} --> {one}" for room in arrows for one in sorted(arrows[room])]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def filled(page: str) -> str:
    """Give a page with the drawing between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{drawing()}\n\n{END}{after}"


def _under(arrows: Arrows, room: str) -> set[str]:
    """Give every room that a room imports, straight or through others."""
    return arrows[room].union(*(_under(arrows, one) for one in arrows[room]))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
