"""The scene metadata that planning needs, read in a background thread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.patching.regions import Masks
from napari_patchset.plugin.layers.layer_files import file_name, image_scenes, masks_of
from napari_patchset.plugin.layers.layer_stack import layer_at
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.state import DESCRIPTIONS, read_plan
from napari_patchset.sample import sample_path
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.metadata import SceneSummary

Scenes = Sequence[SceneSummary]


@dataclass(frozen=True)
class SceneContext:
    """The metadata of a scene that planning needs.

    Attributes
    ----------
    path, scene : Path, int, str or None
        The file and the scene.
    scenes : sequence of SceneSummary
        All scenes of the file.
    info : SourceInfo
        The scene, all of its channels.
    out : str
        A name for a patch set that is not taken yet.
    """

    path: Path
    scene: SceneId | None
    scenes: Scenes
    info: SourceInfo
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
    return _context(path, scene, image_scenes(path), suffix)


def read_scene(
    context: SceneContext, scene: SceneId | None, suffix: str, axes: str | None
) -> tuple[Sequence[LayerTuple], SceneContext]:
    """Open another scene of a file as layers; see `read_scene_context` and `scene_layers`."""
    layers = scene_layers(context.path, scene, axes)
    return layers, _context(context.path, scene, context.scenes, suffix)


def read_scenes(path: Path) -> tuple[Path, Scenes]:
    """List the scenes of a file."""
    return path, image_scenes(path)


def load_plan(path: Path, shown: Mapping[Path, Sequence[SceneId | None]]) -> LoadedPlan:
    """Read a plan file, and the metadata of the plan's files.

    Parameters
    ----------
    shown : dict of Path to sequence of SceneId or None
        The files that are shown, and which scenes of each.
    """
    DESCRIPTIONS.forget()
    plan = read_plan(path)
    files = dict.fromkeys(Path(ref.path) for ref in plan.sources)
    scenes = {file: image_scenes(file) for file in files}
    file, scene = Path(plan.sources[0].path), plan.sources[0].scene
    if scene is None:
        scene = scenes[file][0].id
    layers = None if scene in shown.get(file, ()) else scene_layers(file, scene)
    context = _context(file, scene, scenes[file], "")
    return LoadedPlan(plan, context, layers, scenes, masks_of(plan.strategy))


def default_out(path: Path, suffix: str) -> str:
    """Return an unused name in the folder of the file.

    A patch set of the sample or of a layer goes into the home folder.
    """
    stem = file_name(path).split(".")[0]
    if path == sample_path() or layer_at(path) is not None:
        path = Path.home() / path.name
    name, number = f"{stem}{suffix}", 2
    while path.with_name(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return str(path.with_name(name))


def _context(path: Path, scene: SceneId | None, scenes: Scenes, suffix: str) -> SceneContext:
    info = DESCRIPTIONS.describe(str(path), scene)
    return SceneContext(path, scene, scenes, info, default_out(path, suffix))
