"""What is to be known of a scene before its patches are planned; read beside the window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_patchset.exporting.plan import ExportPlan
from napari_patchset.patching.regions import Masks
from napari_patchset.plugin.form.patches import default_out
from napari_patchset.plugin.layers.layer_files import image_scenes, masks_of
from napari_patchset.plugin.layers.scene import LayerTuple, scene_layers
from napari_patchset.plugin.state import DESCRIPTIONS, read_plan
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.metadata import SceneSummary

Scenes = Sequence[SceneSummary]


@dataclass(frozen=True)
class SceneContext:
    """What is known of a scene.

    Attributes
    ----------
    path, scene : Path, int, str or None
        The file and the scene.
    scenes : sequence of SceneSummary
        All scenes of the file.
    info : SourceInfo
        The scene, all of its channels.
    out : str
        A name for a patch set that is not taken.
    """

    path: Path
    scene: SceneId | None
    scenes: Scenes
    info: SourceInfo
    out: str


@dataclass(frozen=True)
class LoadedPlan:
    """A plan and what its files say.

    Attributes
    ----------
    plan : ExportPlan
        The plan.
    facts : Facts
        What is known of its first source.
    layers : sequence of LayerTuple or None
        The layers of that, None if they are there already.
    scenes : dict of Path to sequence of SceneSummary
        The scenes of each file.
    masks : dict
        The mask that is the region, if one is.
    """

    plan: ExportPlan
    facts: SceneContext
    layers: Sequence[LayerTuple] | None
    scenes: Mapping[Path, Scenes]
    masks: Masks


def read_scene_context(path: Path, scene: SceneId | None, suffix: str) -> Iterator[SceneContext]:
    """Read what is to be known of a scene.

    Parameters
    ----------
    suffix : str
        Of the patch set that a name is proposed for.
    """
    yield _facts(path, scene, image_scenes(path), suffix)


def read_scene(
    facts: SceneContext, scene: SceneId | None, suffix: str, axes: str | None
) -> Iterator[tuple[Sequence[LayerTuple], SceneContext]]:
    """Open another scene of a file as layers; see `read_scene_context` and `scene_layers`."""
    layers = scene_layers(facts.path, scene, axes)
    yield layers, _facts(facts.path, scene, facts.scenes, suffix)


def read_scenes(path: Path) -> Iterator[tuple[Path, Scenes]]:
    """List the scenes of a file."""
    yield path, image_scenes(path)


def load_plan(path: Path, shown: Mapping[Path, Sequence[SceneId | None]]) -> Iterator[LoadedPlan]:
    """Read a plan, and what is to be known of its files.

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
    facts = _facts(file, scene, scenes[file], "")
    yield LoadedPlan(plan, facts, layers, scenes, masks_of(plan.strategy))


def _facts(path: Path, scene: SceneId | None, scenes: Scenes, suffix: str) -> SceneContext:
    info = DESCRIPTIONS.of(str(path), scene)
    return SceneContext(path, scene, scenes, info, default_out(path, suffix))
