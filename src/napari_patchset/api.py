"""What `import napari_patchset` gives."""

from napari_patchset.export.engine import Progress, run_export
from napari_patchset.export.plan import ExportPlan
from napari_patchset.export.refs import ImageRef, SourceRef
from napari_patchset.patching.filters import parse_filter
from napari_patchset.patching.regions import Polygon, Rectangle, ShapesRegion
from napari_patchset.patching.splits.split import Split
from napari_patchset.patching.strategies import Fixed, Place, Random, Stratified, Tiled, Whole
from napari_patchset.patchset.reader import PatchSet
from napari_patchset.stacks.base import ImageStack
from napari_patchset.stacks.czi.stack import CziImageStack
from napari_patchset.stacks.describe import describe
from napari_patchset.stacks.file import FileImageStack
from napari_patchset.stacks.memory import InMemoryImageStack
from napari_patchset.stacks.opening import list_scenes, open_stack
from napari_patchset.stacks.tiff.stack import TiffImageStack
from napari_patchset.stacks.zarr.stack import ZarrImageStack
from napari_patchset.verification.finding import Finding
from napari_patchset.verification.verify import verify

__all__ = [
    "CziImageStack",
    "ExportPlan",
    "FileImageStack",
    "Finding",
    "Fixed",
    "ImageRef",
    "ImageStack",
    "InMemoryImageStack",
    "PatchSet",
    "Place",
    "Polygon",
    "Progress",
    "Random",
    "Rectangle",
    "ShapesRegion",
    "SourceRef",
    "Split",
    "Stratified",
    "TiffImageStack",
    "Tiled",
    "Whole",
    "ZarrImageStack",
    "describe",
    "list_scenes",
    "open_stack",
    "parse_filter",
    "run_export",
    "verify",
]
