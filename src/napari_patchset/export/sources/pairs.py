"""Images beside a source, cut at the same places: target, labels, and the mask of a filter."""

from napari_patchset.errors import ArgumentError
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import MASK, ImageRef, SourceRef
from napari_patchset.patching.filters import Mask
from napari_patchset.patchset.layout import IMAGE, LABELS, TARGET
from napari_patchset.source import SceneId
from napari_patchset.stacks.opening import list_scenes


def roles_of(plan: ExportPlan) -> list[str]:
    """Give the roles that have an image, in every source.

    Raises
    ------
    ArgumentError
        Naming the sources that lack an image which others have, or which a filter looks at.
    """
    roles = [IMAGE]
    for role in (TARGET, LABELS):
        if any(role in ref.images for ref in plan.sources):
            _require(plan, role, f"Either every source has a {role} beside it, or none")
            roles.append(role)
    if any(isinstance(found, Mask) for found in plan.filters):
        _require(plan, MASK, "The filter mask needs a mask, or labels, beside every source")
        roles.append(MASK)
    return roles


def with_scenes(ref: SourceRef) -> SourceRef:
    """Choose the scene of each image beside a source: the source's, where there are several.

    Raises
    ------
    ArgumentError
        If its file has several scenes, none of which is the source's.
    """
    return ref.with_beside(lambda image: _with_scene(image, ref.scene))


def _with_scene(ref: ImageRef, scene: SceneId | None) -> ImageRef:
    if ref.scene is not None:
        return ref
    ids = [found.id for found in list_scenes(ref.path)]
    if len(ids) > 1 and scene not in ids:
        listed = ", ".join(map(str, ids))
        raise ArgumentError(f"{ref.path} has no scene {scene}, as its image; it has {listed}.")
    return ref.model_copy(update={"scene": scene if len(ids) > 1 else ids[0]})


def _require(plan: ExportPlan, role: str, rule: str) -> None:
    lacking = [str(ref) for ref in plan.sources if role not in ref.images]
    if lacking:
        raise ArgumentError(f"{rule}; {lacking[0]} has none ({len(lacking)} in all lack one).")
