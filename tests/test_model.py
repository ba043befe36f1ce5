"""The models that users make: what they refuse, and copies of them with other values."""

from collections.abc import Callable
from typing import Any

import pytest

from napari_patchset import ExportPlan, Split, StdFilter, Tiled
from napari_patchset.errors import ArgumentError

FIELDS = {"sources": "a.tif", "out": "a.patches.zarr", "strategy": Tiled(size=64)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Tiled(size=32, overlap=64),
            "Tiled: the overlap along Y is 64; it must be at least 0 and less than the size there, "
            "32.",
        ),
        (lambda: Tiled(overlap=64), "Tiled: size is missing."),
        (lambda: Split(val=20), "Split: val is 20; it must be less than 1."),
        (
            lambda: ExportPlan(**FIELDS | {"strategy": "tiled"}),
            "ExportPlan: strategy is 'tiled'; it must be made by its class, or a dict of its "
            "fields.",
        ),
        (
            lambda: ExportPlan(**FIELDS | {"strategy": {"kind": "tiled"}}),
            "ExportPlan: size is missing.",
        ),
        (
            lambda: ExportPlan(**FIELDS | {"sources": 3}),
            "ExportPlan: sources is 3; name files, or give a SourceRef for each.",
        ),
        (
            lambda: ExportPlan(**FIELDS).model_copy(update={"overlap": 16}),
            "ExportPlan: there is no overlap here.",
        ),
        (
            lambda: Tiled(size=32).model_copy(update={"overlap": 64, "edge": "bend"}),
            "Tiled: edge is 'bend'; it must be 'shift', 'drop', 'pad' or 'balance'.",
        ),
    ],
)
def test_wrong_arguments_are_one_error_in_plain_words(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ArgumentError) as raised:
        make()
    assert str(raised.value) == message


def test_a_copy_with_other_values_is_made_as_a_new_one() -> None:
    update = {"filters": "std>5", "split": 0.3, "sources": "b.tif"}
    plan = ExportPlan(**FIELDS)
    copy = plan.model_copy(update=update)
    assert copy == ExportPlan(**FIELDS | update)
    assert copy.filters == (StdFilter(above=5),)
    assert ExportPlan.model_validate_json(copy.model_dump_json()) == copy
    assert plan.model_copy() == plan == ExportPlan(**FIELDS)
