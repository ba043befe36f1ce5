"""What is in the sample: its scenes, channels, planes and sizes."""

from typing import NamedTuple


class Scene(NamedTuple):
    """Name a scene, place it on the stage, and shape its nuclei: pixels, long / short axis."""

    name: str
    x: int
    y: int
    width: int
    height: int
    radius: float
    stretch: float


class Channel(NamedTuple):
    """Name a channel and say how it is shown: an RGB colour, black and white in counts."""

    name: str
    color: tuple[int, int, int]
    black: int
    white: int


SCENES = (
    Scene("Monolayer", -1280, -420, 704, 576, radius=18, stretch=1.0),
    Scene("Giant cells", 260, -900, 576, 576, radius=28, stretch=1.0),
    Scene("Spindle cells", -90, 560, 832, 480, radius=16, stretch=1.5),
)
CHANNELS = (
    Channel("DAPI", (0, 110, 255), black=112, white=680),
    Channel("EGFP", (0, 255, 80), black=116, white=580),
)
TIMES, DEPTHS, TILE = 3, 5, 320
PIXEL_SIZE_M, PLANE_DISTANCE_M = 0.325e-6, 1e-6
