"""`loop up` on the production profile: Prefect's server and MLflow's UI on PostgreSQL."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest
from log_help import SERVER
from machine_help import free_port
from production_help import databases, environment, use_production
from tiny_project import CASE, tiny_project

from pipelines.errors import UsageError
from pipelines.flows.prefect_server import answers
from pipelines.flows.services import Services, down, up


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("production")
def test_prefect_keeps_its_deployments_in_postgresql(tmp_path: Path) -> None:
    with databases() as name, environment(LOOP_DATABASE=name):
        project = use_production(tiny_project(tmp_path / "project"))
        try:
            running = up(project, prefect_port=free_port(), mlflow_port=free_port(), cases=(), say=print)
            found = deployments(running)
            assert CASE.replace("_", "-") in {each["name"] for each in found}
            assert answers(f"{running.mlflow_url}/health")
            with psycopg.connect(f"{SERVER}/{name}_prefect") as connection:
                assert connection.execute("SELECT count(*) FROM deployment").fetchone() == (len(found),)
        finally:
            stopped = down(project)
        assert stopped == ["worker", "mlflow", "prefect"]
        assert not list(project.root.glob("**/*.db")), "no store is left in a file"


def test_a_missing_database_is_named_with_its_remedy_before_anything_starts(tmp_path: Path) -> None:
    with databases() as name, environment(LOOP_DATABASE=name):
        with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name}_prefect")
        project = use_production(tiny_project(tmp_path / "project"))
        with pytest.raises(
            UsageError, match=rf"does not exist; .*createdb -h 127\.0\.0\.1 -p 5432 {name}_prefect"
        ):
            up(project, prefect_port=free_port(), mlflow_port=free_port(), cases=())
        assert not list((project.root / ".run").glob("*.json"))


def deployments(running: Services) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{running.api_url}/deployments/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found
