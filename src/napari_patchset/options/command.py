"""The way back: the command line that makes a plan."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import BESIDE, SourceRef
from napari_patchset.options.texts import write_bytes, write_ranges, write_values

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
