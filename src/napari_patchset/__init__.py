"""Turn microscope files into patch sets for training, in napari or headless."""

__version__ = "0.1.0"

from napari_patchset.export.engine import Progress, run_export
from napari_patchset.export.plan import ExportPlan
from napari_patchset.patching.strategies import Tiled
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.czi.stack import CziImageStack
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.opening import list_scenes, open_stack

__all__ = [
    "CziImageStack",
    "ExportPlan",
    "ImageStack",
    "InMemoryImageStack",
    "PatchSet",
    "Progress",
    "Tiled",
    "list_scenes",
    "open_stack",
    "run_export",
]
