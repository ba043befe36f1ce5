"""What a form comes to: its patches, and what becomes of each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_patchset.patching.grid import PatchGrid
from napari_patchset.plugin.state import FormState
from napari_patchset.source import SourceInfo

MULTIPLE = 8
"""What the sizes of a network's input are usually a multiple of."""


@dataclass(frozen=True, eq=False)
class Planned:
    """The patches of a form.

    Attributes
    ----------
    state : FormState
        The form.
    sources : sequence of SourceInfo
        Its sources, as their patches see them.
    grid : PatchGrid
        The candidates in all of them.
    category : uint8 array
        What becomes of each, a `preview.Category`.
    """

    state: FormState
    sources: Sequence[SourceInfo]
    grid: PatchGrid
    category: NDArray[np.uint8]

    @classmethod
    def of(cls, state: FormState) -> Self:
        """Plan a form.

        Raises
        ------
        PatchsetError
            If the form's values do not fit its sources.
        """
        sources = state.infos()
        grid = state.recipe.strategy.plan(sources)
        return cls(state, sources, grid, np.zeros(len(grid), np.uint8))

    @property
    def shown(self) -> SourceInfo:
        """The source that is on the screen."""
        return self.sources[self.state.shown]

    @property
    def step(self) -> tuple[int, int]:
        """How far neighbours lie apart along YX."""
        overlap = getattr(self.state.recipe.strategy, "overlap", ()) or (0, 0)
        height, width = (p - o for p, o in zip(self.grid.size[-2:], overlap[-2:], strict=True))
        return height, width

    def summary(self) -> str:
        """Say how many patches there are and what they take on disk, as rich text."""
        info, n = self.sources[0], len(self.grid)
        nbytes = n * prod(self.grid.size) * len(info.channels) * info.itemsize
        scenes = f" in {len(self.sources)} images" if len(self.sources) > 1 else ""
        lines = [f"<b>{n:,}</b> patches{scenes}, {_bytes(nbytes)}"]
        lines += [f"{count:,} left out: {why}" for why, count in self.grid.dropped.items()]
        return "<br>".join(lines)


def size_hint(size: tuple[int, ...], info: SourceInfo) -> str:
    """Say how large a patch is in micrometres, and warn of a size that networks dislike."""
    pixel = {"Z": info.pixel_size.z, "Y": info.pixel_size.y, "X": info.pixel_size.x}
    pixels = [pixel.get(axis) for axis in info.layout.spatial_axes]
    known = [f"{n * p:.1f}" for n, p in zip(size, pixels, strict=True) if p]
    said = [f"{_by(known)} µm"] if all(pixels[-2:]) else []
    if odd := [n for n in size[-2:] if n % MULTIPLE]:
        said.append(f"{odd[0]} is no multiple of {MULTIPLE}, as most networks want it")
    return "<br>".join(said)


def _by(values: Iterable[object]) -> str:
    return " × ".join(map(str, values))


def _bytes(count: int) -> str:
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"
