"""Strategies: each is one frozen model that is options, JSON and code, with a method `plan`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from napari_patchset._model import by_kind
from napari_patchset.patching.strategies.balanced import Balanced
from napari_patchset.patching.strategies.base import PatchStrategy
from napari_patchset.patching.strategies.fixed import Fixed, FixedPatch, Whole
from napari_patchset.patching.strategies.random import Random, Stratified
from napari_patchset.patching.strategies.tiled import Tiled

__all__ = [
    "STRATEGIES",
    "Balanced",
    "Fixed",
    "FixedPatch",
    "Random",
    "Strategy",
    "Stratified",
    "Tiled",
    "Whole",
]

Strategy = Annotated[
    Tiled | Random | Stratified | Balanced | Fixed | Whole, Field(discriminator="kind")
]
"""Every strategy that a plan can name; to add one, write its class and add it here."""

STRATEGIES: Mapping[str, type[PatchStrategy]] = by_kind(Strategy)
"""By kind."""
