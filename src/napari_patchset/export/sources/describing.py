"""Describe the sources of a plan: as it sees them, with the chosen channels only."""

from collections.abc import Sequence

from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import ImageRef
from napari_patchset.export.sources.agreement import check_agreement
from napari_patchset.patchset.layout import IMAGE
from napari_patchset.source import ChannelId, SourceInfo, channel_indices
from napari_patchset.stacks.base import ClosableStack
from napari_patchset.stacks.describe import content_key, describe
from napari_patchset.stacks.opening import open_stack


def open_source(plan: ExportPlan, ref: ImageRef) -> ClosableStack:
    """Open one image of a plan."""
    return open_stack(ref.path, ref.scene, plan.depth_axis)


def describe_sources(plan: ExportPlan) -> list[SourceInfo]:
    """Describe every source as the plan sees it: with the chosen channels only.

    Raises
    ------
    ExportError
        If the sources do not agree in what a patch set has one of.
    """
    describe_one = SourceDescriber(plan)
    infos = [describe_one(ref, IMAGE) for ref in plan.sources]
    check_agreement(plan.sources, infos, plan.dtype)
    return infos


class SourceDescriber:
    """Describe images, reading the key of a file once for all of its scenes."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan
        self._keys: dict[str, str] = {}

    def __call__(self, ref: ImageRef, role: str) -> SourceInfo:
        """Describe one image; what lies beside the sources keeps all of its channels."""
        with open_source(self._plan, ref) as stack:
            info = describe(stack, self._keys.get(ref.path))
            self._keep(ref, stack, info.key)
        return select_channels(info, self._plan.channels if role == IMAGE else None)

    def key(self, ref: ImageRef) -> str:
        """Give the key of an image, opening each file once."""
        if ref.path in self._keys:
            return self._keys[ref.path]
        with open_source(self._plan, ref) as stack:
            key = content_key(stack)
            self._keep(ref, stack, key)
        return key

    def _keep(self, ref: ImageRef, stack: ClosableStack, key: str) -> None:
        if not hasattr(stack, "fingerprint"):  # one key for all scenes of the file
            self._keys[ref.path] = key


def select_channels(info: SourceInfo, channels: Sequence[ChannelId] | None) -> SourceInfo:
    """Describe a source as if it had only some of its channels."""
    if channels is None:
        return info
    chosen = channel_indices(info.channels, channels)
    shape = list(info.shape)
    if "C" in info.axes:
        shape[info.axes.index("C")] = len(chosen)
    missing = {(s, chosen.index(c), z) for s, c, z in info.missing if c in chosen}
    update = {
        "channels": tuple(info.channels[c] for c in chosen),
        "shape": tuple(shape),
        "missing": frozenset(missing),
    }
    return SourceInfo(**{name: getattr(info, name) for name in SourceInfo.model_fields} | update)
