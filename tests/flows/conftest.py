"""A project whose one case is the stub system, nothing run yet or a run finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from plant_help import Plant, make_plant

from pipelines.flows.edge import bind, perform
from pipelines.stores.registry import open_store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's tables once: it takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Plant:
    """A project of the stub system, nothing run yet; its steps are real but for the monitor."""
    return make_plant(tmp_path / "project", monkeypatch, empty_store)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A run as DVC leaves it, but for the promotion."""
    with pytest.MonkeyPatch.context() as patch:
        made = make_plant(tmp_path_factory.mktemp("template"), patch, empty_store)
        run = bind(made.project, "breakdown")
        for step in ("ingest", "features", "train", "evaluate"):
            perform(run, step)
    return run.workspace.root


@pytest.fixture
def built(plant: Plant, finished_run: Path) -> Plant:
    """The project with a finished run in runs/."""
    shutil.copytree(finished_run, plant.project.root / "runs" / "breakdown")
    return plant


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server for all tests: it takes seconds to start."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # Its thread costs every flow run a second at the end.
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with prefect_test_harness(server_startup_timeout=120), temporary_settings(quick):
        yield
