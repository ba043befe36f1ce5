"""The options of the command that describe a plan.

`OPTIONS` declares each option once: its name, the fields of a plan that it sets, and how a value of
them is written as text. Help and default are those of the field, and the plan's models parse the
text. `command_line` reads and writes plans as options.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from napari_patchset.channels import format_channels
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.patching.axis_ranges import format_ranges
from napari_patchset.patching.filters.patch_filters import FILTERS
from napari_patchset.patching.splits.search import BY
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import STRATEGIES
from napari_patchset.patching.strategies.balanced import format_shares
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import PixelSize
from napari_patchset.stacks.sequence import SEQUENCE_AXES

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_bytes(text: str) -> int:
    """Parse --memory, "512MiB" or "1.5 GB", as whole bytes; raise ArgumentError otherwise."""
    units = {unit.lower(): factor for unit, factor in _UNITS.items()}
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text.strip().lower())
    if not match or match[2] not in units:
        raise ArgumentError(
            f"--memory is {text!r}; give a number and one of {', '.join(_UNITS)}, like 512MiB."
        )
    return int(float(match[1]) * units[match[2]])


def format_bytes(n: int) -> str:
    """Return bytes as `parse_bytes` reads them, in MiB rounded down."""
    return f"{n // _UNITS['MiB']}MiB"


def format_values(values: Iterable[object]) -> str:
    """Return sizes as text: "64,64"."""
    return ",".join(map(str, values))


def format_pixel_size(size: PixelSize) -> str:
    """Return a pixel size as `parse_pixel_size` reads it: "1.0,0.2,0.2"."""
    return ",".join(repr(n) for n in (size.z, size.y, size.x) if n)


@dataclass(frozen=True)
class PlanOption:
    """An option of the commands that take a plan."""

    name: str  # "patch_size" is the option --patch-size
    fields: tuple[str, ...] = ()  # what it sets in a plan; "strategy.size" is of the strategy
    format: Callable[[Any], str] | None = str  # writes the field's value; None if it has no text
    type: Any = str  # of the value on the command line
    metavar: str = ""  # how help names the value; by default the choices
    choices: tuple[str, ...] = ()
    help: str = ""
    default: str = ""  # how help names it
    panel: str = ""  # its group in help

    @classmethod
    def from_field(cls, name: str, *fields: str, **more: Any) -> "PlanOption":
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
        return cls(name, fields, **own | more)

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
    models = {"split": Split.model_fields, "source": SourceRef.model_fields}
    return models.get(part, ExportPlan.model_fields)[name], []


def _panel(name: str, *options: PlanOption) -> list[PlanOption]:
    return [replace(option, panel=name) for option in options]


_option = PlanOption.from_field
OPTIONS: tuple[PlanOption, ...] = (
    *_panel(
        "Source",
        PlanOption("scene", metavar="ID", help='One scene, by its number, or "all" (all).'),
        _option("channels", "channels", metavar="LIST", format=format_channels, default="all"),
        _option("select", "strategy.select", metavar="RANGES", format=format_ranges, default="all"),
        _option("sequence", "source.sequence", choices=SEQUENCE_AXES, default="each is an image"),
        _option("axes", "source.axes", metavar="AXES", default="as in the file"),
        _option(
            "source_pixel_size",
            "source.pixel_size",
            metavar="UM",
            format=format_pixel_size,
            default="as in the file",
        ),
        _option(
            "channel_names",
            "source.channel_names",
            metavar="LIST",
            format=format_channels,
            default="as in the file",
        ),
        PlanOption(
            "target",
            metavar="PATH",
            help="Target images, cut at the same positions: a file, or a folder that holds a file "
            "of the same name for each source.",
        ),
        PlanOption(
            "labels",
            metavar="PATH",
            help="Label images, named like --target; or the word annotations, to make labels of "
            "their classes.",
        ),
        PlanOption(
            "mask",
            metavar="PATH",
            help="Mask images for the filter mask, named like --target (the labels).",
        ),
        PlanOption(
            "annotations",
            metavar="PATH",
            help="Outlines with a class, as QuPath exports them: a GeoJSON file, or a folder that "
            "holds NAME.geojson, NAME@SCENE.geojson for a scene. Or labels images, with "
            "--class-names.",
        ),
        PlanOption(
            "class_names",
            metavar="NAMES",
            help="Names of the values of labels images that are annotations: 1=Tumor,2=Stroma.",
        ),
    ),
    *_panel(
        "Patches",
        _option("depth_axis", "depth_axis", default="none, 2-D patches"),
        _option(
            "pixel_size",
            "pixel_size",
            metavar="UM",
            format=format_pixel_size,
            default="as in the file",
        ),
        PlanOption(
            "strategy",
            ("strategy.kind",),
            choices=tuple(STRATEGIES),
            help="How patches are chosen: tiled, a regular grid; random; stratified, one at "
            "random in each cell of a grid; balanced, at random by class; fixed, the list of "
            "a saved plan; whole, each plane or volume as one patch (tiled).",
        ),
        _option(
            "patch_size", "strategy.size", metavar="Y,X", format=format_values, default="64,64"
        ),
        _option("overlap", "strategy.overlap", metavar="Y,X", format=format_values, default="0"),
        _option(
            "edge",
            "strategy.edge",
            help="What happens to a last patch that does not fit: shift moves it inwards, drop "
            "omits it, pad lets it reach past the image, balance spreads all evenly. Images "
            'smaller than a patch are an error, unless a saved plan has "small": "skip" or '
            '"pad".',
        ),
        PlanOption(
            "for_prediction",
            type=bool,
            help="Cover every pixel, for predictions to stitch: tiled, the last patch shifted "
            "inwards (or padded), small images padded, no filter, no split. --select and "
            "--region limit what is covered.",
        ),
        _option(
            "count",
            "strategy.count",
            metavar="N",
            type=int,
            help="Random: number of patches per plane (or volume). Balanced: number in all.",
        ),
        _option("classes", "strategy.classes", metavar="SHARES", format=format_shares),
        _option(
            "seed",
            "strategy.seed",
            "split.seed",
            metavar="N",
            type=int,
            help="Random seed, of patches and of the split: the same seed gives the same ones (0).",
        ),
        _option(
            "region",
            "strategy.region",
            metavar="FILE",
            format=None,
            help="Region that must contain each patch: a GeoJSON file, a mask image (also PNG, or "
            'at a fraction of the size), or a JSON file such as {"kind": "rectangle", "x": 0, '
            '"y": 0, "w": 9, "h": 9}.',
        ),
        _option(
            "region_class", "strategy.region_classes", metavar="CLASSES", format=format_channels
        ),
        _option(
            "exclude_class",
            "strategy.exclude_classes",
            metavar="CLASSES",
            format=format_channels,
        ),
        _option("min_inside", "strategy.min_inside", metavar="SHARE", type=float, default="1"),
    ),
    *_panel(
        "Filters",
        _option(
            "filter",
            "filters",
            metavar="TEXT",
            type=list[str],
            help="Keep only patches that pass, by "
            + ", ".join(k if k == f.word else f"{k} ({f.word})" for k, f in FILTERS.items())
            + ': "std>5", "max[DAPI]>p10", "mean<otsu", "share[Tumor]>0.2". A limit is a number, '
            "p10 (a tenth of the patches is lower), or otsu (separates two groups best). May be "
            "repeated.",
        ),
        _option("keep_fraction", "keep_fraction", metavar="SHARE", type=float, default="0"),
        _option("dedupe", "dedupe", metavar="BITS", type=int, default="off"),
    ),
    *_panel(
        "Split",
        _option("val", "split.val", metavar="SHARE", type=float, default="no split"),
        _option("test", "split.test", metavar="SHARE", type=float, default="no test"),
        _option("folds", "split.folds", metavar="N", type=int, default="no folds"),
        _option("split_by", "split.by", metavar="|".join((*BY, "COLUMN")), choices=BY),
        PlanOption(
            "samples",
            metavar="CSV",
            help="Samples sheet, a CSV of what each image is of: a line for each, with columns "
            "source, scene, and others such as animal or treatment, which the table will have too. "
            "A column split with train, val or test is the split.",
        ),
        _option("stratify", "split.stratify", metavar="COLUMN", default="nothing"),
    ),
    *_panel(
        "Output",
        _option(
            "format",
            "format",
            choices=tuple(FORMATS),
            help="Format of the patch set: zarr, an array for each split; tiff, a file for each "
            "patch; npz, for CSBDeep; coordinates, no pixels.",
        ),
        _option("dtype", "dtype", metavar="TYPE", default="that of the files"),
        _option("codec", "codec"),
    ),
)
"""Every option of a plan, in the order of help."""


def option_of(field: str) -> str:
    """Return the option that sets a field of a plan, or the field's own name."""
    named = [(name, option.flag) for option in OPTIONS for name in option.fields]
    # A plan and a source both have a pixel size; that of the plan has no part before its name.
    flags = {name.rpartition(".")[2]: flag for name, flag in reversed(named)} | dict(named)
    return flags.get(field, field)
