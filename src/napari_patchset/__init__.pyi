"""The public names; `lazy_loader` imports each when it is first used."""

from .exporting.plan import ExportPlan as ExportPlan
from .exporting.plan import ImageRef as ImageRef
from .exporting.plan import SourceRef as SourceRef
from .exporting.run import Progress as Progress
from .exporting.run import export as export
from .exporting.run import iter_export as iter_export
from .patching.filters import parse_filter as parse_filter
from .patching.regions import Polygon as Polygon
from .patching.regions import Rectangle as Rectangle
from .patching.regions import ShapesRegion as ShapesRegion
from .patching.splits import Split as Split
from .patching.strategies import Fixed as Fixed
from .patching.strategies import FixedPatch as FixedPatch
from .patching.strategies import Random as Random
from .patching.strategies import Stratified as Stratified
from .patching.strategies import Tiled as Tiled
from .patching.strategies import Whole as Whole
from .patchset.reader import PatchSet as PatchSet
from .stacks.czi.stack import CziImageStack as CziImageStack
from .stacks.file import FileImageStack as FileImageStack
from .stacks.memory import InMemoryImageStack as InMemoryImageStack
from .stacks.metadata import describe as describe
from .stacks.opening import list_scenes as list_scenes
from .stacks.opening import open_stack as open_stack
from .stacks.protocol import ImageStack as ImageStack
from .stacks.tiff.stack import TiffImageStack as TiffImageStack
from .stacks.zarr.stack import ZarrImageStack as ZarrImageStack
from .verification.findings import Finding as Finding
from .verification.verify import verify as verify

__version__: str
