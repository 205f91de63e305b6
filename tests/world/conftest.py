"""A small world, drawn once for all the tests that look at it."""

from __future__ import annotations

import pytest
from world_help import QUIET, Log, draw


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Draw eight stationary weeks of the small world, without faults of delivery."""
    return draw(tmp_path_factory.mktemp("world") / "state", days=56, delivery=QUIET, burn_in_days=16)
