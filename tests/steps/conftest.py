"""The stub system in a workspace, and a registry of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import stub_case

from pipelines.stores.registry import Registry, open_store
from pipelines.stores.workspace import Workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's tables once: it takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def registry(tmp_path: Path, empty_store: Path) -> Registry:
    folder = tmp_path / "registry"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return Registry(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), "breakdown")


@pytest.fixture
def pictures() -> None:
    """Draw the figures: half of a promotion's time, so only the tests that look at them ask for it."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Let steps open the stub's data sets, which need no Feast."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("pipelines.steps.run_content.draw_all", lambda *_: [])
    for step in ("split", "hold_out", "signals"):
        monkeypatch.setattr(f"pipelines.steps.{step}.open_dataset", stub_case.open_stub)
    yield


@pytest.fixture
def breakdown(tmp_path: Path, stub: None) -> Workspace:
    """A workspace of the stub system with data and no model."""
    return stub_case.workspace(tmp_path)
