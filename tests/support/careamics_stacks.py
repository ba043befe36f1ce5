"""A pytest plugin that runs CAREamics' own tests of image stacks on ours: `nox -s careamics`.

Our classes take the place of CAREamics' before its tests import them. The tests are those of its
source distribution; none of them is here.
"""

from importlib import import_module
from typing import Any

import pytest

from napari_patchset import CziImageStack, FileImageStack, InMemoryImageStack, ZarrImageStack
from napari_patchset.errors import ArgumentError

_HINT = (
    "Check the provided `channels` parameter in the configuration for erroneous channel indices."
)
"""How CAREamics' message goes on."""

EXPECTED = 55
"""How many tests there are, so that none is left out unseen."""

_passed: list[str] = []


def _with_hint(stack: type[Any]) -> type[Any]:
    """Return a class whose message about a channel names CAREamics' configuration."""

    class Stack(stack):
        def extract_patch(self, *args: Any, **options: Any) -> Any:
            try:
                return super().extract_patch(*args, **options)
            except ArgumentError as error:
                raise ArgumentError(f"{error} {_HINT}") from error

    return Stack


def pytest_configure() -> None:
    stacks = import_module("careamics.dataset.image_stack")
    for stack in (CziImageStack, FileImageStack, InMemoryImageStack, ZarrImageStack):
        setattr(stacks, stack.__name__, _with_hint(stack))
    czi: Any = import_module("careamics.dataset.image_stack.czi_image_stack")
    czi.CziImageStack = stacks.CziImageStack


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if len(_passed) < EXPECTED:
        print(f"\n{len(_passed)} of CAREamics' tests passed, not {EXPECTED}")
        session.exitstatus = 1
