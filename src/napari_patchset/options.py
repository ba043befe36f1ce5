"""The command's options for where patches lie: their types, and the plan that they make."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan, expand_sources
from napari_patchset.patching.lattice import Edge
from napari_patchset.source import SceneId

Kind = Literal["tiled", "random", "stratified", "whole"]

Scene = Annotated[str, typer.Option("--scene", help='The id of a scene, or "all".')]
Depth = Annotated[DepthAxis, typer.Option(help="The third axis of a patch.")]
Channels = Annotated[str | None, typer.Option(help="By index or name: 0,2 or DAPI,EGFP.")]
Select = Annotated[
    str | None, typer.Option(help="Half-open ranges in the file's numbers: Z=5:25,T=:10.")
]
Strategy = Annotated[Kind, typer.Option(help="How patches are chosen.")]
PatchSize = Annotated[str, typer.Option(help="Pixels along Y,X, or Z,Y,X with a depth axis.")]
Overlap = Annotated[str, typer.Option(help="Tiled: pixels shared by neighbours.")]
EdgeOption = Annotated[Edge, typer.Option("--edge", help="Tiled: where the grid does not fit.")]
Count = Annotated[int | None, typer.Option(min=1, help="Random: patches in each sample.")]
Seed = Annotated[int, typer.Option(help="Random, stratified: another seed, other patches.")]
Region = Annotated[
    Path | None, typer.Option(help='A JSON file: {"kind": "rectangle", "x": 0, "y": 0, ...}.')
]


class PatchOptions(BaseModel):
    """What the options say, before it is a plan."""

    scene: str = "all"
    depth_axis: DepthAxis = "none"
    channels: str | None = None
    select: str | None = None
    strategy: Kind = "tiled"
    patch_size: str = "64,64"
    overlap: str = "0"
    edge: Edge = "shift"
    count: int | None = None
    seed: int = 0
    region: Path | None = None

    def plan(self, files: list[str], out: str) -> ExportPlan:
        """Make the plan for some files.

        Raises
        ------
        ArgumentError, ValidationError
            If an option can't be understood, or does not fit the others.
        """
        channels = self.channels.split(",") if self.channels else None
        return ExportPlan.model_validate(
            {
                "sources": expand_sources(files, _scene_id(self.scene)),
                "strategy": self._strategy(),
                "depth_axis": self.depth_axis,
                "channels": channels and [_number_or_name(channel) for channel in channels],
                "out": out,
            }
        )

    def _strategy(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"kind": self.strategy}
        if self.strategy != "whole":
            chosen["size"] = _numbers("--patch-size", self.patch_size)
        if self.strategy == "tiled":
            shared = _numbers("--overlap", self.overlap)
            every = shared * len(chosen["size"]) if len(shared) == 1 else shared
            chosen |= {"overlap": every, "edge": self.edge}
        if self.strategy == "random":
            if self.count is None:
                raise ArgumentError("Random patches need --count, the number in each sample.")
            chosen["count"] = self.count
        if self.strategy in ("random", "stratified"):
            chosen["seed"] = self.seed
        if self.select:
            chosen["select"] = _ranges(self.select)
        if self.region:
            chosen["region"] = _json(self.region)
        return chosen


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"{option} is {text!r}; give numbers like 64,64.") from None


def _ranges(text: str) -> dict[str, tuple[int | None, int | None]]:
    ranges = {}
    for part in text.split(","):
        axis, _, span = part.partition("=")
        first, colon, last = span.partition(":")
        try:
            start, stop = (int(n) if n.strip() else None for n in (first, last))
        except ValueError:
            colon = ""
        if not colon:
            raise ArgumentError(f"--select is {text!r}; give ranges like Z=5:25,T=:10.")
        ranges[axis.strip().upper()] = start, stop
    return ranges


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{path}: not a JSON file: {error}") from None


def _number_or_name(text: str) -> int | str:
    return int(text) if text.strip().isdecimal() else text.strip()


def _scene_id(text: str) -> SceneId | Literal["all"]:
    return int(text) if text.isdecimal() else text
