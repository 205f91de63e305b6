"""The whole loop on the production profile: PostgreSQL and Redis, behind wires that tests cut and restore. Minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl
import psycopg
import pytest
from contract_help import open_gate
from production_help import POSTGRES, REDIS, Wire, databases, environment, redis_keys, use_production, wires
from pydantic import BaseModel
from starlette.testclient import TestClient
from tiny_project import CASE, tiny_project

from pipelines import catalog
from pipelines.flows import clock
from pipelines.flows.edge import bind, perform
from pipelines.flows.live import bind_live
from pipelines.flows.serve import check_parity, open_service
from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.serving.service import Service
from pipelines.settings import Project
from pipelines.steps.features import materialize
from pipelines.steps.ingest import ingest_log
from pipelines.stores.action_log import open_action_log
from pipelines.stores.lake import Lake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("production")]

BUILD = ("ingest", "features", "train", "evaluate", "promote")
AGAIN = ("features", "train", "evaluate", "promote")
SOON = 3.0
"""Seconds within which an answer, or a refusal, has to come, whatever is gone."""


@dataclass
class Plant:
    """A project whose stores are services, each behind a wire."""

    project: Project
    database: str
    log: Wire
    registry: Wire
    online: Wire

    def rows(self, part: str, query: str) -> list[Any]:
        """Ask one of its databases, past the wires."""
        with psycopg.connect(f"postgresql://127.0.0.1:5432/{self.database}{part}") as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Run a tiny case to its first champion."""
    root = tmp_path_factory.mktemp("production") / "project"
    with databases() as name, redis_keys(root), wires(POSTGRES, POSTGRES, REDIS) as (log, registry, online):
        tracking = f"postgresql+psycopg://127.0.0.1:{registry.port}/{name}_mlflow?connect_timeout=5"
        variables = {"LOOP_DATABASE": name, "PGPORT": str(log.port), "REDIS_PORT": str(online.port)}
        with environment(**variables, MLFLOW_TRACKING_URI=tracking):
            project = use_production(tiny_project(root, CASE, gate=open_gate(catalog.case(CASE))))
            for step in BUILD:
                perform(bind(project, CASE), step)
            yield Plant(project, name, log, registry, online)


@pytest.fixture(scope="module")
def service(plant: Plant) -> Iterator[Service]:
    opened = open_service(plant.project, CASE, seed=7)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def restored(plant: Plant) -> Iterator[None]:
    """Leave every wire as it was found."""
    yield
    for wire in (plant.log, plant.registry, plant.online):
        wire.set("up")


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(make_app({CASE: service}, Keys({}), refresh_seconds=3600)) as client:
        yield client


def asked(plant: Plant, count: int) -> list[BaseModel]:
    run = bind(plant.project, CASE)
    rows = Lake(run.workspace.lake, run.case.tables).scan("requests").tail(count).collect()
    model = run.case.serving.request  # type: ignore[union-attr]
    return [model.model_validate(row) for row in rows.select(list(model.model_fields)).iter_rows(named=True)]


def timed(do: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return do(), time.monotonic() - began


def test_from_a_champion_to_the_next_one(plant: Plant, service: Service) -> None:
    """Serve, collect, ingest, compare, retrain and promote: every store is a service."""
    decisions = service.decide(asked(plant, 20))
    assert {(each.policy, each.model_version, each.fallback) for each in decisions} == {("champion", "1", ())}
    places = [place for each in decisions for place in each.places][:30]
    sent = [
        {"action_id": f"a{number}", "token": place.token, "action": service.serving.actions[0]}
        for number, place in enumerate(places)
    ]
    assert service.collect([*sent, *sent[:5]]).accepted == 35
    found = check_parity(plant.project, CASE, days=1)
    assert (found.requests, found.differences, found.excused) == (20, {}, {})
    assert found.values > 0

    run = bind_live(plant.project, CASE)
    clock.advance(run.workspace, run.case.framing.attribution + timedelta(days=1))
    run = bind_live(plant.project, CASE)
    with open_action_log(plant.project.platform.action_log, run.workspace) as log:
        manifest = ingest_log(run.case, run.workspace, log, as_of=clock.read(run.workspace).now())
    assert (manifest.tables["actions"].kept, manifest.tables["actions"].duplicate) == (30, 5)
    for step in AGAIN:
        perform(run, step)
    reached = materialize(run.case, run.workspace, run.as_of, plant.project.platform)
    assert set(reached.values()) == {run.as_of}
    assert run.registry.champion().number == "2"
    assert service.refresh()
    assert {(each.model_version, each.fallback) for each in service.decide(asked(plant, 5))} == {("2", ())}

    assert plant.rows("", "SELECT count(*) FROM action_log")[0][0] > 0
    assert {row[0] for row in plant.rows("_mlflow", "SELECT alias FROM registered_model_aliases")} >= {
        "champion"
    }
    views = plant.rows("_feast", "SELECT feature_view_name FROM feature_views WHERE project_id LIKE 'live_%'")
    assert {row[0] for row in views} == {table.name for table in run.case.features}
    assert not list(plant.project.root.glob("**/*.db")), "no store is left in a file"


@pytest.mark.parametrize("state", ["cut", "hung"])
def test_without_redis_answers_go_on_without_features_and_come_back(
    plant: Plant, service: Service, state: str
) -> None:
    requests = asked(plant, 3)
    plant.online.set(state)
    for _ in range(3):
        (decision, *_), spent = timed(lambda: service.decide(requests))
        assert decision.fallback[0] == "no_features" and decision.policy == "champion"
        assert decision.places and spent < SOON
    plant.online.set("up")
    assert service.decide(requests)[0].fallback == ()
    assert service.decide(requests)[0].fallback == ()


def test_a_service_starts_without_redis_and_finds_it_again(plant: Plant) -> None:
    plant.online.set("cut")
    service = open_service(plant.project, CASE, seed=8)
    assert service.decide(asked(plant, 3))[0].fallback == ("no_features",)
    plant.online.set("up")
    assert service.decide(asked(plant, 3))[0].fallback == ()
    service.close()


def test_an_emptied_redis_is_filled_when_a_service_starts(plant: Plant, service: Service) -> None:
    assert known(plant, service) > 0
    with redis_keys(bind_live(plant.project, CASE).workspace.root):
        pass  # which deletes them
    assert known(plant, service) == 0
    open_service(plant.project, CASE, seed=9).close()
    assert known(plant, service) > 0


def known(plant: Plant, service: Service) -> int:
    """Count the features that some requests' own entities have online."""
    rows = pl.DataFrame([each.model_dump() for each in asked(plant, 10)])
    return int(service._own.read(rows).select(list(service._own.schema)).count().sum_horizontal().item())


@pytest.mark.parametrize("state", ["cut", "hung"])
def test_without_the_log_nothing_is_acknowledged_and_nothing_is_lost(
    plant: Plant, service: Service, client: TestClient, state: str
) -> None:
    """PostgreSQL goes away under clients that send again: what was acknowledged is there, once."""
    (request,) = asked(plant, 1)
    body = request.model_dump(mode="json")
    shown = client.post(f"/v1/{CASE}/decide", json=body).json()
    actions = [
        {"action_id": f"{state}-{number}", "token": place["token"], "action": service.serving.actions[0]}
        for number, place in enumerate(shown["places"])
    ]
    batch = {"actions": actions}
    plant.log.set(state)
    patience = SOON if state == "cut" else 12.0
    for path, content in ((f"/v1/{CASE}/decide", body), (f"/v1/{CASE}/actions", batch)):
        refused, spent = timed(lambda path=path, content=content: client.post(path, json=content))  # type: ignore[misc]
        assert refused.status_code == 503, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"]
        assert spent < patience, spent
    if state == "cut":
        assert known(plant, service) > 0, "reading features needs no registry"
    plant.log.set("up")
    again, spent = timed(lambda: client.post(f"/v1/{CASE}/actions", json=batch))
    assert (again.status_code, again.json()["accepted"]) == (200, len(actions)), again.text
    assert client.post(f"/v1/{CASE}/decide", json=body).json()["fallback"] == []
    run = bind_live(plant.project, CASE)
    with open_action_log(plant.project.platform.action_log, run.workspace) as log:
        ingest_log(run.case, run.workspace, log, as_of=clock.read(run.workspace).now())
    kept = Lake(run.workspace.lake, run.case.tables).scan("actions").collect()["action_id"].to_list()
    assert sorted(each for each in kept if each.startswith(state)) == [each["action_id"] for each in actions]


def test_without_the_registry_what_stood_serves_on(
    plant: Plant, service: Service, client: TestClient
) -> None:
    requests, version = asked(plant, 3), service.state.first.version
    plant.registry.set("cut")
    refreshed, spent = timed(service.refresh)
    assert not refreshed and spent < SOON
    assert "registry" in client.get(f"/v1/{CASE}").json()["problems"][0]
    champion(service, requests, version)
    plant.registry.set("up")
    service.refresh()
    assert not service.state.problems


def test_a_registry_that_hangs_holds_no_answer_up(plant: Plant, service: Service) -> None:
    requests, version = asked(plant, 3), service.state.first.version
    plant.registry.set("hung")
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(service.refresh)
        champion(service, requests, version)
        assert not refreshing.done()
        plant.registry.set("up")
        assert refreshing.result(SOON) is False
    champion(service, requests, version)


def champion(service: Service, requests: list[BaseModel], version: str | None) -> None:
    """Ask, and hold the answers to the champion's, in time."""
    decisions, spent = timed(lambda: service.decide(requests))
    assert {(each.policy, each.model_version, each.fallback) for each in decisions} == {
        ("champion", version, ())
    }
    assert spent < SOON
