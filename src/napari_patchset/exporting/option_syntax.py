"""How the values of options are written, and read again.

The way back: the command line that makes a plan.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import BESIDE, ExportPlan, SourceRef
from napari_patchset.patching.axis_ranges import AxisRange
from napari_patchset.source import ChannelId, SceneId

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def read_numbers(option: str, text: str) -> tuple[int, ...]:
    """Read "64,64".

    Raises
    ------
    ArgumentError
        If these are no numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(f"{option} is {text!r}; give numbers like 64,64.") from None


def read_ranges(text: str) -> dict[str, AxisRange]:
    """Read "Z=5:25,T=:10".

    Raises
    ------
    ArgumentError
        If these are no ranges.
    """
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


def read_channels(text: str) -> tuple[ChannelId, ...]:
    """Read "0,DAPI": decimal digits are an index, all else is a name."""
    return tuple(_number_or_name(part.strip()) for part in text.split(","))


def read_scene(text: str) -> SceneId | Literal["all"]:
    """Read a scene's id; decimal digits are a number."""
    return _number_or_name(text)


def read_bytes(option: str, text: str) -> int:
    """Read "512MiB" or "1.5 GB": whole bytes.

    Raises
    ------
    ArgumentError
        If this is no number with a unit.
    """
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text.strip().lower())
    if not found or found[2] not in units:
        raise ArgumentError(
            f"{option} is {text!r}; give a number and one of {', '.join(_UNITS)}, like 512MiB."
        )
    return int(float(found[1]) * units[found[2]])


def write_bytes(n: int) -> str:
    """Write what `read_bytes` reads, in MiB rounded down."""
    return f"{n // _UNITS['MiB']}MiB"


def write_values(values: Iterable[object]) -> str:
    """Write what `read_numbers` and `read_channels` read."""
    return ",".join(map(str, values))


def write_ranges(ranges: Mapping[str, AxisRange]) -> str:
    """Write what `read_ranges` reads."""
    ends = {axis: ["" if n is None else n for n in pair] for axis, pair in ranges.items()}
    return ",".join(f"{axis}={first}:{stop}" for axis, (first, stop) in ends.items())


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


_OPTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "depth_axis": ("--depth-axis", str),
    "channels": ("--channels", write_values),
    "keep_fraction": ("--keep-fraction", str),
    "dtype": ("--dtype", str),
    "format": ("--format", str),
    "codec": ("--codec", str),
    "strategy.kind": ("--strategy", str),
    "strategy.size": ("--patch-size", write_values),
    "strategy.overlap": ("--overlap", write_values),
    "strategy.edge": ("--edge", str),
    "strategy.count": ("--count", str),
    "strategy.seed": ("--seed", str),
    "strategy.select": ("--select", write_ranges),
    "split.val": ("--val", str),
    "split.by": ("--split-by", str),
    "split.seed": ("--seed", str),
}
"""Field of a plan -> the option that says it, and how its value is written."""

_PARTS = ("strategy", "split", "filters")


def command_line(plan: ExportPlan, memory: int | None = None) -> str | None:
    """Write a plan as one command; None where only a saved plan can say it.

    Listed patches, regions, and scenes of several names have no words of their own.

    Parameters
    ----------
    memory : int or None
        Bytes that the export takes, if that is not the default.
    """
    files, pairs = _files(plan.sources), [_partner(plan.sources, role) for role in BESIDE]
    said = _said(plan)
    if None in (files, *pairs) or not said.keys() <= _OPTIONS.keys() or _seeds_differ(plan):
        return None
    options = {_OPTIONS[name][0]: _OPTIONS[name][1](value) for name, value in said.items()}
    named = [word for words in (files, *pairs) for word in words or ()]
    filters = [word for one in plan.filters for word in ("--filter", str(one))]
    chosen = [word for option in options.items() for word in option]
    taken = [] if memory is None else ["--memory", write_bytes(memory)]
    return shlex.join(["patchset", "export", *named, "--out", plan.out, *chosen, *filters, *taken])


def _files(refs: Sequence[SourceRef]) -> list[str] | None:
    """Name the files, "name.czi@3" each with its scene, or one scene for all of them."""
    scenes = {ref.scene for ref in refs}
    (scene, *others) = scenes
    if isinstance(scene, str) and not others:
        return [*(ref.path for ref in refs), "--scene", scene]
    if any(isinstance(scene, str) for scene in scenes):
        return None
    return [ref.path if ref.scene is None else f"{ref.path}@{ref.scene}" for ref in refs]


def _partner(refs: Sequence[SourceRef], role: str) -> list[str] | None:
    """Name the one file beside all sources; none, or one of the same scene, has words."""
    partners = [getattr(ref, role) for ref in refs]
    if not any(partners):
        return []
    same = all(
        one and one.scene in (None, ref.scene) for one, ref in zip(partners, refs, strict=True)
    )
    paths = {one.path for one in partners if one}
    return [f"--{role}", *paths] if same and len(paths) == 1 else None


def _said(plan: ExportPlan) -> dict[str, Any]:
    """Give what a plan says beyond the defaults, by field."""
    said = {} if plan.strategy.kind == "tiled" else {"strategy.kind": plan.strategy.kind}
    said |= {f"strategy.{name}": value for name, value in _changed(plan.strategy).items()}
    if plan.split is not None:
        said |= {f"split.{name}": value for name, value in _changed(plan.split).items()}
    own = _changed(plan.recipe)
    return said | {name: own[name] for name in own if name not in _PARTS}


def _changed(model: BaseModel) -> dict[str, Any]:
    """Give the fields of a model that do not have their default."""
    fields = type(model).model_fields
    return {
        name: value
        for name, value in model
        if value != fields[name].get_default(call_default_factory=True)
    }


def _seeds_differ(plan: ExportPlan) -> bool:
    """Whether strategy and split have seeds of their own; the command has one for both."""
    own = getattr(plan.strategy, "seed", None)
    return plan.split is not None and own is not None and own != plan.split.seed
