"""What tests of several rooms share. Being here, it also lets them import `tiny`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from tiny import tiny_case

from pipelines.case_study import CaseStudy
from pipelines.stores.workspace import Workspace

# Speed is measured in benchmarks/: a first example that waits for imports, or a busy core, is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """An empty workspace of the live kind."""
    return Workspace(tmp_path / "live" / "tiny")


@pytest.fixture
def case() -> CaseStudy:
    """A case that has tables and nothing else."""
    return tiny_case()
