"""The one rule by which an outline becomes pixels.

A pixel belongs to an outline if its centre lies inside; pixel (j, i) has its centre at (j + 0.5,
i + 0.5). Inside is the even-odd rule over all rings of a feature, so a hole is outside. A centre
right on an edge belongs to the side towards greater x, on a horizontal edge towards greater y. That
is the rule of java.awt.Shape, by which QuPath fills, and where two outlines share an edge, each
pixel along it belongs to one of them: none is lost or counted twice.

Each row of pixel centres is crossed by the edges at known x (a scanline); the pixels from one
crossing of a feature to its next are a span of it. An edge is never cut, so the same pixels result
whatever window is drawn.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_patchset.source import Ratio, Rect

BoolArray = NDArray[np.bool_]

_PAINTED_AT_ONCE = 2**22
"""Pixels of spans that are listed at once; of overlapping features there may be any number."""


_FEW_SPANS = 4
"""Spans in a row, on average, up to which each is written by itself."""

_SPARSE = 0.25
"""Share of a window up to which listing the pixels of spans is faster than counting all pixels."""


class Edges(NamedTuple):
    """Straight edges of features, from one vertex (x, y) to the next, and the feature of each."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    feature: NDArray[np.int64]


class Spans(NamedTuple):
    """Runs of pixels of a window that features cover, from `first` up to, not including, `end`."""

    feature: NDArray[np.int64]
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    end: NDArray[np.int64]


def find_spans(edges: Edges, window: Rect, ratio: Ratio | None = None) -> Spans:
    """Return the spans of features in a window, in the order of their features.

    Parameters
    ----------
    edges : Edges
        All edges of these features that meet the rows of the window, also those beside it.
    window : Rect
        In pixels of the image.
    ratio : tuple of Fraction or None
        How many of the pixels that vertices are in make one of the image's, along Y and X, if it
        is resampled.
    """
    tall, wide = (1.0, 1.0) if ratio is None else map(float, ratio)
    # From above to below, so that two features get the same crossings from an edge they share.
    is_upward = (edges.start[:, 1] > edges.end[:, 1])[:, np.newaxis]
    (x0, y0), (x1, y1) = (
        np.where(is_upward, *ends).T
        for ends in ((edges.end, edges.start), (edges.start, edges.end))
    )
    # A row is crossed if its centre is at or below the upper end, and above the lower end.
    first, end = (
        np.clip(np.ceil(y / tall - 0.5) - window.y, 0, window.h).astype(np.int64) for y in (y0, y1)
    )
    n = end - first
    edge, row = np.repeat(np.arange(len(n)), n), count_up(first, n)
    y = (row + (window.y + 0.5)) * tall
    x0, y0, x1, y1 = (each[edge] for each in (x0, y0, x1, y1))
    x = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(x / wide - 0.5) - window.x, 0, window.w).astype(np.int64)
    feature = edges.feature[edge]
    order = np.lexsort((column, row, feature))
    # Rings are closed, so that a feature crosses each row an even number of times.
    feature, row, column = feature[order], row[order], column[order]
    spans = Spans(feature[::2], row[::2], column[::2], column[1::2])
    return Spans(*(each[spans.first < spans.end] for each in spans))


def count_up(first: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `n` consecutive numbers from each `first` on, one run after the other."""
    return np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n - first, n)


def fill(spans: Spans, window: Rect) -> BoolArray:
    """Return which pixels YX of a window any span covers."""
    covered, n_pixels = np.zeros((window.h, window.w), bool), int((spans.end - spans.first).sum())
    if len(spans.row) <= _FEW_SPANS * window.h:  # as of one large outline
        lists = (each.tolist() for each in (spans.row, spans.first, spans.end))
        for row, first, end in zip(*lists, strict=True):
            covered[row, first:end] = True
    elif n_pixels <= covered.size * _SPARSE:  # as of cells
        paint(spans, np.ones(len(spans.row), np.uint8), covered.view(np.uint8))
    else:
        depth = np.zeros((window.h, window.w + 1), np.int32)
        np.add.at(depth, (spans.row, spans.first), 1)
        np.add.at(depth, (spans.row, spans.end), -1)
        np.greater(depth.cumsum(axis=1)[:, :-1], 0, out=covered)
    return covered


def paint(spans: Spans, values: NDArray[np.integer], out: NDArray[np.integer]) -> None:
    """Write a value for each span into an image YX; of overlapping spans the last one stays."""
    n = spans.end - spans.first
    start = spans.row * out.shape[1] + spans.first
    flat, total = out.reshape(-1), np.cumsum(n)
    first = 0
    while first < len(n):
        before = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, before + _PAINTED_AT_ONCE, "right")))
        some = slice(first, last)
        offset = np.arange(int(total[last - 1]) - before) + before
        pixels = offset + np.repeat(start[some] - (total - n)[some], n[some])
        flat[pixels] = np.repeat(values[some], n[some])
        first = last
