"""From options to a plan, on top of one that was saved or from nothing."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import BESIDE, SourceRef, expand_sources
from napari_patchset.export.sources.masks import mask_region
from napari_patchset.model import user_message
from napari_patchset.options.given import PlanOptions
from napari_patchset.options.pairing import pair
from napari_patchset.options.texts import read_channels, read_numbers, read_ranges, read_scene
from napari_patchset.patching.filters import parse_filter
from napari_patchset.patching.regions import Region
from napari_patchset.patching.strategies import STRATEGIES

Fields = dict[str, Any]
"""A part of a plan, as it stands in its file."""

_AS_GIVEN = ("depth_axis", "keep_fraction", "dtype", "format", "codec")
_OF_STRATEGY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "patch_size": ("size", lambda text: read_numbers("--patch-size", text)),
    "overlap": ("overlap", lambda text: read_numbers("--overlap", text)),
    "edge": ("edge", str),
    "count": ("count", int),
    "select": ("select", read_ranges),
    "region": ("region", lambda path: _read_region(path)),
}
"""Option -> field of the strategy, and how it is read."""

_PARTS = {"sources": list, "strategy": dict}
"""What is read of a saved plan before it is a plan again."""

_REGION: TypeAdapter[Region] = TypeAdapter(Region)
_DEFAULT_SIZE = (64, 64)


def make_plan(options: PlanOptions, files: Sequence[str], out: str | None) -> ExportPlan:
    """Make the plan for some files, or for those of the saved plan.

    Raises
    ------
    ArgumentError, ValidationError
        If an option can't be understood, or does not fit the others.
    """
    try:
        return _make_plan(options, files, out)
    except ValidationError as error:
        if options.plan is None:
            raise
        raise ArgumentError(f"With {options.plan}: {user_message(error, option_of)}.") from error


def _make_plan(options: PlanOptions, files: Sequence[str], out: str | None) -> ExportPlan:
    saved = _saved(options.plan) if options.plan else {}
    plan = saved | {
        "sources": _sources(options, files, saved),
        "strategy": _strategy(options, saved.get("strategy", {})),
        "split": _split(options, saved.get("split")),
    }
    plan |= {name: given for name in _AS_GIVEN if (given := getattr(options, name)) is not None}
    if options.filter:
        plan["filters"] = [parse_filter(text) for text in options.filter]
    if options.channels:
        plan["channels"] = read_channels(options.channels)
    if out:
        plan["out"] = out
    return ExportPlan.model_validate(plan)


def _saved(path: Path) -> Fields:
    """Read a plan as the window saves it, or as an export under way keeps it."""
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ArgumentError(f"{path}: not a plan; a plan is a JSON object, as the window saves it.")
    plan: Fields = content.get("plan", content)
    if unknown := set(plan) - set(ExportPlan.model_fields):
        raise ArgumentError(
            f"{path}: there is no {', '.join(sorted(unknown))} in a plan; save it again with the "
            "version that is to run it."
        )
    for name, kind in _PARTS.items():
        if not isinstance(plan.get(name, kind()), kind):
            raise ArgumentError(f"{path}: {name} is {plan[name]!r:.60}; save the plan again.")
    return plan


def _sources(options: PlanOptions, files: Sequence[str], saved: Fields) -> list[SourceRef]:
    sources = [
        SourceRef.of(ref) if isinstance(ref, str) else SourceRef.model_validate(ref)
        for ref in saved.get("sources", ())
    ]
    if files or options.scene is not None:
        named = files or list(dict.fromkeys(ref.path for ref in sources))
        sources = expand_sources(named, read_scene(options.scene or "all"))
    for role in BESIDE:
        if path := getattr(options, role):
            sources = pair(sources, role, path)
    return sources


def _strategy(options: PlanOptions, saved: Fields) -> Fields:
    """Take over what the saved strategy and the new one have in common."""
    kind = options.strategy or saved.get("kind", "tiled")
    if kind not in STRATEGIES:
        raise ArgumentError(f"--strategy is {kind!r}; it is one of {', '.join(STRATEGIES)}.")
    fields = STRATEGIES[kind].model_fields
    chosen: Fields = {"size": _DEFAULT_SIZE} if "size" in fields else {}
    chosen |= {name: value for name, value in saved.items() if name in fields}
    chosen |= {"kind": kind} | _given_to(kind, options)
    _require_needed(chosen)
    if len(chosen.get("overlap", ())) == 1:
        chosen["overlap"] *= len(chosen["size"])
    return chosen


def _given_to(kind: str, options: PlanOptions) -> Fields:
    """Read the options that are of a strategy; one of another strategy is refused."""
    fields, given = STRATEGIES[kind].model_fields, Fields()
    for option, (name, read) in _OF_STRATEGY.items():
        if (value := getattr(options, option)) is None:
            continue
        if name not in fields:
            others = " or ".join(one for one, m in STRATEGIES.items() if name in m.model_fields)
            raise ArgumentError(f"{_flag(option)} is for {others} patches, not for {kind} ones.")
        given[name] = read(value)
    if options.seed is not None and "seed" in fields:
        given["seed"] = options.seed
    return given


def _require_needed(chosen: Fields) -> None:
    if chosen["kind"] == "fixed" and "patches" not in chosen:
        raise ArgumentError("Fixed patches are listed in a plan; give it with --plan.")
    if chosen["kind"] == "random" and "count" not in chosen:
        raise ArgumentError("Random patches need --count, the number in each sample.")


def _split(options: PlanOptions, saved: Fields | None) -> Fields | None:
    given = {"val": options.val, "by": options.split_by, "seed": options.seed}
    given = {name: value for name, value in given.items() if value is not None}
    if saved is None and options.val is None:
        if options.split_by is not None:
            raise ArgumentError("--split-by needs --val, the share of patches that validate.")
        return None
    return (saved or {}) | given


def _read_region(path: Path) -> Any:
    if path.suffix != ".json":
        return mask_region(str(path))
    try:
        return _REGION.validate_python(_read_json(path))
    except ValidationError as error:
        raise ArgumentError(f"{path}: no region: {user_message(error)}.") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{path}: not a JSON file: {error}") from None


def option_of(field: str) -> str:
    """Give the option that sets a field of a plan, or the field's own name."""
    option = {name: option for option, (name, _) in _OF_STRATEGY.items()} | {"by": "split_by"}
    name = option.get(field, field)
    return _flag(name) if name in PlanOptions.__dataclass_fields__ else field


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
