"""Balanced: patches around pixels of given classes, in given shares.

For each class as many of its pixels are drawn as its share wants, each of them equally likely and
none twice, from all sources together. `ClassPixels` counts them, and finds those that are drawn;
nothing is drawn and rejected.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from napari_patchset.annotations.raster import BoolArray
from napari_patchset.errors import ArgumentError
from napari_patchset.patching.class_pixels import BACKGROUND, FOREGROUND, ClassPixels, Pixels
from napari_patchset.patching.coverage import covered_share
from napari_patchset.patching.grid import Draws, PatchGrid, take_starts
from napari_patchset.patching.random_streams import class_stream, draw_distinct
from napari_patchset.patching.strategies.base import SelectedSource
from napari_patchset.patching.strategies.sized import MAX_CANDIDATES, SizedStrategy

_SHARE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^",=]+?)\s*=\s*([^",=]+?)\s*(?:,|$)')
_PLAIN_NAME = re.compile(r'[^\s",=](?:[^",=]*[^\s",=])?')


LABELS_REMEDY = "name those of every source"
"""A remedy that errors name, annotations or labels."""


def parse_shares(text: str) -> dict[str, float]:
    """Parse shares of classes, mito=0.5,background=0.5; a name may be in quotes, as in JSON.

    Raise ValueError if the text is none, or names a class twice.
    """
    shares, end = dict[str, float](), 0
    while end < len(text):
        match = _SHARE.match(text, end)
        try:
            name, share = (match[1], float(match[2])) if match else ("", 0.0)
            name = str(json.loads(name)) if name.startswith('"') else name
        except ValueError:
            match = None
        if match is None:
            raise ValueError(
                f"{text!r} is not a class and its share; write mito=0.5,background=0.5, and in "
                'quotes what has a comma: "Tumor, invasive"=0.5; a quote in a name is \\": '
                '"5\\" disc"=0.5'
            )
        if name in shares:
            raise ValueError(f"{text!r} names the class {name!r} twice")
        shares[name], end = share, match.end()
    return shares


def format_shares(shares: Mapping[str, float]) -> str:
    """Return shares as `parse_shares` reads them."""
    return ",".join(
        f"{name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)}={share!r}"
        for name, share in shares.items()
    )


def _parse_shares(shares: Any) -> Any:
    return parse_shares(shares) if isinstance(shares, str) else shares


def _check_shares(shares: dict[str, float]) -> dict[str, float]:
    if not shares:
        raise ValueError("balanced patches need a class; write them like mito=0.5,background=0.5")
    for name, share in shares.items():
        if not (isfinite(share) and share > 0):
            raise ValueError(f"the share of {name!r} is {share:g}; it must be above 0")
    return shares


Shares = Annotated[dict[str, float], BeforeValidator(_parse_shares), AfterValidator(_check_shares)]
"""The shares of classes, relative to each other, or as text, "mito=0.5,background=0.5"."""


class Balanced(SizedStrategy):
    """Draw patches around pixels of given classes, in given shares.

    Of the `count` patches a class has its share, to the nearest whole patch. Of the n pixels of a
    class, in all sources together, each is drawn with the same probability and none twice. Its
    patch has it in the middle, or, near the border, is shifted inwards. So pixels near a corner
    may have one and the same patch, which is then there as often as they are drawn.

    Only pixels count whose patch may be cut: inside of the region, on no missing plane, covered by
    the tiles of a mosaic.

    The table has the class of each patch as `drawn_for`, and as `weight`
    ``(n / n_all) / (k / k_all)``, with n pixels of this class and n_all of all the classes, k
    patches drawn for it and k_all in all. A mean that is weighted so, or patches drawn again with
    these weights, are as if pixels had been drawn without regard to their class.

    Parameters
    ----------
    size : tuple of int
        Patch size along YX, or ZYX (TYX) with a depth axis.
    count : int
        Number of patches, in all samples of all sources together.
    classes : dict of str to float, or str
        The share of each class, relative to the others: classes of the annotations if there are
        any, else values of the labels ("3"). "background" is what is in no class, or has the value
        0, and "foreground" everything else; unless a class has that name.
    seed, small
        See `Random`.
    region, select, min_covered
        See `PatchStrategy`.
    """

    reads_labels: ClassVar[bool] = True

    kind: Literal["balanced"] = "balanced"
    count: int = Field(ge=1, le=MAX_CANDIDATES, description="Number of patches in all.")
    classes: Shares = Field(
        description="Classes of the annotations, or values of the labels, and their shares: "
        "mito=0.5,background=0.5 or 3=0.5,0=0.5."
    )
    seed: int = Field(default=0, description="Random seed of the patches.")
    small: Literal["error", "skip"] = "error"

    def class_notice(self, names: Collection[str]) -> str:
        """See `PatchStrategy`: a class may be named by a word that means others."""
        for word, others in ((BACKGROUND, "from what lies in none"), (FOREGROUND, "from all")):
            if word in self.classes and word in names:
                return (
                    f"A class of the annotations is named {word!r}: patches for {word!r} are drawn "
                    f"from that class, not {others}. Rename the class if you mean the other."
                )
        return ""

    def counts(self) -> list[int]:
        """Return the number of patches of each class: the largest remainders are rounded up."""
        total = sum(self.classes.values())
        exact = np.array([self.count * share / total for share in self.classes.values()])
        counts = np.floor(exact).astype(np.int64)
        largest = np.argsort(counts - exact, kind="stable")
        counts[largest[: self.count - int(counts.sum())]] += 1
        return [int(n) for n in counts]

    def _candidates(self, sources: Sequence[SelectedSource]) -> list[PatchGrid]:
        sources = [selected.cropped_to_area() for selected in sources]
        pixels = [self._class_pixels(selected) for selected in sources]
        none = np.zeros(len(self.classes), np.int64)
        n_pixels = np.array([none if each is None else each.counts for each in pixels])
        self._check_enough(n_pixels.sum(axis=0), pixels)
        drawn = self._draw(n_pixels, sorted(range(len(sources)), key=lambda i: sources[i].rank))
        weights = self._weights(n_pixels.sum(axis=0))
        triples = zip(sources, pixels, drawn, strict=True)
        return [self._grid(*triple, weights) for triple in triples]

    def _class_pixels(self, selected: SelectedSource) -> ClassPixels | None:
        """Count the pixels of each class in a source, None if no patch fits it."""
        if not self._fits(selected, self.small):
            return None
        if selected.labels is None:
            raise ArgumentError(
                "Balanced patches are drawn from annotations or labels, and "
                f"{selected.source.name} has none; {LABELS_REMEDY}."
            )
        box = selected.samples, selected.origin, selected.shape
        return ClassPixels(selected.labels, list(self.classes), *box, _Cuttable(self, selected))

    def starts_around(self, selected: SelectedSource, pixels: Pixels) -> Pixels:
        """Return the starts of the patches around pixels, shifted inwards near the border."""
        size, origin = np.array(self.pixels), np.array(selected.origin)
        starts: Pixels = np.clip(pixels - size // 2, origin, origin + selected.shape - size)
        return starts

    def find_faults(
        self, selected: SelectedSource, sample: int, start: Pixels, size: tuple[int, ...]
    ) -> BoolArray:
        """Return which patches of one sample may not be cut."""
        index, samples = (np.full(len(start), n, np.int32) for n in (selected.index, sample))
        patches = PatchGrid(size, index, samples, start.astype(np.int32))
        valid = covered_share(patches, selected.source)
        faulty = np.zeros(len(start), bool)
        if valid is not None and size != self.pixels:  # of patches in a box, one may lie in a gap
            faulty = valid < 1
        for has_fault, _ in self._faults(patches, selected, valid):
            faulty |= has_fault
        return faulty

    def _check_enough(
        self, n_pixels: NDArray[np.int64], pixels: Sequence[ClassPixels | None]
    ) -> None:
        """Refuse a class that has fewer pixels than patches are to be drawn for it."""
        for name, n, count in zip(self.classes, n_pixels.tolist(), self.counts(), strict=True):
            if n >= count or not any(pixels):
                continue
            if n:
                pixels_text = "1 pixel" if n == 1 else f"{n} pixels"
                raise ArgumentError(
                    f"The class {name!r} has {pixels_text}, fewer than the {count} patches that "
                    "are to be drawn for it; lower the count or its share."
                )
            has = next(each for each in pixels if each is not None).describe_classes()
            raise ArgumentError(
                f"There is no pixel of the class {name!r} where a patch may be cut; the first "
                f"source has {has}. Leave the class out, or add sources that have it."
            )

    def _draw(
        self, n_pixels: NDArray[np.int64], ranked: Sequence[int]
    ) -> list[list[NDArray[np.int64]]]:
        """Draw pixels, as their numbers in each source, of each class.

        Parameters
        ----------
        n_pixels : int64 array, (sources, classes)
            The pixels to draw from.
        ranked : sequence of int
            The order in which the sources are numbered.
        """
        ends = n_pixels[ranked].cumsum(axis=0)
        drawn: list[list[NDArray[np.int64]]] = [[] for _ in ranked]
        for code, (name, count) in enumerate(zip(self.classes, self.counts(), strict=True)):
            of_class = draw_distinct(class_stream(self.seed, name), count, int(ends[-1, code]))
            parts = np.split(of_class, np.searchsorted(of_class, ends[:-1, code]))
            for index, end, numbers in zip(ranked, ends[:, code], parts, strict=True):
                drawn[index].append(numbers - (end - n_pixels[index, code]))
        return drawn

    def _weights(self, n_pixels: NDArray[np.int64]) -> dict[str, float]:
        """Return the weight of each class; 0 for one without a patch."""
        drawn, n_all = self.counts(), int(n_pixels.sum())
        classes = zip(self.classes, n_pixels.tolist(), drawn, strict=True)
        return {name: n * self.count / (n_all * k) if n and k else 0.0 for name, n, k in classes}

    def _grid(
        self,
        selected: SelectedSource,
        pixels: ClassPixels | None,
        drawn: Sequence[NDArray[np.int64]],
        weights: Mapping[str, float],
    ) -> PatchGrid:
        """Return the patches of the pixels that are drawn, in the order of the source's tiles."""
        if pixels is None:
            grid = selected.empty_grid(self.pixels)
            return replace(grid, draws=Draws(weights, np.empty(0, np.int16)))
        code = np.repeat(np.arange(len(drawn), dtype=np.int16), [len(each) for each in drawn])
        sample, pixel = pixels.find(code, np.concatenate(drawn))
        start = self.starts_around(selected, pixel)
        height, width = selected.source.block_shape or selected.source.spatial_shape[-2:]
        *depth, y, x = start.T
        order = np.lexsort((code, x, y, *depth, x // width, y // height, sample))
        return PatchGrid(
            self.pixels,
            np.full(len(order), selected.index, np.int32),
            sample[order].astype(np.int32),
            take_starts(start.astype(np.int32), order),
            draws=Draws(weights, code[order]),
        )


class _Cuttable:
    """The pixels of a source whose patches may be cut."""

    def __init__(self, strategy: Balanced, selected: SelectedSource) -> None:
        self._strategy, self._selected = strategy, selected

    def holds_all(self, sample: int, first: Pixels, last: Pixels) -> bool:
        """Return whether the patch of each pixel in a box may be cut; False if that is unknown.

        Where a single patch around all of them may be cut, each of them may.
        """
        if self._strategy.min_inside < 1:
            return False
        ends = self._strategy.starts_around(self._selected, np.stack([first, last]))
        size = tuple((ends[1] - ends[0] + self._strategy.pixels).tolist())
        return not self._strategy.find_faults(self._selected, sample, ends[:1], size)[0]

    def holds(self, sample: int, pixels: Pixels) -> BoolArray:
        """Return of which pixels the patch may be cut."""
        start = self._strategy.starts_around(self._selected, pixels)
        size = self._strategy.pixels
        return ~self._strategy.find_faults(self._selected, sample, start, size)
