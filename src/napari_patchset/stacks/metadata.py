"""What a file says about its pixels: size, channels, scenes. What it does not say is None."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_patchset.source import PixelSize, Rect, SceneId


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the file describes it.

    Attributes
    ----------
    name : str
        Its name, or "Channel N" where the file has none.
    color : str or None
        "#rrggbb".
    contrast_limits : tuple of float or None
        Grey values shown as black and white.
    """

    name: str
    color: str | None = None
    contrast_limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class LabelValues:
    """What a file says of the values of a label image.

    Attributes
    ----------
    colors : mapping of int to tuple of float
        Red, green, blue and alpha of a value, 0 to 1.
    properties : mapping of int to mapping
        What is known of a value, by name.
    """

    colors: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    properties: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """Describe the channels and the pixel size of an image, and its values where it is labels."""

    channels: tuple[Channel, ...]
    pixel_size: PixelSize = field(default_factory=PixelSize)
    time_step: float | None = None
    """Seconds between two time points."""
    labels: LabelValues | None = None


@dataclass(frozen=True, slots=True)
class SceneSummary:
    """One scene of a file: enough to choose it by.

    Attributes
    ----------
    id : int, str or None
        The file's own id; None where the file has no scenes.
    name : str
        As the file names it, else "Scene N".
    rect : Rect
        Position on the stage and size, in pixels.
    axes, shape : str, tuple of int
        Its axes and the size along each.
    dtype : str
        NumPy's name of the pixel type.
    well : str or None
        The well of a plate that it lies in.
    center : tuple of float or None
        Its centre on the stage, x and y in micrometres.
    """

    id: SceneId | None
    name: str
    rect: Rect
    axes: str
    shape: tuple[int, ...]
    dtype: str
    well: str | None = None
    center: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """Its name, after that of the well where the two differ."""
        return self.name if self.well in (None, self.name) else f"{self.well} {self.name}"
