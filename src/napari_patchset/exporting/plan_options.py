"""The options that say what a plan is; None is what was not given.

From options to a plan, on top of one that was saved or from nothing.

Images of equal geometry beside the sources: targets, labels, masks.

A plan as words: the command's options, the plan that they make, and the way back.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError

from napari_patchset._model import user_message
from napari_patchset.axes import DEPTH_AXES
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.option_syntax import (
    read_channels,
    read_numbers,
    read_ranges,
    read_scene,
)
from napari_patchset.exporting.plan import (
    BESIDE,
    ExportPlan,
    ImageRef,
    Recipe,
    SourceRef,
    choose_scenes,
    expand_sources,
)
from napari_patchset.exporting.sources import mask_region
from napari_patchset.patching.filters import parse_filter
from napari_patchset.patching.regions import Region
from napari_patchset.patching.splits import Split
from napari_patchset.patching.strategies import STRATEGIES, Tiled
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import is_remote, local_path, split_source


def _values_of(model: type[BaseModel], field: str) -> str:
    """List the values that a field of a model takes, as the help shows them."""
    values: tuple[Any, ...] = get_args(model.model_fields[field].annotation)
    return "|".join(values)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Each field is an option of the commands that take a plan, and says so in its help."""

    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A saved plan; each option that is given overrides it."),
    ] = None
    scene: Annotated[
        str | None, typer.Option(metavar="ID", help='The id of one scene, or "all" (all).')
    ] = None
    depth_axis: Annotated[
        str | None,
        typer.Option(metavar="|".join(DEPTH_AXES), help="The third axis of a patch (none)."),
    ] = None
    channels: Annotated[
        str | None, typer.Option(metavar="LIST", help="By index or name: 0,2 or DAPI,EGFP (all).")
    ] = None
    select: Annotated[
        str | None,
        typer.Option(
            metavar="RANGES",
            help="Ranges in the file's own numbers, ends left out: Z=5:25,T=:10 (all).",
        ),
    ] = None
    strategy: Annotated[
        str | None,
        typer.Option(metavar="|".join(STRATEGIES), help="How patches are chosen (tiled)."),
    ] = None
    patch_size: Annotated[
        str | None,
        typer.Option(metavar="Y,X", help="Pixels along Y,X, or Z,Y,X with a depth axis (64,64)."),
    ] = None
    overlap: Annotated[
        str | None, typer.Option(metavar="Y,X", help="Tiled: pixels shared by neighbours (0).")
    ] = None
    edge: Annotated[
        str | None,
        typer.Option(
            metavar=_values_of(Tiled, "edge"),
            help="Tiled: what becomes of a last patch that does not fit (shift).",
        ),
    ] = None
    count: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Random: patches in each sample.")
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of what is drawn, and of the split (0)."),
    ] = None
    region: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where patches may lie: a mask image, or a JSON file such as "
            '{"kind": "rectangle", "x": 0, "y": 0, "w": 9, "h": 9}.',
        ),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Target images, cut at the same places: a file, or a folder with a file of the "
            "same name for each.",
        ),
    ] = None
    labels: Annotated[
        str | None, typer.Option(metavar="PATH", help="Label images, given like --target.")
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Mask images for the filter mask, given like --target (the labels).",
        ),
    ] = None
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help='Keep patches that pass: "std>5", "max[DAPI]>p10", "mean<otsu"; may be repeated.',
        ),
    ] = None
    keep_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the rejected patches kept all the same (0)."),
    ] = None
    val: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of patches set apart for validation (none)."),
    ] = None
    split_by: Annotated[
        str | None,
        typer.Option(
            metavar=_values_of(Split, "by"), help="What goes into one split as a whole (auto)."
        ),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Pixel type to cast to, refused where something is lost (the files' own).",
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(metavar="|".join(FORMATS), help="Format of the set (zarr)."),
    ] = None
    codec: Annotated[
        str | None,
        typer.Option(metavar=_values_of(Recipe, "codec"), help="Compression of a zarr set (none)."),
    ] = None


def pair(sources: Iterable[SourceRef], role: str, path: str) -> list[SourceRef]:
    """Put the image at a path beside each source, in its own scene where there are several.

    A path stands for one file, or for a folder in which each source has a file of its name.

    Raises
    ------
    ArgumentError
        If a source has no image there, or several files would share one.
    """
    sources = list(sources)
    files = {ref.path for ref in sources}
    partners = {file: _partner(file, path) for file in files}
    if len(files) > len(set(partners.values())):
        raise ArgumentError(
            f"--{role} is {path}, one image for {len(files)} files; give a folder that holds a "
            "file of the same name for each of them."
        )
    images = {partner: _scenes(partner) for partner in partners.values()}
    found = [_choose(images[partners[ref.path]], ref, role) for ref in sources]
    return [ref.model_copy(update={role: one}) for ref, one in zip(sources, found, strict=True)]


def _partner(file: str, path: str) -> str:
    """Give the file of the same name in a folder, else the path itself."""
    if is_remote(path):
        return path
    path = local_path(path)
    same_name = Path(path, Path(file).name)
    return str(same_name) if same_name.exists() else path


def _scenes(path: str) -> list[ImageRef]:
    """Give the images of a file, or the one that its name chooses."""
    file, chosen = split_source(path)
    return [ImageRef(path=str(file), scene=i) for i in choose_scenes(file, chosen)]


def _choose(images: Sequence[ImageRef], ref: SourceRef, role: str) -> ImageRef:
    """Take the only image, else the one of the source's scene."""
    found = [image for image in images if len(images) == 1 or image.scene == ref.scene]
    if not found:
        listed = ", ".join(map(str, images))
        raise ArgumentError(f"No {role} for {ref}: its images are {listed}.")
    return found[0]


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
