"""Stacks for CAREamics: `ImageStackLoading(load_stacks)` trains from a set or a file as it is.

`load_stacks` returns images as the stacks that this package reads, and the patches of a set,
exported or not, as one stack whose samples are the patches. No pixel is copied.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from napari_patchset.errors import ArgumentError
from napari_patchset.exporting.plans.image_refs import SourceRef
from napari_patchset.exporting.plans.source_files import expand_sources
from napari_patchset.patchset.patches import PatchSequence
from napari_patchset.stacks.protocol import BoundedStack, ClosableStack, ImageStack


class PatchStack(BoundedStack):
    """Patches as a stack SC(Z)YX: sample i is patch i.

    Attributes
    ----------
    source : str
        "array", CAREamics' name for what is no file.
    """

    source = "array"

    def __init__(self, patches: PatchSequence) -> None:
        self.patches = patches
        self.data_shape, self.data_dtype = patches.shape, patches.dtype

    @property
    def original_axes(self) -> str:
        """Axes before merging into S, which are the same."""
        return "SCYX" if len(self.data_shape) == 4 else "SCZYX"

    @property
    def original_data_shape(self) -> Sequence[int]:
        """Shape before merging into S, which is the same."""
        return self.data_shape

    def _read(
        self, sample_idx: int, channels: Sequence[int], start: Sequence[int], out: NDArray[Any]
    ) -> None:
        size = zip(start, out.shape[1:], strict=True)
        inside = [slice(first, first + n) for first, n in size]
        out[...] = self.patches[sample_idx][(slice(None), *inside)][list(channels)]


class SampleStack:
    """An image with the axes of its stack, SC(Z)YX, by which CAREamics arranges its predictions.

    Attributes
    ----------
    stack : ClosableStack
        The image.
    axes : str
        "SCYX", "SCZYX" or "SCTYX".
    """

    def __init__(self, stack: ClosableStack, axes: str) -> None:
        self.stack, self.original_axes = stack, axes
        self.source, self.data_dtype = stack.source, stack.data_dtype
        self.data_shape = self.original_data_shape = tuple(stack.data_shape)

    def extract_patch(  # noqa: D102, documented on the protocol
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> NDArray[Any]:
        return self.stack.extract_patch(sample_idx, channels, coords, patch_size)

    def close(self) -> None:
        """Close the image; a closed stack may be closed again."""
        self.stack.close()


def load_stacks(source: Any, axes: str) -> list[ImageStack]:
    """Return stacks of patches or images, as `ImageStackLoading` of CAREamics calls it.

    Parameters
    ----------
    source : PatchSequence, str, Path or SourceRef, or a sequence of them
        The patches of a split, as `LazyPatchSet(plan)["train"]`; or images, "name.czi@3" for one
        scene, of which each scene is a stack.
    axes : str
        The axes of CAREamics' configuration: with Z, or else with T, this is the third axis of a
        patch.

    Raises
    ------
    ArgumentError
        If the patches have other axes, or an image lacks the depth axis.
    """
    sources = [source] if isinstance(source, str | Path | SourceRef | PatchSequence) else source
    depth_axis: Literal["none", "Z", "T"] = "none"
    if "Z" in axes or "T" in axes:
        depth_axis = "Z" if "Z" in axes else "T"
    n_axes = 4 if depth_axis == "none" else 5
    stacks = list[ImageStack]()
    for each in sources:
        if isinstance(each, PatchSequence):
            if len(each.shape) != n_axes:
                own = "SCYX" if len(each.shape) == 4 else "SCZYX"
                raise ArgumentError(
                    f"The configuration has the axes {axes}, but the patches {own}; "
                    f"set axes to {own!r}."
                )
            stacks.append(PatchStack(each))
            continue
        refs = [each] if isinstance(each, SourceRef) else expand_sources([each])
        for ref in refs:
            stack = ref.open(depth_axis)
            stacks.append(SampleStack(stack, "SCYX" if n_axes == 4 else f"SC{depth_axis}YX"))
    return stacks
