"""ExportPlan: everything an export needs to know, as one model that is also its file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from napari_patchset.axes import DepthAxis
from napari_patchset.export.refs import SourceRef, absolute_path
from napari_patchset.model import Frozen
from napari_patchset.patching.filters import Filter
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patchset.formats import FORMATS
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.source import ChannelId

_SEPARATORS = os.sep + (os.altsep or "")


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; choose one of {', '.join(FORMATS)}")
    return name


def _known_type(name: str) -> str:
    try:
        return np.dtype(name).name
    except TypeError:
        raise ValueError(
            f"there is no pixel type {name!r}; choose one like uint8, uint16 or float32"
        ) from None


class Recipe(Frozen):
    """How patches are chosen: the part of a plan that does not depend on where files lie.

    Attributes
    ----------
    strategy : Tiled, Random, Stratified, Fixed or Whole
        Where the patches lie.
    depth_axis : {"none", "Z", "T"}
        The axis that becomes the third one of a patch.
    channels : tuple of int or str, or None
        Channels by index or name, in this order; None for all.
    filters : tuple of filters
        A patch is kept if it passes each of them.
    keep_fraction : float
        The share of the patches rejected by a filter that is kept all the same.
    split : Split or None
        How patches are parted into training and validation ones; None for one group, "all".
    dtype : str or None
        NumPy's name of the pixel type to cast to, without loss; None for the sources' own.
    format : str
        What is written, a name in `FORMATS`: "zarr", "tiff", "npz" or "coordinates".
    codec : {"none", "zstd", "lz4"}
        How patches are compressed in a zarr.
    """

    strategy: Strategy
    depth_axis: DepthAxis = "none"
    channels: tuple[ChannelId, ...] | None = None
    filters: tuple[Filter, ...] = ()
    keep_fraction: float = Field(default=0.0, ge=0, le=1)
    split: Split | None = None
    dtype: Annotated[str, AfterValidator(_known_type)] | None = None
    format: Annotated[str, AfterValidator(_known_format)] = "zarr"
    codec: Literal["none", "zstd", "lz4"] = "none"

    @property
    def hash(self) -> str:
        """Digest of the recipe: equal for equal recipes."""
        return digest_bytes(self.model_dump_json().encode())


class ExportPlan(Recipe):
    """A recipe, the sources that it is applied to, and where the patch set goes.

    Parameters
    ----------
    sources : sequence of SourceRef, str or Path
        "name.czi@3" chooses a scene.
    out : str or Path
        The folder to write, NAME.patches.zarr; NAME.patches for the other formats.
    strategy, depth_axis, channels, filters, keep_fraction, split, dtype, format, codec
        See `Recipe`.

    Raises
    ------
    ValidationError
        If a value is not one of those, or `out` does not end as its format asks.
    """

    sources: tuple[SourceRef, ...]
    out: str

    @field_validator("sources", mode="before")
    @classmethod
    def _from_paths(cls, sources: Iterable[Any]) -> list[Any]:
        return [SourceRef.of(s) if isinstance(s, (str, Path)) else s for s in sources]

    @field_validator("out", mode="before")
    @classmethod
    def _from_path(cls, out: Any) -> Any:
        name = os.fspath(out) if isinstance(out, Path) else out
        return name.rstrip(_SEPARATORS) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError("a plan needs at least one source")
        suffix = FORMATS[self.format].suffix
        if not self.out.endswith(suffix) or Path(self.out).name == suffix:
            raise ValueError(f"the patch set's name {self.out!r} must end in {suffix}")
        return self

    def resolved(self) -> Self:
        """Give the same plan with absolute paths, for jobs that run in another folder."""
        update = {
            "sources": tuple(ref.resolved() for ref in self.sources),
            "out": os.path.abspath(self.out),
            "strategy": self.strategy.with_mask_path(absolute_path),
        }
        return self.model_copy(update=update)

    @property
    def recipe(self) -> Recipe:
        """The part that does not depend on where files lie."""
        fields = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe(**fields | {"strategy": self.strategy.with_mask_path(lambda _: None)})
