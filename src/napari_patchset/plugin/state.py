"""The form as one frozen value, and what follows from it; no window needed."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from napari_patchset.axes import DepthAxis
from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan, Recipe
from napari_patchset.export.refs import Beside, ImageRef, SourceRef
from napari_patchset.export.sources.describing import select_channels
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.plugin.named_layers import open_image
from napari_patchset.source import SceneId, SourceInfo
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.fingerprint import file_key


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
            select_channels(describe_scene(ref.path, ref.scene, depth), chosen)
            for ref in self.sources
        ]

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
    sources: Sequence[SourceRef], path: Path, pairs: Mapping[Beside, Path]
) -> tuple[SourceRef, ...]:
    """Lay files beside the images of a file; each takes the scene of its image."""
    beside: dict[str, ImageRef] = {role: ImageRef(path=str(file)) for role, file in pairs.items()}
    return tuple(ref.model_copy(update=beside) if ref.path == str(path) else ref for ref in sources)


def describe_scene(path: str, scene: SceneId | None, depth_axis: DepthAxis = "none") -> SourceInfo:
    """Describe one scene of a file, all of its channels; what was described before is kept."""
    return _described(path, scene, depth_axis)


def forget_scenes() -> None:
    """Describe every scene anew: files and layers may have changed."""
    _described.cache_clear()
    _key_of_file.cache_clear()


@lru_cache(maxsize=1024)
def _described(path: str, scene: SceneId | None, depth_axis: DepthAxis) -> SourceInfo:
    with open_image(path, scene, depth_axis) as stack:
        whole = not hasattr(stack, "fingerprint") and Path(path).is_file()
        return describe(stack, _key_of_file(path) if whole else None)


@lru_cache(maxsize=64)
def _key_of_file(path: str) -> str:
    """Fingerprint a file once for all of its scenes."""
    return file_key(Path(path))


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


def plan_pairs(plan: ExportPlan) -> dict[Beside, Path]:
    """Give the files that lie beside the first image of a plan."""
    return {role: Path(ref.path) for role, ref in plan.sources[0].beside.items()}
