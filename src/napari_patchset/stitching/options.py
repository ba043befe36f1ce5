"""What may be chosen in a stitching: blend, fill value, names of channels, compression."""

from pydantic import Field

from napari_patchset._model import Frozen
from napari_patchset.patchset.sharding import CodecName
from napari_patchset.stitching.blending import Blend
from napari_patchset.stitching.full_resolution import Interpolation


class StitchOptions(Frozen):
    """The options of a stitching, with their help; see `iter_stitch`."""

    blend: Blend = Field(default="crop", description="How overlapping predictions become one.")
    fill: float = Field(default=0.0, description="Value of the pixels that no patch covers.")
    channel_names: tuple[str, ...] | None = Field(
        default=None,
        description='Names of the predicted channels: background,nuclei or "DAPI, em 450",405.',
    )
    argmax: bool = Field(
        default=False,
        description="Also write the channel with the highest prediction as a label image.",
    )
    full_resolution: Interpolation | None = Field(
        default=None,
        description="Write images of a resampled set at the size of their sources, interpolated; "
        "else at that of the set.",
    )
    codec: CodecName = Field(default="none", description="Compression of the OME-Zarr.")

    @classmethod
    def help(cls, field: str) -> str:
        """Return the help of an option."""
        return cls.model_fields[field].description or ""
