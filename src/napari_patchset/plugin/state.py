"""The form as one frozen value, and what follows from it; no window needed."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

from napari_patchset.axes import DEPTH_AXES, DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan, SourceRef
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.lattice import Edge
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patchset.layout import SUFFIX
from napari_patchset.sample import sample_path
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.opening import list_scenes, open_stack

MULTIPLE = 8
"""What the sizes of a network's input are usually a multiple of."""


@dataclass(frozen=True, slots=True)
class FormState:
    """Everything the form says; sizes are Z (or T), Y, X, the first one unused without depth."""

    path: Path
    scene: SceneId | None
    depth_axis: DepthAxis = "none"
    size: tuple[int, int, int] = (8, 64, 64)
    overlap: tuple[int, int, int] = (0, 0, 0)
    edge: Edge = "shift"
    all_scenes: bool = False
    out: str = ""

    @property
    def n_spatial(self) -> int:
        """2, or 3 with a depth axis."""
        return 2 if self.depth_axis == "none" else 3

    def strategy(self) -> Tiled:
        """Give the strategy that the form describes."""
        n = self.n_spatial
        return Tiled(size=self.size[-n:], overlap=self.overlap[-n:], edge=self.edge)

    def info(self) -> SourceInfo:
        """Describe the shown scene, as patches will see it."""
        return _describe(self.path, self.scene, self.depth_axis)

    def grid(self) -> PatchGrid:
        """Plan the shown scene."""
        return self.strategy().plan([self.info()])

    def plan(self) -> ExportPlan:
        """Give the plan of the export: the shown scene, or all of them.

        Raises
        ------
        ArgumentError
            If no destination is chosen.
        """
        if not self.out:
            raise ArgumentError(f"Choose where to save the patch set, a name like cells{SUFFIX}.")
        scenes = [s.id for s in list_scenes(self.path)] if self.all_scenes else [self.scene]
        sources = tuple(SourceRef(path=str(self.path), scene=scene) for scene in scenes)
        return ExportPlan(
            sources=sources, strategy=self.strategy(), depth_axis=self.depth_axis, out=self.out
        )


def depth_choices(info: SourceInfo) -> dict[DepthAxis, str]:
    """Give each depth axis and why it can't be chosen; an empty reason if it can."""
    sizes = info.layout.sizes
    return {
        axis: ""
        if axis == "none" or sizes.get(axis, 1) > 1
        else f"The image has only one {'plane' if axis == 'Z' else 'time point'} along {axis}."
        for axis in DEPTH_AXES
    }


def fitting_size(info: SourceInfo) -> tuple[int, int, int]:
    """Give the largest patch that fits an image along Z (or T), Y, X: powers of two."""
    sizes = info.layout.sizes
    depth = max(sizes.get("Z", 1), sizes.get("T", 1))
    z, y, x = (1 << (n.bit_length() - 1) for n in (depth, sizes["Y"], sizes["X"]))
    return z, y, x


def summarize(grid: PatchGrid, info: SourceInfo) -> str:
    """Say how many patches there are, how large each is, and what they take on disk."""
    nbytes = len(grid) * prod(grid.size) * len(info.channels) * info.itemsize
    lines = [
        f"<b>{len(grid):,}</b> patches, {_bytes(nbytes)}",
        f"{_by(grid.size)} px{_extent(grid.size, info)}",
    ]
    lines += [f"{count:,} left out: {reason}" for reason, count in grid.dropped.items()]
    odd = [n for n in grid.size[-2:] if n % MULTIPLE]
    if odd:
        lines.append(f"{odd[0]} is no multiple of {MULTIPLE}, as most networks want it")
    return "<br>".join(lines)


def default_out(path: Path) -> str:
    """Propose a name that is not taken yet, beside the file; at home for the sample."""
    stem = path.name.split(".")[0]
    if path == sample_path():
        path = Path.home() / path.name
    name, number = f"{stem}{SUFFIX}", 2
    while path.with_name(name).exists():
        name, number = f"{stem}-{number}{SUFFIX}", number + 1
    return str(path.with_name(name))


@lru_cache(maxsize=32)
def _describe(path: Path, scene: SceneId | None, depth_axis: DepthAxis) -> SourceInfo:
    with open_stack(path, scene, depth_axis) as stack:
        return describe(stack)


def _extent(size: tuple[int, ...], info: SourceInfo) -> str:
    pixel = {"Z": info.pixel_size.z, "Y": info.pixel_size.y, "X": info.pixel_size.x}
    pixels = [pixel.get(axis) for axis in info.layout.spatial_axes]
    if not all(pixels[-2:]):
        return ""
    known = [n * p for n, p in zip(size, pixels, strict=True) if p]
    return f" ({_by(f'{value:.1f}' for value in known)} µm)"


def _by(values: Iterable[object]) -> str:
    return " × ".join(map(str, values))


def _bytes(count: int) -> str:
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"
