"""What files and layers are called in a list of choices."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from napari_patchset.plugin.layers.paths import layer_at


def labelled(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Give each path a label: the name, after that of its folder where two are the same."""
    names = [_name(path) for path in paths]
    count = Counter(names)
    return [
        (name if count[name] == 1 else f"{path.parent.name}/{name}", path)
        for name, path in zip(names, paths, strict=True)
    ]


def _name(path: Path) -> str:
    layer = layer_at(path)
    return path.name if layer is None else layer.name
