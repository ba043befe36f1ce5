"""The options of the command that describe a plan.

`make_plan` reads them, `command_line` writes them. `OPTIONS` declares each option once: its name,
the fields of a plan that it sets, and how a value of them is written as text. Help and default are
those of the field, and the plan's models parse the text.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from napari_patchset._model import user_message
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import (
    PAIR_ROLES,
    SOURCE_ERRORS,
    ExportPlan,
    ImageRef,
    SourceRef,
)
from napari_patchset.exporting.sources import expand_sources, mask_region, sequence_source
from napari_patchset.patching.axis_ranges import format_ranges
from napari_patchset.patching.filter_syntax import channel_text
from napari_patchset.patching.regions import Region
from napari_patchset.patching.splits import Split
from napari_patchset.patching.strategies import STRATEGIES
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import (
    check_bare_numbers,
    format_channels,
    is_remote,
    local_path,
    split_source,
)
from napari_patchset.stacks.metadata import channel_names
from napari_patchset.stacks.opening import open_stack, scene_ids
from napari_patchset.stacks.sequence import SEQUENCE_AXES, SequenceAxis

Fields = dict[str, Any]
"""A plan, or a part of one, as in its JSON file."""

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_bytes(option: str, text: str) -> int:
    """Parse "512MiB" or "1.5 GB" as whole bytes; raise ArgumentError for anything else."""
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text.strip().lower())
    if not match or match[2] not in units:
        raise ArgumentError(
            f"{option} is {text!r}; give a number and one of {', '.join(_UNITS)}, like 512MiB."
        )
    return int(float(match[1]) * units[match[2]])


def format_bytes(n: int) -> str:
    """Return bytes as `parse_bytes` reads them, in MiB rounded down."""
    return f"{n // _UNITS['MiB']}MiB"


def format_values(values: Iterable[object]) -> str:
    """Return sizes as text: "64,64"."""
    return ",".join(map(str, values))


@dataclass(frozen=True)
class PlanOption:
    """An option of the commands that take a plan."""

    name: str  # "patch_size" is the option --patch-size
    panel: Literal["Source", "Patches", "Filters", "Split", "Output"]  # its group in help
    fields: tuple[str, ...] = ()  # what it sets in a plan; "strategy.size" is of the strategy
    format: Callable[[Any], str] | None = str  # writes the field's value; None if it has no text
    type: Any = str  # of the value on the command line
    metavar: str = ""  # how help names the value; by default the choices
    choices: tuple[str, ...] = ()
    help: str = ""
    default: str = ""  # how help names it

    @classmethod
    def of(cls, name: str, panel: Any, *fields: str, **more: Any) -> "PlanOption":
        """Declare an option, with help, choices and default of the first field it sets."""
        field, kinds = _find_field(fields[0])
        is_choice = get_origin(field.annotation) is Literal
        only = f"{kinds[0].capitalize()}: " if len(kinds) == 1 else ""
        description = field.description or ""
        own = {
            "choices": get_args(field.annotation) if is_choice else (),
            "help": only + (description[0].lower() + description[1:] if only else description),
            "default": field.default if isinstance(field.default, str) else "",
        }
        return cls(name, panel, fields, **own | more)

    @property
    def flag(self) -> str:
        """The option as it is written: "--patch-size"."""
        return "--" + self.name.replace("_", "-")

    @property
    def help_text(self) -> str:
        """Help with the default: "Pixels shared by neighbours (0)."."""
        return self.help.removesuffix(".") + (f" ({self.default})." if self.default else ".")

    def complete(self, incomplete: str) -> list[str]:
        """Return the choices that begin with a text, for the completion of shells."""
        return [choice for choice in self.choices if choice.startswith(incomplete)]


def _find_field(name: str) -> tuple[FieldInfo, list[str]]:
    """Return a field of a plan, and the kinds of strategies that have it if it is one of theirs."""
    part, _, name = name.rpartition(".")
    if part == "strategy":
        kinds = [kind for kind, model in STRATEGIES.items() if name in model.model_fields]
        return STRATEGIES[kinds[0]].model_fields[name], kinds
    model: type[BaseModel] = Split if part == "split" else ExportPlan
    return model.model_fields[name], []


_of = PlanOption.of
OPTIONS: tuple[PlanOption, ...] = (
    PlanOption("scene", "Source", metavar="ID", help='One scene, by its id, or "all" (all).'),
    _of("channels", "Source", "channels", metavar="LIST", format=format_channels, default="all"),
    _of(
        "select", "Source", "strategy.select", metavar="RANGES", format=format_ranges, default="all"
    ),
    PlanOption(
        "sequence",
        "Source",
        choices=SEQUENCE_AXES,
        help="The axis along which the files, in the order of their names, are one image "
        "(each is an image).",
    ),
    PlanOption(
        "axes",
        "Source",
        metavar="AXES",
        help="Axes of the files, where these do not state them: ZYX, TCYX (as stated).",
    ),
    PlanOption(
        "source_pixel_size",
        "Source",
        metavar="UM",
        help="Pixel size of the files in micrometres: 0.2, or Z,Y,X as 1,0.2,0.2 (as stated).",
    ),
    PlanOption(
        "channel_names",
        "Source",
        metavar="LIST",
        help='Names of the files\' channels: DAPI,EGFP or "Alexa 488, em 520",405 (as stated).',
    ),
    PlanOption(
        "target",
        "Source",
        metavar="PATH",
        help="Target images, cut at the same positions: a file, or a folder that holds a file of "
        "the same name for each source.",
    ),
    PlanOption("labels", "Source", metavar="PATH", help="Label images, named like --target."),
    PlanOption(
        "mask",
        "Source",
        metavar="PATH",
        help="Mask images for the filter mask, named like --target (the labels).",
    ),
    _of("depth_axis", "Patches", "depth_axis"),
    PlanOption(
        "strategy",
        "Patches",
        ("strategy.kind",),
        choices=tuple(STRATEGIES),
        help="How patches are chosen (tiled).",
    ),
    _of(
        "patch_size",
        "Patches",
        "strategy.size",
        metavar="Y,X",
        format=format_values,
        default="64,64",
    ),
    _of("overlap", "Patches", "strategy.overlap", metavar="Y,X", format=format_values, default="0"),
    _of("edge", "Patches", "strategy.edge"),
    _of("count", "Patches", "strategy.count", metavar="N", type=int),
    _of(
        "seed",
        "Patches",
        "strategy.seed",
        "split.seed",
        metavar="N",
        type=int,
        help="Seed of random patches and of the split.",
    ),
    _of(
        "region",
        "Patches",
        "strategy.region",
        metavar="FILE",
        format=None,
        help="Where patches may lie: a mask image, or a JSON file such as "
        '{"kind": "rectangle", "x": 0, "y": 0, "w": 9, "h": 9}.',
    ),
    _of(
        "filter",
        "Filters",
        "filters",
        metavar="TEXT",
        type=list[str],
        help='Keep only patches that pass: "std>5", "max[DAPI]>p10", "mean<otsu"; may be repeated.',
    ),
    _of("keep_fraction", "Filters", "keep_fraction", metavar="SHARE", type=float, default="0"),
    _of("val", "Split", "split.val", metavar="SHARE", type=float, default="no split"),
    _of("split_by", "Split", "split.by"),
    _of("format", "Output", "format", choices=tuple(FORMATS)),
    _of("dtype", "Output", "dtype", metavar="TYPE", default="that of the files"),
    _of("codec", "Output", "codec"),
)
"""Every option of a plan, in the order of help."""

_PLAN_FIELDS = {o.name: f for o in OPTIONS for f in o.fields if f in ExportPlan.model_fields}
_STRATEGY_FIELDS = {
    option: field.removeprefix("strategy.")
    for option in OPTIONS
    for field in option.fields
    if field.startswith("strategy.")
}


def option_of(field: str) -> str:
    """Return the option that sets a field of a plan, or the field's own name."""
    for option in OPTIONS:
        if any(name.rpartition(".")[2] == field for name in option.fields):
            return option.flag
    return field


def make_plan(
    files: Sequence[str], out: str | None, *, plan: Path | None = None, **options: Any
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
    **options
        By the names of `OPTIONS`; None is an option that is not set.

    Raises
    ------
    ArgumentError
        If an option can't be parsed, or does not fit the others.
    """
    options = {name: value for name, value in options.items() if value is not None}
    fields = _read_plan(plan) if plan else {}
    try:
        fields |= {
            "sources": _sources(files, options, fields.get("sources", ())),
            "strategy": _strategy(options, fields.get("strategy", {})),
            "split": _split(options, fields.get("split")),
        }
        fields |= {_PLAN_FIELDS[name]: options[name] for name in _PLAN_FIELDS if name in options}
        _check_channel_texts(fields["sources"], options)
        if out:
            fields["out"] = out
        return ExportPlan.model_validate(fields)
    except ValidationError as error:
        where = f"With {plan}: " if plan else ""
        raise ArgumentError(f"{where}{user_message(error, option_of)}.") from error


def _check_channel_texts(sources: Sequence[SourceRef], options: Fields) -> None:
    """Refuse a number that names one channel of the first source and is the index of another."""
    texts = [options.get("channels", ""), *map(channel_text, options.get("filter", ()))]
    texts = [text for text in texts if re.search(r"\d", text)]
    if not texts or not sources:
        return
    with (
        suppress(*SOURCE_ERRORS),
        open_stack(sources[0].path, sources[0].scene, **sources[0].stated) as stack,
    ):
        for text in texts:
            check_bare_numbers(text, channel_names(stack))


def _read_plan(path: Path) -> Fields:
    """Read a plan as the window saves it, or as an unfinished export stores it."""
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ArgumentError(f"{path}: not a plan; a plan is a JSON object, as the window saves it.")
    plan: Fields = content.get("plan", content)
    if unknown := set(plan) - set(ExportPlan.model_fields):
        raise ArgumentError(
            f"{path}: {', '.join(sorted(unknown))} is no field of a plan; save the plan again with "
            "the version that runs it."
        )
    for name, kind in {"sources": list, "strategy": dict}.items():
        if not isinstance(plan.get(name, kind()), kind):
            raise ArgumentError(f"{path}: {name} is {plan[name]!r:.60}; save the plan again.")
    return plan


def _sources(files: Sequence[str], options: Fields, saved: Iterable[Any]) -> list[SourceRef]:
    """Return every scene of the files, or the sources of the saved plan, with their pairs."""
    sources = [
        SourceRef.of(ref) if isinstance(ref, str) else SourceRef.model_validate(ref)
        for ref in saved
    ]
    if files or "scene" in options:
        scene = options.get("scene", "all")
        named = files or list(dict.fromkeys(ref.path for ref in sources))
        scene = int(scene) if scene.isdecimal() else scene
        if "sequence" in options:
            one = None if scene == "all" else scene
            sources = [sequence_source(named, _sequence_axis(options["sequence"]), one)]
        else:
            sources = expand_sources(named, scene)
    for role in PAIR_ROLES:
        if path := options.get(role):
            sources = _paired(sources, role, path)
    return [_stated(ref, options) for ref in sources]


def _sequence_axis(text: str) -> SequenceAxis:
    for axis in SEQUENCE_AXES:
        if axis == text.upper():
            return axis
    raise ArgumentError(f"--sequence is {text!r}; choose one of {', '.join(SEQUENCE_AXES)}.")


STATING = {
    "axes": "axes",
    "source_pixel_size": "pixel_size",
    "channel_names": "channel_names",
    "sequence": "sequence",
}
"""Fields of a source, by the option that sets them."""


def _stated(ref: SourceRef, options: Fields) -> SourceRef:
    """Return a source with what the options state of it; its pairs have its axes."""
    stated = {
        field: options[name]
        for name, field in STATING.items()
        if name in options and name != "sequence"
    }
    if "axes" in stated:
        axes = {"axes": stated["axes"]}
        ref = ref.with_pairs(lambda image: image.model_copy(update=axes))
    return type(ref).model_validate({**dict(ref), **stated}) if stated else ref


def _paired(sources: Sequence[SourceRef], role: str, path: str) -> list[SourceRef]:
    """Pair each source with the image at a path: a file, or a folder with a file of its name."""
    files = {ref.path: _partner(ref.path, path) for ref in sources}
    if len(files) > len(set(files.values())):
        raise ArgumentError(
            f"--{role} is {path}, one image for {len(files)} files; name a folder that holds a "
            "file of the same name for each of them."
        )
    images = {}
    for partner in files.values():
        file, scene = split_source(partner)
        if scene is not None:
            scene_ids(file, scene)
        images[partner] = ImageRef(path=str(file), scene=scene)
    return [
        ref.model_copy(update={role: images[files[ref.path]]}).with_pair_scenes() for ref in sources
    ]


def _partner(file: str, path: str) -> str:
    """Return the file of the same name in a folder, else the path itself."""
    if is_remote(path):
        return path
    path = local_path(path)
    same_name = Path(path, Path(file).name)
    return str(same_name) if same_name.exists() else path


def _strategy(options: Fields, saved: Fields) -> Fields:
    """Return the strategy: options, else what the saved one has in common with this kind."""
    kind: str = options.get("strategy") or saved.get("kind", "tiled")
    if kind not in STRATEGIES:
        raise ArgumentError(f"--strategy is {kind!r}; choose one of {', '.join(STRATEGIES)}.")
    own = STRATEGIES[kind].model_fields
    strategy: Fields = {"size": "64,64"} if "size" in own else {}
    strategy |= {name: value for name, value in saved.items() if name in own} | {"kind": kind}
    for option, field in _STRATEGY_FIELDS.items():
        if option.name not in options:
            continue
        if field in own:
            value = options[option.name]
            strategy[field] = _read_region(Path(value)) if field == "region" else value
        elif field != "seed":  # which is also that of the split
            others = " or ".join(k for k, m in STRATEGIES.items() if field in m.model_fields)
            raise ArgumentError(f"{option.flag} is for {others} patches, not for {kind} ones.")
    if kind == "fixed" and "patches" not in strategy:
        raise ArgumentError("Fixed patches are listed in a saved plan; name it with --plan.")
    if kind == "random" and "count" not in strategy:
        raise ArgumentError("Random patches need --count, the number of patches per plane.")
    return strategy


def _split(options: Fields, saved: Fields | None) -> Fields | None:
    if saved is None and "val" not in options:
        if "split_by" in options:
            raise ArgumentError("--split-by needs --val, the share of patches for validation.")
        return None
    names = {"val": "val", "split_by": "by", "seed": "seed"}
    return (saved or {}) | {names[name]: options[name] for name in names if name in options}


def _read_region(path: Path) -> Any:
    if path.suffix != ".json":
        return mask_region(str(path))
    try:
        return TypeAdapter[Region](Region).validate_python(_read_json(path))
    except ValidationError as error:
        raise ArgumentError(f"{path}: no region: {user_message(error)}.") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{path}: not a JSON file: {error}") from None


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
    stated = _stated_words(plan.sources)
    if None in (sources, *pairs, *options, stated) or not values.keys() <= known:
        return None
    words = [word for part in (sources, *pairs, stated) for word in part or ()]
    words += ["--out", plan.out, *(word for option in options for word in option or ())]
    words += [] if memory is None else ["--memory", format_bytes(memory)]
    return shlex.join(["patchset", "export", *words])


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
    paths = {image.path for image in images if image}
    is_same_scene = all(
        image and image.scene in (None, ref.scene) for image, ref in zip(images, refs, strict=True)
    )
    return [f"--{role}", *paths] if is_same_scene and len(paths) == 1 else None


def _stated_words(refs: Sequence[SourceRef]) -> list[str] | None:
    """Return the options for what is stated of the sources, None if they differ in it."""
    first = refs[0].stated
    if any(ref.stated != first for ref in refs):
        return None
    texts: dict[str, Callable[[Any], str]] = {
        "axes": str,
        "sequence": str,
        "pixel_size": lambda size: ",".join(f"{n!r}" for n in (size.z, size.y, size.x) if n),
        "channel_names": format_channels,
    }
    flags = {field: "--" + name.replace("_", "-") for name, field in STATING.items()}
    return [word for n in texts if n in first for word in (flags[n], texts[n](first[n]))]


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
