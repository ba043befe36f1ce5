"""Turn microscope files into patch sets for training, in napari or headless."""

__version__ = "0.1.0"

from napari_patchset.export.engine import Progress, run_export
from napari_patchset.export.plan import ExportPlan
from napari_patchset.patching.strategies import Fixed, Random, Stratified, Tiled, Whole
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.czi.stack import CziImageStack
from napari_patchset.stacks.file import FileImageStack
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.tiff.stack import TiffImageStack
from napari_patchset.stacks.zarr_array import ZarrImageStack

__all__ = [
    "CziImageStack",
    "ExportPlan",
    "FileImageStack",
    "Fixed",
    "ImageStack",
    "InMemoryImageStack",
    "PatchSet",
    "Progress",
    "Random",
    "Stratified",
    "TiffImageStack",
    "Tiled",
    "Whole",
    "ZarrImageStack",
    "list_scenes",
    "open_stack",
    "run_export",
]
