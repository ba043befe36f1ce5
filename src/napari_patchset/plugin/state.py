"""The form as one frozen value, and what follows from it; no window needed.

What is known of scenes, so that no file is opened again to know it.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plan import ExportPlan, ImageRef, PairRole, Recipe, SourceRef
from napari_patchset.exporting.sources import select_channels
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.plugin.layers.layer_files import open_image
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.cache import FileCache
from napari_patchset.stacks.fingerprint import file_key
from napari_patchset.stacks.metadata import describe

Scene = tuple[str, SceneId | None]
"""A path, and a scene of it."""


_KEYS: FileCache[str] = FileCache(256)
"""Fingerprints of files: they hold until a file changes, also of what is described anew."""


class Descriptions:
    """Describe scenes of files and layers, each of them once; threads may share it."""

    def __init__(self) -> None:
        self._lock, self._times_forgotten = Lock(), 0
        self._known: dict[tuple[Scene, DepthAxis], SourceInfo] = {}
        self._keys: dict[str, str] = {}
        self._latest: dict[Scene, SourceInfo] = {}

    def of(self, path: str, scene: SceneId | None, depth_axis: DepthAxis = "none") -> SourceInfo:
        """Describe one scene, all of its channels; only what is not known yet is read."""
        which = path, scene
        with self._lock:
            found, flat = (self._known.get((which, axis)) for axis in (depth_axis, "none"))
            times = self._times_forgotten
        if found is None:
            flat = flat or self._read(path, scene)
            found = flat.with_depth_axis(depth_axis)
            with self._lock:
                self._latest[which] = flat
                if times == self._times_forgotten:
                    self._known |= {(which, "none"): flat, (which, depth_axis): found}
        return found

    def latest(self, path: str, scene: SceneId | None) -> SourceInfo | None:
        """Give what was last known of a scene, without reading anything; None if nothing was."""
        return self._latest.get((path, scene))

    def has(self, scenes: Iterable[Scene]) -> bool:
        """Whether describing these scenes reads nothing."""
        with self._lock:
            return all((scene, "none") in self._known for scene in scenes)

    def forget(self) -> None:
        """Describe every scene anew: files and layers may have changed."""
        with self._lock:
            self._times_forgotten += 1
            self._known, self._keys = {}, {}

    def _read(self, path: str, scene: SceneId | None) -> SourceInfo:
        with open_image(path, scene) as stack:
            whole = not hasattr(stack, "fingerprint") and Path(path).is_file()
            return describe(stack, self._key_of(path) if whole else None)

    def _key_of(self, path: str) -> str:
        """Fingerprint a file once for all of its scenes."""
        keys = self._keys
        if path not in keys:
            keys[path] = _KEYS.get(Path(path), file_key)
        return keys[path]


DESCRIPTIONS = Descriptions()
"""What the window knows."""


@dataclass(frozen=True, slots=True)
class FormState:
    """Everything the form says.

    Attributes
    ----------
    sources : tuple of SourceRef
        What patches are cut from.
    shown : int
        Which of them is on the screen.
    recipe : Recipe
        How patches are chosen and written.
    out : str
        The patch set to write, "" if none is chosen yet.
    """

    sources: tuple[SourceRef, ...]
    shown: int
    recipe: Recipe
    out: str = ""

    @property
    def source(self) -> SourceRef:
        """What is on the screen."""
        return self.sources[self.shown]

    @property
    def path(self) -> Path:
        """The file that is on the screen."""
        return Path(self.source.path)

    @property
    def scene(self) -> SceneId | None:
        """The scene that is on the screen."""
        return self.source.scene

    def infos(self) -> list[SourceInfo]:
        """Describe every source as its patches will see it."""
        depth, chosen = self.recipe.depth_axis, self.recipe.channels
        return [
            select_channels(DESCRIPTIONS.of(ref.path, ref.scene, depth), chosen)
            for ref in self.sources
        ]

    @property
    def is_known(self) -> bool:
        """Whether describing the sources opens no file."""
        return DESCRIPTIONS.has((ref.path, ref.scene) for ref in self.sources)

    @property
    def candidates(self) -> Hashable:
        """What decides where candidates lie and what they measure: equal for the same ones."""
        recipe = self.recipe
        where = recipe.strategy.model_dump_json()
        return self.sources, where, recipe.depth_axis, recipe.channels

    @property
    def rules(self) -> Hashable:
        """What decides what becomes of the candidates."""
        return self.recipe.filters, self.recipe.keep_fraction, self.recipe.split

    def plan(self) -> ExportPlan:
        """Give the plan of the export.

        Raises
        ------
        ArgumentError
            If no destination is chosen.
        """
        if not self.out:
            suffix = FORMATS[self.recipe.format].suffix
            raise ArgumentError(f"Choose where to save the patch set, a name like cells{suffix}.")
        return self._plan_to(self.out)

    def preview_plan(self) -> ExportPlan:
        """Give a plan to open the sources by; it is written nowhere."""
        return self._plan_to(f"preview{FORMATS[self.recipe.format].suffix}")

    def _plan_to(self, out: str) -> ExportPlan:
        recipe = {name: getattr(self.recipe, name) for name in Recipe.model_fields}
        return ExportPlan(sources=self.sources, out=out, **recipe)


def with_pairs(
    sources: Sequence[SourceRef], path: Path, pairs: Mapping[PairRole, Path]
) -> tuple[SourceRef, ...]:
    """Lay files beside the images of a file; each takes the scene of its image."""
    beside: dict[str, ImageRef] = {role: ImageRef(path=str(file)) for role, file in pairs.items()}
    return tuple(ref.model_copy(update=beside) if ref.path == str(path) else ref for ref in sources)


def with_fresh_region(state: FormState) -> FormState:
    """Say of a region that it is of the file as it is now, which is read for that."""
    DESCRIPTIONS.forget()
    recipe, region = state.recipe, state.recipe.strategy.region
    if region is None:
        return state
    key = DESCRIPTIONS.of(state.source.path, state.scene).key
    region = region.model_copy(update={"source": key})
    strategy = recipe.strategy.model_copy(update={"region": region})
    return replace(state, recipe=recipe.model_copy(update={"strategy": strategy}))


def read_plan(path: Path) -> ExportPlan:
    """Read a plan that was saved.

    Raises
    ------
    ArgumentError, ValidationError
        If it is none.
    """
    try:
        return ExportPlan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        if isinstance(error, ValidationError):
            raise
        raise ArgumentError(f"{path}: not a plan: {error}") from None


def plan_pairs(plan: ExportPlan) -> dict[PairRole, Path]:
    """Give the files that lie beside the first image of a plan."""
    return {role: Path(ref.path) for role, ref in plan.sources[0].pairs.items()}
