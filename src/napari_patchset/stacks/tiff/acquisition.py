"""Axes that programs of acquisition state, but that tifffile leaves together in one.

Micro-Manager's positions become series, and ScanImage's volumes time points.
"""

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from tifffile import TiffPageSeries

from napari_patchset.stacks.metadata import number


def arrange_series(series: list[TiffPageSeries]) -> tuple[list[TiffPageSeries], str]:
    """Return series whose positions and volumes are told apart, and a problem, "" for none."""
    arranged = [_split_volumes(part) for each in series for part in _split_positions(each)]
    return [each for each, _ in arranged], next((text for _, text in arranged if text), "")


def _split_positions(series: TiffPageSeries) -> list[TiffPageSeries]:
    """Return a series for each position of Micro-Manager, which tifffile has as an axis R."""
    axes, shape = series.axes, series.shape
    if series.kind not in ("mmstack", "ndtiff") or "R" not in axes:
        return [series]
    lead, at = axes.index("Y"), axes.index("R")
    pages = np.empty(prod(shape[:lead]), object)
    pages[:] = list(series)
    pages = np.moveaxis(pages.reshape(shape[:lead]), at, 0)
    return [
        TiffPageSeries(
            part.ravel().tolist(),
            shape[:at] + shape[at + 1 :],
            series.dtype,
            axes[:at] + axes[at + 1 :],
            name=f"Pos{position}",
            kind=series.kind,
            multifile=series.is_multifile,
        )
        for position, part in enumerate(pages)
        if any(page is not None for page in part.flat)
    ]


def _split_volumes(pages: TiffPageSeries) -> tuple[TiffPageSeries, str]:
    """Return the series of a ScanImage file with its volumes as T, and a problem, "" for none.

    tifffile numbers the slices of all volumes along Z. They are told apart only if the header is
    unambiguous: one frame of each slice, no fly-back frames, and pages of whole volumes from the
    first slice on.
    """
    if pages.kind != "scanimage" or not pages.axes.startswith("Z"):
        return pages, ""
    header = scanimage_header(pages)
    n_slices, n_planes = _count(header, "NumSlices"), pages.shape[0]
    if n_slices < 2 or n_planes <= n_slices:
        return pages, ""
    is_whole = "T" not in pages.axes and n_planes % n_slices == 0
    if not is_whole or _has_other_frames(header, n_planes, n_slices, pages.keyframe.description):
        problem = (
            f"its header names volumes of {n_slices} slices, into which its pages can't be told "
            f"apart for certain; its {n_planes} planes are read as Z"
        )
        return pages, problem
    shape = (n_planes // n_slices, n_slices, *pages.shape[1:])
    axes = f"T{pages.axes}"
    return TiffPageSeries(list(pages), shape, pages.dtype, axes, kind=pages.kind), ""


def scanimage_header(series: TiffPageSeries) -> Mapping[str, Any]:
    """Return what the header of a ScanImage file says of all its pages."""
    metadata = series.keyframe.parent.scanimage_metadata or {}
    header = metadata.get("FrameData", {})
    return header if isinstance(header, dict) else {}


def _has_other_frames(
    header: Mapping[str, Any], n_planes: int, n_slices: int, description: str
) -> bool:
    """Return whether pages may be other than one frame of each slice, volume by volume."""
    n_volumes, n_in_volume = (
        _count(header, name) for name in ("NumVolumes", "NumFramesPerVolumeWithFlyback")
    )
    flyback = number(header.get("SI.hFastZ.numDiscardFlybackFrames")) or 0
    averaged = number(header.get("SI.hScan2D.logAverageFactor")) or 1
    numbered = re.search(r"^frameNumbers? = (\d+)", description, re.MULTILINE)
    first = max(int(numbered[1]) - 1, 0) if numbered else 0
    return (
        (n_volumes > 0 and n_planes > n_slices * n_volumes)
        or n_in_volume > n_slices
        or flyback > 0
        or averaged > 1
        or first % n_slices > 0
    )


def _count(header: Mapping[str, Any], name: str) -> int:
    """Return a number of slices, volumes or frames, 0 if the header has none."""
    for prefix in ("actualN", "n"):
        if value := number(header.get(f"SI.hStackManager.{prefix}{name[1:]}")):
            return int(value)
    return 0
