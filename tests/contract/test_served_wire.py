"""Every case that is served, on HTTP: whatever is sent is answered or refused, and never a fault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from probe_help import probe
from pydantic import BaseModel
from starlette.testclient import TestClient
from wire_help import JSON, bodies, check_problem, dumped, spoiled, told_examples, wrong_actions

from pipelines.flows.serve import open_service
from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.serving.service import Service
from pipelines.settings import Project
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Requests
from pipelines.stores.workspace import Workspace


@pytest.fixture(scope="module")
def service(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The case, served from a copy of its finished project."""
    run = finished.run
    if run.case.serving is None:
        pytest.skip(f"{run.case.name} is not served yet")
    root = tmp_path_factory.mktemp("wire") / "project"
    shutil.copytree(run.project.root, root, ignore=shutil.ignore_patterns("live"))
    opened = open_service(Project(root), run.case.name, seed=7)
    yield opened
    opened.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    app = make_app({service.case.name: service}, Keys({}), refresh_seconds=60)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def good(finished: Any) -> dict[str, Any]:
    """A request as it was asked in the tiny world, every field of it."""
    run = finished.run
    model: type[BaseModel] = run.case.serving.request
    table = next(each for each in run.case.tables if issubclass(each.schema, Requests))
    row = Lake(run.workspace.lake, run.case.tables).scan(table.name).tail(1).collect().row(0, named=True)
    asked = model.model_validate({name: row[name] for name in model.model_fields if name in row})
    return asked.model_dump(mode="json")


def test_any_value_in_any_field_is_answered_or_refused(
    service: Service, client: TestClient, good: dict[str, Any]
) -> None:
    path = f"/v1/{service.case.name}/decide"
    answered = 0
    for name, body in spoiled(good):
        reply = client.post(path, content=dumped(body), headers={"content-type": JSON})
        if reply.status_code == 200:
            answered += 1
            assert reply.json()["places"] and reply.json()["fallback"] == [], name
        else:
            assert check_problem(reply)["status"] == 422, name
    assert answered
    for name, content in bodies():
        reply = client.post(path, content=content, headers={"content-type": JSON})
        assert check_problem(reply)["status"] in (400, 422), name


def test_any_value_in_an_action_is_kept_or_refused(
    service: Service, client: TestClient, good: dict[str, Any]
) -> None:
    token = client.post(f"/v1/{service.case.name}/decide", json=good).json()["places"][0]["token"]
    path = f"/v1/{service.case.name}/actions"
    told = told_examples(service.serving)
    for word in service.serving.actions:
        sent = {"action_id": word, "token": token, "action": word, **told}
        said = client.post(path, json={"actions": [sent]})
        assert said.json() == {"accepted": 1, "refused": []}
    for name, body in wrong_actions(token, service.serving.actions[0], told):
        reply = client.post(path, content=dumped(body), headers={"content-type": JSON})
        assert reply.status_code == 200 or check_problem(reply)["status"] == 422, name


def test_what_the_document_allows_and_what_it_does_not(service: Service) -> None:
    statuses = probe(make_app({service.case.name: service}, Keys({})), 6)
    assert {f"POST /v1/{service.case.name}/{what} 200" for what in ("decide", "actions")} <= statuses.keys()


@pytest.mark.slow
def test_much_of_what_the_document_allows_and_does_not(service: Service) -> None:
    probe(make_app({service.case.name: service}, Keys({})), 100)


def test_an_online_store_that_is_spoiled_on_the_disk_empties_no_answer(
    service: Service, client: TestClient, good: dict[str, Any]
) -> None:
    """Last of all, for it spoils the copy: the file itself, not the code that reads it."""
    if not service._own.schema:
        pytest.skip("no features of a request's own")
    store = Path(service._own._store.config.online_store.path)
    assert Workspace(store.parents[1]).online == store.parent
    whole = store.read_bytes()
    path = f"/v1/{service.case.name}/decide"
    assert client.post(path, json=good).json()["fallback"] == []
    try:
        store.write_bytes(b"spoiled" * 1000)
        answer = client.post(path, json=good).json()
        assert answer["fallback"] == ["no_features"] and answer["places"] and answer["policy"] == "champion"
    finally:
        store.write_bytes(whole)
    assert client.post(path, json=good).json()["fallback"] == [], "it comes back by itself"
