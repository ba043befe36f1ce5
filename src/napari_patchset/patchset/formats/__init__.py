"""The one table of formats that a patch set can have."""

from collections.abc import Mapping

from napari_patchset.patchset.formats.base import SetFormat
from napari_patchset.patchset.formats.coordinates import CoordinatesSet
from napari_patchset.patchset.formats.npz import NpzSet
from napari_patchset.patchset.formats.tiff import TiffSet
from napari_patchset.patchset.formats.zarr import ZarrSet

FORMATS: Mapping[str, SetFormat] = {
    "zarr": ZarrSet(),
    "tiff": TiffSet(),
    "npz": NpzSet(),
    "coordinates": CoordinatesSet(),
}
"""By the name that a plan gives; a further format is a class and a line here."""
