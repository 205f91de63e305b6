"""Every case of the catalog, run once on its tiny world: the contract tests look at what came of it.

No case is named here: one that the catalog finds, and that brings a `tiny.yaml`, is held to all of them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract_help import open_gate
from tiny_project import tiny_project

from pipelines import catalog
from pipelines.case_study import Batch
from pipelines.flows.edge import Run, bind, perform, world_batches
from pipelines.steps.ingest import Manifest, ingest
from pipelines.steps.promote import Promotion
from pipelines.stores.registry import open_store


@dataclass(frozen=True, repr=False)
class Finished:
    """A case from ingest to promote: the batches of its world, and what became of them."""

    run: Run
    batches: list[Batch]
    manifest: Manifest
    promotion: Promotion


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for a case's name once for each case; where workers share tests, by case."""
    if "case_name" in metafunc.fixturenames:
        # Without a world there is nothing to run on: such a case is held to what it declares alone.
        whole = not metafunc.module.__name__.endswith("test_declared")
        names = [name for name in catalog.names() if catalog.has_world(name) or not whole]
        cases = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]
        metafunc.parametrize("case_name", cases, scope="session")


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's tables once: it takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def finished(case_name: str, tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Finished:
    """Run a case on its tiny world; its gate lets every first model pass."""
    gate = open_gate(catalog.case(case_name))
    project = tiny_project(tmp_path_factory.mktemp(case_name) / "project", case_name, gate=gate)
    project.registry_folder.mkdir()
    shutil.copy(empty_registry, project.registry_folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run = bind(project, case_name)
        batches = list(world_batches(run))
        manifest = ingest(run.case, run.workspace, batches, source="world", as_of=run.as_of)
        for step in ("features", "train", "evaluate"):
            perform(run, step)
        return Finished(run, batches, manifest, perform(run, "promote"))
