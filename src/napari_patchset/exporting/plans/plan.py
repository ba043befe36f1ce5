"""The plan of an export: sources, choice of patches, and destination.

`ExportPlan` is one frozen model that is also its own JSON file. It is a `Recipe`, which does not
depend on where files lie, with `SourceRef`s (see `image_refs`) and an output path.
"""

import operator
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from napari_patchset._model import Settings
from napari_patchset.axes import DepthAxis
from napari_patchset.channels import ChannelId, channel_indices, parse_channels
from napari_patchset.credentials import strip_credentials
from napari_patchset.errors import printable
from napari_patchset.exporting.plans.image_refs import ParsedPixelSize, SourceRef, absolute_path
from napari_patchset.patching.duplicates import HASH_HALVES, MAX_DISTANCE
from napari_patchset.patching.filters.measurements import metric_columns, other_channels
from napari_patchset.patching.filters.patch_filters import Filter, PatchFilter
from napari_patchset.patching.grid import PatchGrid
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import Strategy
from napari_patchset.patching.verdicts import Metrics, Override, Verdicts, judge
from napari_patchset.patchset.layout import PIXEL_TYPE_PATTERN
from napari_patchset.patchset.manifest import digest_bytes
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.source import PixelSize, SourceInfo, is_remote
from napari_patchset.stacks.fingerprint import fingerprint_of


def _check_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; choose one of {', '.join(FORMATS)}")
    return name


def _check_dtype(name: str) -> str:
    with suppress(TypeError):
        dtype = np.dtype(name).name
        if re.fullmatch(PIXEL_TYPE_PATTERN, dtype):
            return dtype
    raise ValueError(f"there is no pixel type {name!r}; choose one like uint8, uint16 or float32")


def _check_made_size(size: PixelSize | None) -> PixelSize | None:
    if size is not None and (size.z is not None or None in (size.y, size.x)):
        raise ValueError("pixels are resampled along Y and X; give one or two numbers, like 0.5")
    return size


def _parse_channels(channels: Any) -> Any:
    if isinstance(channels, str):
        return parse_channels(channels)
    return (channels,) if isinstance(channels, int) else channels


def _parse_split(split: Any) -> Any:
    return {"val": split} if isinstance(split, int | float) else split


class Recipe(Settings):
    """The choice of patches: the part of a plan that does not depend on file paths.

    A value with a text form may be passed as text: `filters=["std>5"]`, `channels="0,DAPI"`,
    `split=0.1` for `Split(val=0.1)`.
    """

    strategy: Strategy = Field(description="How patches are chosen.")
    depth_axis: DepthAxis = Field(
        default="none", description="Axis of the image that 3-D patches have."
    )
    channels: Annotated[tuple[ChannelId, ...] | None, BeforeValidator(_parse_channels)] = Field(
        default=None, description="Channels by index or name, in this order: 0,2 or DAPI,EGFP."
    )
    pixel_size: Annotated[ParsedPixelSize, AfterValidator(_check_made_size)] = Field(
        default=None,
        description="Pixel size of the patches along Y,X in micrometres, to resample to; it can't "
        "be smaller than that of the files.",
        exclude_if=operator.not_,
    )
    filters: tuple[Filter, ...] = Field(
        default=(), description="Keep only patches that pass, like std>5, max[DAPI]>p10, mean<otsu."
    )
    keep_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Share of the rejected patches to export nevertheless."
    )
    dedupe: int | None = Field(
        default=None,
        ge=0,
        le=MAX_DISTANCE,
        description="Export only the first of patches that look alike. The number is how unlike "
        "they may be, 0 to 10 of the 64 bits of their hashes, such as 4.",
        exclude_if=lambda distance: distance is None,
    )
    overrides: tuple[Override, ...] = Field(
        default=(),
        description="Patches to export or reject by hand, whatever the filters say.",
        exclude_if=operator.not_,
    )
    split: Annotated[Split | None, BeforeValidator(_parse_split)] = Field(
        default=None, description="Training, validation and test patches; None for one group, all."
    )
    dtype: Annotated[str, AfterValidator(_check_dtype)] | None = Field(
        default=None, description="Pixel type to cast to; an error if values would be lost."
    )
    format: Annotated[str, AfterValidator(_check_format)] = Field(
        default="zarr", description="Format of the patch set."
    )
    codec: CodecName = Field(default="none", description="Compression of a zarr.")

    @field_validator("filters", mode="before")
    @classmethod
    def _from_one_filter(cls, filters: Any) -> Any:
        return [filters] if isinstance(filters, str | PatchFilter) else filters

    def read_channels(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the channels that are exported, and those that only a filter measures.

        Parameters
        ----------
        names : sequence of str
            The names of the source's channels.

        Raises
        ------
        ArgumentError
            If there is no such channel, or several have its name.
        """
        chosen = channel_indices(names, self.channels)
        exported = [names[channel] for channel in chosen]
        return chosen, other_channels(self.filters, exported, names)

    @property
    def measures_pixels(self) -> bool:
        """Whether patches are chosen by their pixels."""
        return bool(self.filters) or self.dedupe is not None

    def metric_columns(
        self, sources: Sequence[SourceInfo], classes: Sequence[str] = ()
    ) -> list[str]:
        """Return the columns of all that is measured, see `measurements.metric_columns`."""
        hashes = HASH_HALVES if self.dedupe is not None else ()
        return sorted([*metric_columns(self.filters, sources, classes), *hashes])

    def judge(self, grid: PatchGrid, sources: Sequence[SourceInfo], metrics: Metrics) -> Verdicts:
        """Decide on every candidate, by filters, choices by hand, near-duplicates and split."""
        return judge(
            grid,
            sources,
            filters=self.filters,
            keep_fraction=self.keep_fraction,
            overrides=self.overrides,
            dedupe=self.dedupe,
            split=self.split,
            metrics=metrics,
        )

    def with_overrides_of(self, keys: Collection[str]) -> Self:
        """Return the recipe without overrides of other sources, by their fingerprints."""
        overrides = tuple(each for each in self.overrides if fingerprint_of(each.source) in keys)
        return self.model_copy(update={"overrides": overrides})

    @property
    def hash(self) -> str:
        """Digest of the recipe: equal for equal recipes."""
        return digest_bytes(self.model_dump_json().encode())


class ExportPlan(Recipe):
    """A recipe, the sources that it is applied to, and where the patch set goes.

    Parameters
    ----------
    sources : str, Path or SourceRef, or a sequence of them
        "name.czi@3" is scene 3 of a file; a `SourceRef` also names labels, annotations and others.
    out : str or Path
        The folder to write, NAME.patches.zarr; NAME.patches for the other formats.
    strategy : Tiled, Random, Stratified, Balanced, Fixed or Whole
        How patches are chosen.
    depth_axis : {"none", "Z", "T"}
        The axis that is the third one of a patch.
    channels : tuple of int or str, or str, or None
        Channels by index or name, in this order; "0,DAPI" for both; None for all.
    pixel_size : PixelSize, float, str or None
        In micrometres along Y and X: every source is resampled to it. None for the sources' own.
    filters : sequence of filters or str
        A patch must pass each of them: `["std>5", "mean<otsu"]`.
    keep_fraction : float
        Share of the patches rejected by a filter to export nevertheless, 0 to 1.
    dedupe : int or None
        Of patches that look alike only the first is exported: of those whose hashes differ in at
        most that many bits, 0 to 10. None for all of them.
    overrides : tuple of Override
        Patches to export or reject by hand, whatever the filters say.
    split : Split, float or None
        Training, validation and test patches; a number is the share for validation. None for one
        group, "all".
    dtype : str or None
        NumPy's name of the pixel type to cast to, refused where values would be lost; None for
        the sources' own.
    format : {"zarr", "tiff", "npz", "coordinates"}
        What is written.
    codec : {"none", "zstd", "lz4"}
        Compression of a zarr.

    Raises
    ------
    ArgumentError
        If a value is not one of those, or `out` does not end as its format requires.
    """

    sources: tuple[SourceRef, ...]
    out: str

    @field_validator("sources", mode="before")
    @classmethod
    def _from_paths(cls, sources: Any) -> list[Any]:
        if isinstance(sources, str | Path | SourceRef | Mapping):
            sources = [sources]
        if not isinstance(sources, Iterable):
            raise ValueError(f"sources is {sources!r}; name files, or give a SourceRef for each")
        return [SourceRef.from_path(s) if isinstance(s, str | Path) else s for s in sources]

    @field_validator("out", mode="before")
    @classmethod
    def _from_path(cls, out: Any) -> Any:
        name = os.fspath(out) if isinstance(out, Path) else out
        return name.rstrip(os.sep + (os.altsep or "")) if isinstance(name, str) else name

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.sources:
            raise ValueError("a plan needs at least one source")
        if is_remote(self.out):
            raise ValueError(
                f"a patch set is written to a disk, not to {strip_credentials(self.out)}; "
                "write it to a folder, and copy that"
            )
        try:
            os.path.abspath(self.out).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the patch set's path '{printable(self.out)}' is not UTF-8, which its plan and "
                "table are written in; choose another name or folder"
            ) from None
        suffix = FORMATS[self.format].suffix
        if not self.out.endswith(suffix) or Path(self.out).name == suffix:
            raise ValueError(f"the patch set's name {self.out!r} must end in {suffix}")
        return self

    def resolved(self) -> Self:
        """Return the same plan with absolute paths, for jobs that run in another folder."""
        update = {
            "sources": tuple(ref.resolved() for ref in self.sources),
            "out": os.path.abspath(self.out),
            "strategy": self.strategy.with_region_path(absolute_path),
        }
        return self.model_copy(update=update)

    @property
    def paths(self) -> set[str]:
        """The paths and URLs of all images."""
        images = [image for ref in self.sources for image in ref.images.values()]
        return {path for image in images for path in (image.path, *(image.files or ()))}

    @property
    def recipe(self) -> Recipe:
        """The part that does not depend on where files lie."""
        fields = {name: getattr(self, name) for name in Recipe.model_fields}
        return Recipe(**fields | {"strategy": self.strategy.with_region_path(lambda _: None)})
