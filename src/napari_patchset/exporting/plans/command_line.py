"""A plan as a command line: `make_plan` reads its options, `command_line` writes them.

Both go by the table in `options`.
"""

import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from napari_patchset._model import user_message
from napari_patchset.channels import check_bare_numbers
from napari_patchset.errors import SOURCE_ERRORS, ArgumentError
from napari_patchset.exporting.plans.image_refs import (
    ANNOTATIONS,
    PAIR_ROLES,
    SourceRef,
    format_class_names,
)
from napari_patchset.exporting.plans.options import OPTIONS, PlanOption, format_bytes, option_of
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.exporting.plans.region_files import named_region, parse_json_file
from napari_patchset.exporting.plans.samples import SampleSheet
from napari_patchset.exporting.plans.source_files import (
    expand_sources,
    sequence_source,
    with_annotations,
    with_images,
)
from napari_patchset.patching.filters.syntax import channel_text
from napari_patchset.patching.regions import Region
from napari_patchset.patching.splits.search import BY
from napari_patchset.patching.splits.sheet_columns import SPLIT_COLUMN
from napari_patchset.patching.strategies import STRATEGIES
from napari_patchset.patchset.layout import LABELS
from napari_patchset.stacks.metadata import channel_names
from napari_patchset.stacks.sequence import SEQUENCE_AXES, SequenceAxis, numbers_notice

Progress = Callable[[str, int, int], object]
"""Is called with a stage, how much of it is done, and of how much."""

Fields = dict[str, Any]
"""A plan, or a part of one, as in its JSON file."""


def _fields_of(part: str) -> dict[str, str]:
    """Return the fields of a part of a plan, "strategy.", by the option that sets them."""
    set_by = [(option.name, field) for option in OPTIONS for field in option.fields]
    return {name: f.removeprefix(part) for name, f in set_by if f.startswith(part)}


_SOURCE_FIELDS, _STRATEGY_FIELDS = _fields_of("source."), _fields_of("strategy.")
_PLAN_FIELDS = {o.name: f for o in OPTIONS for f in o.fields if f in ExportPlan.model_fields}
_SPLIT_FIELDS = {name: f for name, f in _fields_of("split.").items() if name != "seed"}
"""The options that only make sense with a split."""


def make_plan(
    files: Sequence[str],
    out: str | None,
    *,
    plan: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
    **options: Any,
) -> ExportPlan:
    """Make the plan that a command line describes.

    Parameters
    ----------
    files : sequence of str
        The sources; none for those of the saved plan.
    out : str or None
        The set to write; None for that of the saved plan.
    plan : Path or None
        A saved plan, whose values the options override.
    progress : callable
        Called with "list", the number of files whose scenes are listed, and of all; or with "read",
        the megabytes that are read of a region, and of all.
    **options
        By the names of `OPTIONS`; None is an option that is not set.

    Raises
    ------
    ArgumentError
        If an option can't be parsed, or does not fit the others.
    """
    options = {name: value for name, value in options.items() if value is not None}
    fields = _read_plan(plan) if plan else {}
    if for_prediction := options.pop("for_prediction", False):
        fields, options = _for_prediction(fields, options)
    try:
        sources = _sources(files, options, fields.get("sources", ()), progress)
        if for_prediction:
            sources = [_without_split(ref) for ref in sources]
        elif (
            any(SPLIT_COLUMN in dict(ref.columns) for ref in sources)
            and str(options.get("split_by", SPLIT_COLUMN)).casefold() == SPLIT_COLUMN
        ):
            options["split_by"] = SPLIT_COLUMN
        fields |= {
            "sources": sources,
            "strategy": _strategy(options, fields.get("strategy", {}), progress),
            "split": _split(options, fields.get("split")),
        }
        fields |= {_PLAN_FIELDS[name]: options[name] for name in _PLAN_FIELDS if name in options}
        _check_channel_texts(fields["sources"], options)
        if out:
            fields["out"] = out
        made = ExportPlan.model_validate(fields)
    except ValidationError as error:
        where = f"With {plan}: " if plan else ""
        raise ArgumentError(f"{where}{user_message(error, option_of)}.") from error
    if options.get("codec", "none") != "none" and made.format != "zarr":
        raise ArgumentError(
            f"--codec is for the format zarr, not for {made.format}; omit it, or export a zarr."
        )
    return made


ANY_PIXEL = 1e-9
"""A share of a patch that a single pixel exceeds, however large the patch."""


def _for_prediction(fields: Fields, options: Fields) -> tuple[Fields, Fields]:
    """Return a plan and options that cover every pixel, without filters or a split."""
    if wrong := [name for name in ("filter", "dedupe", "count", *_SPLIT_FIELDS) if name in options]:
        flag = wrong[0].replace("_", "-")
        raise ArgumentError(
            f"--for-prediction takes every patch, so --{flag} can't go with it; leave one out."
        )
    if (kind := options.get("strategy", "tiled")) != "tiled":
        raise ArgumentError(f"--for-prediction takes tiled patches, not {kind}; leave one out.")
    saved = fields.get("strategy", {})
    tiled = saved if saved.get("kind", "tiled") == "tiled" else {"size": saved.get("size", ())}
    edge = options.get("edge", "shift")
    if edge == "drop":
        raise ArgumentError(
            "--for-prediction covers every pixel, which the edge drop does not; use shift, pad or "
            "balance."
        )
    strategy = {**tiled, "kind": "tiled", "small": "pad", "min_covered": ANY_PIXEL}
    fields = {**fields, "strategy": strategy, "split": None}
    fields |= {"filters": (), "overrides": (), "dedupe": None}
    return fields, {**options, "edge": edge}


def _without_split(ref: SourceRef) -> SourceRef:
    """Return a source without the split that the samples sheet states for it."""
    columns = tuple((name, value) for name, value in ref.columns if name != SPLIT_COLUMN)
    return ref.model_copy(update={"columns": columns})


def _check_channel_texts(sources: Sequence[SourceRef], options: Fields) -> None:
    """Refuse a number that names one channel of the first source and is the index of another."""
    texts = [options.get("channels", ""), *map(channel_text, options.get("filter", ()))]
    texts = [text for text in texts if re.search(r"\d", text)]
    if not texts or not sources:
        return
    with suppress(*SOURCE_ERRORS), sources[0].open() as stack:
        for text in texts:
            check_bare_numbers(text, channel_names(stack))


def _read_plan(path: Path) -> Fields:
    """Read a plan as the window saves it, or as an unfinished export stores it."""
    content = parse_json_file(path)
    if not isinstance(content, dict):
        raise ArgumentError(f"{path}: not a plan; a plan is a JSON object, as the window saves it.")
    plan: Fields = content.get("plan", content)
    if plan is not content:  # with the sources that could be read only
        plan["sources"] = content.get("requested", plan.get("sources"))
    if unknown := set(plan) - set(ExportPlan.model_fields):
        raise ArgumentError(
            f"{path}: {', '.join(sorted(unknown))} is not a field of a plan; save the plan again "
            "with the version that runs it."
        )
    for name, kind in {"sources": list, "strategy": dict}.items():
        if not isinstance(plan.get(name, kind()), kind):
            raise ArgumentError(f"{path}: {name} is {plan[name]!r:.60}; save the plan again.")
    return plan


def _sources(
    files: Sequence[str],
    options: Fields,
    saved: Iterable[Any],
    progress: Progress,
) -> list[SourceRef]:
    """Return every scene of the files, or the sources of the saved plan, with their pairs."""
    sources = [
        SourceRef.from_path(ref) if isinstance(ref, str) else SourceRef.model_validate(ref)
        for ref in saved
    ]
    if files or "scene" in options:
        scene = options.get("scene", "all")
        named = files or list(dict.fromkeys(ref.path for ref in sources))
        scene = int(scene) if scene.isdecimal() else scene
        if "sequence" in options:
            one = None if scene == "all" else scene
            joined = sequence_source(named, _sequence_axis(options["sequence"]), one)
            if joined.sequence and (notice := numbers_notice(joined.files or (), joined.sequence)):
                warnings.warn(notice, stacklevel=2)
            sources = [joined]
        else:
            sources = expand_sources(named, scene, partial(progress, "list"))
    if path := options.get(ANNOTATIONS):
        sources = with_annotations(sources, path, options.get("class_names"))
    elif "class_names" in options:
        raise ArgumentError("--class-names needs --annotations, the labels images that have them.")
    for role in PAIR_ROLES:
        if role != ANNOTATIONS and (path := options.get(role)):
            sources = with_images(sources, role, path)
    sources = [_stated(ref, options) for ref in sources]
    if "samples" in options:
        sources = list(SampleSheet.from_file(options["samples"]).assign(sources))
    return sources


def _sequence_axis(text: str) -> SequenceAxis:
    for axis in SEQUENCE_AXES:
        if axis == text.upper():
            return axis
    raise ArgumentError(f"--sequence is {text!r}; choose one of {', '.join(SEQUENCE_AXES)}.")


def _stated(ref: SourceRef, options: Fields) -> SourceRef:
    """Return a source with the overrides of the options; its pairs get the same axes."""
    overrides = {
        field: options[name]
        for name, field in _SOURCE_FIELDS.items()
        if name in options and name != "sequence"
    }
    if "axes" in overrides:
        axes = {"axes": overrides["axes"]}
        ref = ref.with_pairs(lambda image: image.model_copy(update=axes))
    return type(ref).model_validate({**dict(ref), **overrides}) if overrides else ref


def _strategy(options: Fields, saved: Fields, progress: Progress) -> Fields:
    """Return the strategy: options, else the fields that the saved one shares with this kind."""
    kind: str = options.get("strategy") or saved.get("kind", "tiled")
    if kind not in STRATEGIES:
        raise ArgumentError(f"--strategy is {kind!r}; choose one of {', '.join(STRATEGIES)}.")
    own = STRATEGIES[kind].model_fields
    strategy: Fields = {"size": "64,64"} if "size" in own else {}
    strategy |= {name: value for name, value in saved.items() if name in own} | {"kind": kind}
    for name, field in _STRATEGY_FIELDS.items():
        if name not in options:
            continue
        if field in own:
            value = options[name]
            strategy[field] = _region(str(value), progress) if field == "region" else value
        elif field != "seed":  # which is also that of the split
            others = " or ".join(k for k, m in STRATEGIES.items() if field in m.model_fields)
            flag = name.replace("_", "-")
            raise ArgumentError(f"--{flag} is for {others} patches, not for {kind} ones.")
    if kind == "fixed" and "patches" not in strategy:
        raise ArgumentError("Fixed patches are listed in a saved plan; name it with --plan.")
    if kind == "random" and "count" not in strategy:
        raise ArgumentError("Random patches need --count, the number of patches per plane.")
    if kind == "balanced" and not {"count", "classes"} <= strategy.keys():
        raise ArgumentError(
            "Balanced patches need --count, the number of patches in all, and --classes, like "
            "mito=0.5,background=0.5."
        )
    return strategy


def _split(options: Fields, saved: Fields | None) -> Fields | None:
    chosen = {field: options[name] for name, field in _SPLIT_FIELDS.items() if name in options}
    if saved is None and not chosen.keys() & {"val", "test", "folds"}:
        # A column may state the splits; `Split.check_columns` refuses it if it does not.
        if chosen and chosen.get("by", BY[0]) in BY:
            flag = "--split-by" if "by" in chosen else "--stratify"
            raise ArgumentError(
                f"{flag} needs --val, the share of patches for validation, --test or --folds."
            )
        if not chosen:
            return None
    if {"val", "folds"} <= chosen.keys():
        raise ArgumentError(
            "--val and --folds exclude each other, as each fold validates once; omit --val or "
            "--folds."
        )
    saved = dict(saved or {})
    for one, other in (("val", "folds"), ("folds", "val")):
        if one in chosen and other not in chosen:
            saved.pop(other, None)
    return saved | chosen | ({"seed": options["seed"]} if "seed" in options else {})


def _region(path: str, progress: Progress) -> Region:
    def read(done: int, total: int) -> None:
        progress("read", done // 10**6, total // 10**6)

    return named_region(path, read)


def command_line(plan: ExportPlan, memory: int | None = None, samples: str = "") -> str | None:
    """Return the command that makes and runs a plan, or None if only a saved plan can describe it.

    What has no options is named by `without_option`.

    Parameters
    ----------
    memory : int or None
        Bytes for --memory; None for the default.
    samples : str
        The samples sheet that the sources have their values from, "" if its file is not known.
    """
    if without_option(plan, samples):
        return None
    sources, pairs = _files(plan.sources), [_pair(plan.sources, role) for role in PAIR_ROLES]
    values = _values(plan)
    options = {option.name: _words(option, values) for option in OPTIONS}
    of_sources = [options.pop(name) for name in _SOURCE_FIELDS]
    words = [word for part in (sources, *pairs, *of_sources) for word in part or ()]
    words += ["--out", plan.out, *(word for part in options.values() for word in part or ())]
    words += ["--samples", samples] if samples else []
    words += [] if memory is None else ["--memory", format_bytes(memory)]
    return shlex.join(["patchset", "export", *words])


def without_option(plan: ExportPlan, samples: str = "") -> list[str]:
    """Return what of a plan no option of the command can state, in words."""
    refs, values = plan.sources, _values(plan)
    lacking = {field for o in OPTIONS if _words(o, values) is None for field in o.fields}
    lacking |= values.keys() - {field for option in OPTIONS for field in option.fields}
    fields = [field for field in values if field in lacking]
    words = [_WITHOUT_OPTION.get(field, field.rpartition(".")[2]) for field in fields]
    if _files(refs) is None:
        words.append("scenes of several names" if len(refs) > 1 else "the files")
    words += [f"the {role} of each image" for role in PAIR_ROLES if _pair(refs, role) is None]
    if any(ref.overrides != refs[0].overrides for ref in refs):
        words.append("metadata that differ between the images")
    if not samples and any(ref.columns for ref in refs):
        words.append("the samples sheet")
    return list(dict.fromkeys(words))


_WITHOUT_OPTION = {
    "overrides": "choices by hand",
    "strategy.region": "the region",
    "strategy.patches": "the listed patches",
    "strategy.small": "what becomes of small images",
    "strategy.pad": "how patches are padded",
    "strategy.min_covered": "how much of a patch must have pixels",
    "strategy.per": "what the number of patches is for",
    "strategy.max_overlap": "the largest overlap",
    "strategy.seed": "two random seeds",
    "split.seed": "two random seeds",
}
"""What fields of a plan that have no option are called, or options of two fields that differ."""


def _files(refs: Sequence[SourceRef]) -> list[str] | None:
    """Return the files, each with its scene as "name.czi@3", or with one --scene for all."""
    if any(ref.files for ref in refs):
        (first, *more) = refs
        own = [] if first.scene is None else ["--scene", str(first.scene)]
        return None if more else [*(first.files or ()), *own]
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
    outlines = [ref.annotations for ref in refs]
    drawn = [each and (each.path, each.scene) for each in outlines]
    if role == LABELS and [image and (image.path, image.scene) for image in images] == drawn:
        return [f"--{role}", ANNOTATIONS]
    paths = {image.path for image in images if image}
    is_same_scene = all(
        image and (image.scene in (None, ref.scene))
        for image, ref in zip(images, refs, strict=True)
    )
    if not is_same_scene or len(paths) > 1 or (role == ANNOTATIONS and len(refs) > 1):
        return None
    names = getattr(images[0], "classes", None)
    return [f"--{role}", *paths, *(["--class-names", format_class_names(names)] if names else [])]


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
    """Return the values of a plan that are not the default, by field ("strategy.size").

    Of the sources, those of the first one. Seeds are either all left out or all there: the command
    has one option for them.
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
    overrides = plan.sources[0].overrides
    return values | {f"source.{name}": overrides[name] for name in overrides if name != "files"}


def _changed(model: BaseModel) -> dict[str, Any]:
    """Return the fields of a model that do not have their default."""
    fields = type(model).model_fields
    return {
        name: value
        for name, value in model
        if value != fields[name].get_default(call_default_factory=True)
    }
