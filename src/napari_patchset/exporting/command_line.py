"""A plan as one command: the inverse of `make_plan`, by the same table of options."""

import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from napari_patchset.exporting.plan import PAIR_ROLES, ExportPlan, SourceRef
from napari_patchset.exporting.plan_options import OPTIONS, PlanOption, format_bytes


def command_line(plan: ExportPlan, memory: int | None = None) -> str | None:
    """Return the command that makes and runs a plan, or None if only a saved plan can describe it.

    Listed patches, regions, and scenes of several names have no options.

    Parameters
    ----------
    memory : int or None
        Bytes for --memory; None for the default.
    """
    sources, pairs = _files(plan.sources), [_pair(plan.sources, role) for role in PAIR_ROLES]
    values = _values(plan)
    options = [_words(option, values) for option in OPTIONS]
    known = {field for option in OPTIONS for field in option.fields}
    if None in (sources, *pairs, *options) or not values.keys() <= known:
        return None
    words = [word for part in (sources, *pairs) for word in part or ()]
    words += ["--out", plan.out, *(word for option in options for word in option or ())]
    words += [] if memory is None else ["--memory", format_bytes(memory)]
    return shlex.join(["patchset", "export", *words])


def _files(refs: Sequence[SourceRef]) -> list[str] | None:
    """Return the files, each with its scene as "name.czi@3", or with one --scene for all."""
    scenes = {ref.scene for ref in refs}
    (scene, *others) = scenes
    if isinstance(scene, str) and not others:
        return [*(ref.path for ref in refs), "--scene", scene]
    if any(isinstance(scene, str) for scene in scenes):
        return None
    return [ref.path if ref.scene is None else f"{ref.path}@{ref.scene}" for ref in refs]


def _pair(refs: Sequence[SourceRef], role: str) -> list[str] | None:
    """Return the option for paired images: one file for all sources, of the same scenes."""
    images = [getattr(ref, role) for ref in refs]
    if not any(images):
        return []
    paths = {image.path for image in images if image}
    is_same_scene = all(
        image and image.scene in (None, ref.scene) for image, ref in zip(images, refs, strict=True)
    )
    return [f"--{role}", *paths] if is_same_scene and len(paths) == 1 else None


def _words(option: PlanOption, values: dict[str, Any]) -> list[str] | None:
    """Return an option and its value, [] if it has its default, None if that can't be written."""
    own = [values[field] for field in option.fields if field in values]
    if not own:
        return []
    if option.format is None or any(value != own[0] for value in own):
        return None
    texts = map(str, own[0]) if option.name == "filter" else [option.format(own[0])]
    return [word for text in texts for word in (option.flag, text)]


def _values(plan: ExportPlan) -> dict[str, Any]:
    """Return the values of a recipe that are not the default, by field ("strategy.size").

    Seeds are either all left out or all there: the command has one option for them.
    """
    strategy, split = plan.strategy, plan.split
    values = {n: v for n, v in _changed(plan.recipe).items() if n not in ("strategy", "split")}
    if strategy.kind != "tiled":
        values["strategy.kind"] = strategy.kind
    values |= {f"strategy.{name}": value for name, value in _changed(strategy).items()}
    if split is not None:
        values |= {f"split.{name}": value for name, value in _changed(split).items()}
    seeds = {"strategy.seed": getattr(strategy, "seed", None), "split.seed": split and split.seed}
    if seeds.keys() & values.keys():
        values |= {name: seed for name, seed in seeds.items() if seed is not None}
    return values


def _changed(model: BaseModel) -> dict[str, Any]:
    """Return the fields of a model that do not have their default."""
    fields = type(model).model_fields
    return {
        name: value
        for name, value in model
        if value != fields[name].get_default(call_default_factory=True)
    }
