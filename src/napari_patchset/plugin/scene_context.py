"""The scene metadata that planning needs, read in a background thread."""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_patchset.errors import SOURCE_ERRORS, ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.plan import ExportPlan
from napari_patchset.patching.regions import Masks
from napari_patchset.patchset.layout import stem_of
from napari_patchset.plugin.descriptions import DESCRIPTIONS
from napari_patchset.plugin.layers.layer_stack import file_name, image_scenes, layer_at
from napari_patchset.plugin.layers.plan_layers import masks_of
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.layers.scene_layout import all_scene_layers
from napari_patchset.plugin.overrides import image_path, remember, source_ref
from napari_patchset.plugin.state import read_plan
from napari_patchset.sample import sample_path
from napari_patchset.source import SceneId, SourceInfo, is_remote
from napari_patchset.stacks.metadata import SceneSummary
from napari_patchset.stacks.opening import find_format, list_absent, list_files
from napari_patchset.stacks.sequence import (
    FEWEST_SIMILAR,
    files_of_one,
    numbers_notice,
    similar_names,
    varying_numbers,
)

Scenes = Sequence[SceneSummary]


@dataclass(frozen=True)
class SceneContext:
    """The metadata of a scene that planning needs.

    Attributes
    ----------
    path, scene : Path, int, str or None
        The image, as it is named in the window, and the scene.
    ref : SourceRef
        What these stand for: the file with the user's overrides.
    scenes : sequence of SceneSummary
        All scenes of the file.
    info, own : SourceInfo
        The scene, all of its channels, with the overrides and as the file describes it.
    takes_axes : bool
        Whether the user can set the axes.
    notes : tuple of str
        What is absent or unknown.
    out : str
        A name for a patch set that is not taken yet.
    """

    path: Path
    scene: SceneId | None
    ref: SourceRef
    scenes: Scenes
    info: SourceInfo
    own: SourceInfo
    takes_axes: bool
    notes: tuple[str, ...]
    out: str


@dataclass(frozen=True)
class LoadedPlan:
    """A plan, and the metadata of its files.

    Attributes
    ----------
    plan : ExportPlan
        The plan.
    context : SceneContext
        The metadata of its first source.
    layers : sequence of LayerTuple or None
        The layers of that source, None if they are shown already.
    scenes : dict of Path to sequence of SceneSummary
        The scenes of each file.
    masks : dict
        The mask that is the region, if one is.
    """

    plan: ExportPlan
    context: SceneContext
    layers: Sequence[LayerTuple] | None
    scenes: Mapping[Path, Scenes]
    masks: Masks


def read_scene_context(path: Path, scene: SceneId | None, suffix: str) -> SceneContext:
    """Read the metadata of a scene.

    Parameters
    ----------
    suffix : str
        The suffix of the proposed name of the patch set.
    """
    ref = source_ref(path, scene)
    return _context(ref, image_scenes(ref), suffix)


def read_scene(
    context: SceneContext, scene: SceneId | None, suffix: str, axes: str | None
) -> tuple[Sequence[LayerTuple], SceneContext]:
    """Open another scene of a file as layers; see `read_scene_context` and `scene_layers`."""
    ref = context.ref.model_copy(update={"scene": scene})
    return scene_layers(ref, axes), _context(ref, context.scenes, suffix)


def read_with_overrides(
    ref: SourceRef, shown: Sequence[SceneId | None], suffix: str
) -> tuple[Sequence[LayerTuple], SceneContext]:
    """Open the shown scenes of a file as layers, with new overrides.

    Parameters
    ----------
    ref : SourceRef
        The file with the overrides, and the scene that patches are cut from.
    shown : sequence of SceneId or None
        The scenes that have layers.
    """
    scenes = image_scenes(ref)
    context = _context(ref, scenes, suffix)
    if len(shown) == 1:
        return scene_layers(ref), context
    layers, _ = all_scene_layers(ref, [scene for scene in scenes if scene.id in shown])
    return layers, context


def read_scenes(
    paths: Sequence[Path],
) -> Generator[int, None, tuple[dict[Path, Scenes], list[Exception]]]:
    """List the scenes of files, and the errors of those that can't be read.

    Yield how many files are done.
    """
    scenes, errors = dict[Path, Scenes](), list[Exception]()
    for done, path in enumerate(paths):
        yield done
        try:
            scenes[path] = image_scenes(source_ref(path))
        except SOURCE_ERRORS as error:
            errors.append(error)
    return scenes, errors


def load_plan(path: Path, shown: Mapping[Path, Sequence[SceneId | None]]) -> LoadedPlan:
    """Read a plan file, and the metadata of the plan's files.

    Parameters
    ----------
    shown : dict of Path to sequence of SceneId or None
        The files that are shown, and which scenes of each.
    """
    DESCRIPTIONS.forget()
    plan = read_plan(path)
    images = _images_of(plan)
    scenes = {file: image_scenes(ref) for file, ref in images.items()}
    first, file = plan.sources[0], image_path(plan.sources[0])
    scene = scenes[file][0].id if first.scene is None else first.scene
    ref = images[file].model_copy(update={"scene": scene})
    is_shown = scene in shown.get(file, ()) and source_ref(file, scene) == ref
    layers = None if is_shown else scene_layers(ref)
    context = _context(ref, scenes[file], "")
    sources = tuple(
        each.model_copy(update={"scene": scenes[image_path(each)][0].id})
        if each.scene is None
        else each
        for each in plan.sources
    )
    plan = plan.model_copy(update={"sources": sources})
    masks = masks_of(plan.strategy)
    for each in (*images.values(), *(pair for s in plan.sources for pair in s.pairs.values())):
        remember(each)
    return LoadedPlan(plan, context, layers, scenes, masks)


def _images_of(plan: ExportPlan) -> dict[Path, SourceRef]:
    """Return the images of a plan by path, each with its overrides and without a scene."""
    images: dict[Path, SourceRef] = {}
    for source in plan.sources:
        ref, path = SourceRef(path=source.path, **source.overrides), image_path(source)
        if images.setdefault(path, ref) != ref:
            raise ArgumentError(
                f"{path}: the plan states other axes, pixel sizes or names for its scenes; the "
                "window has one for all of them. Export it with the command."
            )
    return images


def default_out(path: Path, suffix: str) -> str:
    """Return an unused name in the folder of the file.

    A patch set of the sample, of a layer, or of a file in a folder that can't be written goes into
    the home folder.
    """
    stem = file_name(path).split(".")[0]
    is_elsewhere = path == sample_path() or layer_at(path) is not None
    if is_elsewhere or not os.access(path.parent, os.W_OK):
        path = Path.home() / path.name
    return str(unused_name(path.with_name(f"{stem}{suffix}")))


def unused_name(out: Path) -> Path:
    """Return a name that no set has: NAME, or NAME-2, NAME-3, ..., also after NAME-2 itself."""
    stem, number, path = stem_of(out), 2, out
    suffix = out.name.removeprefix(stem)
    first, _, last = stem.rpartition("-")
    if last.isdigit() and out.with_name(first + suffix).exists():
        stem, number = first, int(last) + 1
    while path.exists():
        path = out.with_name(f"{stem}-{number}{suffix}")
        number += 1
    return path


def _context(ref: SourceRef, scenes: Scenes, suffix: str) -> SceneContext:
    path, info = image_path(ref), DESCRIPTIONS.describe(ref)
    own = DESCRIPTIONS.describe(ref.model_copy(update=dict.fromkeys(_OVERRIDDEN)))
    is_layer = layer_at(path) is not None
    takes_axes = not is_layer and find_format(Path(ref.path)).takes_axes
    files = () if is_layer else ref.files or (ref.path,)
    absent = [name for file in files for name in list_absent(file)]
    notes = tuple(_notes(ref, info, absent, takes_axes))
    out = default_out(path, suffix)
    return SceneContext(path, ref.scene, ref, scenes, info, own, takes_axes, notes, out)


_OVERRIDDEN = ("axes", "pixel_size", "channel_names")
"""The metadata of a file that can be overridden."""

_MOST_NAMES = 3

_UNKNOWN_AXES = "SQ"
"""The letters that a TIFF's dimensions get where the file does not name them."""


def _notes(
    ref: SourceRef, info: SourceInfo, absent: Sequence[str], takes_axes: bool
) -> Iterator[str]:
    """Yield what is absent in a file, what the file does not say, and which files go with it."""
    if ref.sequence and (notice := numbers_notice(ref.files or (), ref.sequence)):
        yield notice
    elif takes_axes and ref.files is None and (hint := _similar_files(Path(ref.path), info)):
        yield hint
    if absent:
        more = len(absent) - _MOST_NAMES
        names = ", ".join(absent[:_MOST_NAMES])
        yield f"Absent: {names}{f' and {more} more' if more > 0 else ''}"
    if missing := len(info.missing):
        yield f"{missing:,} of {info.n_samples * len(info.channels):,} planes are missing"
    for axis, n in info.layout.sizes.items() if takes_axes and ref.axes is None else ():
        if axis in _UNKNOWN_AXES and n > 1:
            yield f"Whether its {n:,} planes are Z, T or C is not in the file: set it in Metadata"
    if unitless := DESCRIPTIONS.unitless(ref):
        sizes = ", ".join(f"{axis} {size:g}" for axis, size in unitless.items())
        yield f"Pixel size {sizes}: the unit is not in the file"


def _similar_files(path: Path, info: SourceInfo) -> str:
    """Return a hint if a single plane is one of many files that may be one image, "" if not."""
    is_plane = all(n == 1 for axis, n in info.layout.sizes.items() if axis not in "CYX")
    if not is_plane or is_remote(path) or not path.is_file():
        return ""
    try:
        names = similar_names(path)
    except OSError:
        return ""  # one may enter the folder, but not list it
    if len(names) < FEWEST_SIMILAR or len(list_files(path)) > 1:
        return ""
    values = varying_numbers(names)
    counted = f", which count {' and '.join(values)}" if values else ""
    which = files_of_one(min(values, key=lambda name: values[name])) if values else "them"
    return (
        f"1 of {len(names):,} similar files in this folder{counted}. To open {which} as one image, "
        "drop them on the window with Shift held."
    )
