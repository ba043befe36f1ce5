"""What the tests of stacks share."""

from collections import Counter

import pytest

from support.counting import counting


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the "tiles" that stacks decode."""
    return counting(monkeypatch)
