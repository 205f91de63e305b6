"""Every case that says how it answers requests: the champion answers, and what comes back is counted once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from wire_help import told_examples

from pipelines.flows import clock
from pipelines.flows.edge import Run
from pipelines.flows.overview import actions
from pipelines.flows.serve import check_parity, open_service
from pipelines.serving.own import StoreDownError
from pipelines.serving.service import Service
from pipelines.settings import Project
from pipelines.steps.ingest import Manifest, ingest_log
from pipelines.steps.parity import STORE_DOWN, parity
from pipelines.stores.action_log import open_action_log
from pipelines.stores.lake import Lake
from pipelines.stores.quarantine import Quarantine
from pipelines.stores.schemas import Requests


@pytest.fixture
def project(finished, tmp_path: Path) -> Project:
    """A copy of the finished project that a test may serve from; the registry names its own folder."""
    if finished.run.case.serving is None:
        pytest.skip(f"{finished.run.case.name} is not served yet")
    root = tmp_path / "project"
    shutil.copytree(finished.run.project.root, root, ignore=shutil.ignore_patterns("live"))
    return Project(root)


@pytest.fixture
def service(project: Project, case_name: str) -> Iterator[Service]:
    opened = open_service(project, case_name, seed=7)
    yield opened
    opened.close()


def asked(finished, count: int) -> list[BaseModel]:
    """Ask again what was asked in the tiny world."""
    run: Run = finished.run
    model = run.case.serving.request
    table = next(each for each in run.case.tables if issubclass(each.schema, Requests))
    rows = Lake(run.workspace.lake, run.case.tables).scan(table.name).tail(count).collect()
    fields = [name for name in model.model_fields if name in rows.columns]
    return [model.model_validate(row) for row in rows.select(fields).iter_rows(named=True)]


def ingested(project: Project, service: Service) -> Manifest:
    """Ingest the log, an attribution window and a day later."""
    ws = live(project, service)
    clock.advance(ws, service.case.framing.attribution + timedelta(days=1))
    with open_action_log(project.platform.action_log, ws) as log:
        return ingest_log(service.case, ws, log, as_of=clock.read(ws).now())


def live(project: Project, service: Service) -> Any:
    from pipelines.stores.workspace import Workspace

    return Workspace(project.root / "live" / service.case.name)


def action(service: Service, place: Any, number: int, **more: Any) -> dict[str, Any]:
    return {
        "action_id": f"action-{number}",
        "token": place.token,
        "action": service.serving.actions[0],
        **told_examples(service.serving),
        **more,
    }


def test_the_champion_answers_and_an_action_reaches_the_lake_once(finished, project, service) -> None:
    decisions = service.decide(asked(finished, 20))
    assert {(each.policy, each.model_version, each.fallback) for each in decisions} == {("champion", "1", ())}
    places = [place for each in decisions for place in each.places]
    assert all(each.places for each in decisions)
    assert all(0 < place.propensity <= 1 for place in places)
    sent = [action(service, place, number) for number, place in enumerate(places[:5])]
    assert service.collect(sent + sent[:2]).accepted == 7
    young = actions(project, live(project, service), service.case.name)
    assert young is not None and young["waiting"] == 5 and young["immature"] >= 5
    manifest = ingested(project, service)
    assert actions(project, live(project, service), service.case.name) == {"waiting": 0, "immature": 0}
    table = service._tables.actions.name
    assert (manifest.total.quarantined, manifest.tables[table].kept, manifest.tables[table].duplicate) == (
        0,
        5,
        2,
    )
    lake = Lake(live(project, service).lake, service.case.tables)
    kept = lake.scan(table).collect()
    assert set(kept.filter(kept["action_id"].str.starts_with("action-"))["impression_id"]) == {
        place.impression_id for place in places[:5]
    }
    for name, told in told_examples(service.serving).items():
        assert kept.filter(kept["action_id"].str.starts_with("action-"))[name].to_list() == [told] * 5


def test_an_action_without_a_valid_token_trains_nothing(finished, project, service) -> None:
    (decision, *_) = service.decide(asked(finished, 3))
    place = decision.places[0]
    forged = action(service, replace(place, token=place.token[:-4] + "AAAA"), 1)
    found = service.collect([forged, action(service, place, 2)])
    assert (found.accepted, len(found.refused)) == (1, 1)
    ws = live(project, service)
    clock.advance(ws, service.options.token_life + timedelta(seconds=1))
    assert service.collect([action(service, place, 3)]).refused[0]["reason"] == "expired"
    manifest = ingested(project, service)
    table = service._tables.actions.name
    assert (manifest.tables[table].kept, manifest.tables[table].quarantined) == (1, 2)
    reasons = [
        entry.problems[0]["reason"] for entry in Quarantine(ws.quarantine, ws.lake.name).entries(table)
    ]
    assert "expired" in reasons


def test_training_would_be_given_what_was_served(finished, project, service) -> None:
    if not service._own.schema:
        pytest.skip("no features of a request's own")
    service.decide(asked(finished, 30))
    found = check_parity(project, service.case.name, days=1)
    assert (found.requests, found.differences) == (30, {})
    assert found.values > 0


def test_a_difference_between_serving_and_training_is_named(finished, project, service, monkeypatch) -> None:
    if not service._own.schema:
        pytest.skip("no features of a request's own")
    read, name = service._own.read, next(iter(service._own.schema))
    import polars as pl

    monkeypatch.setattr(
        service._own, "read", lambda rows: read(rows).with_columns(pl.col(name).cast(pl.Float64) + 1.0)
    )
    service._ladder.state = replace(service.state, rungs=service.state.rungs[-1:])
    service.decide(asked(finished, 5))
    with open_action_log(project.platform.action_log, live(project, service)) as log:
        found = parity(
            service.case, live(project, service), log, project.platform, _later(project, service), 1
        )
    assert list(found.differences) == [name] or not found.values


def test_no_failure_empties_an_answer(finished, project, service, monkeypatch) -> None:
    def down(_: Any) -> Any:
        raise StoreDownError("gone")

    requests = asked(finished, 4)
    with monkeypatch.context() as patch:
        patch.setattr(service._own, "read", down)
        decisions = service.decide(requests)
        assert {each.fallback for each in decisions} == {("no_features",)}
        assert all(each.places for each in decisions)
    with open_action_log(project.platform.action_log, live(project, service)) as log:
        ws = live(project, service)
        found = parity(service.case, ws, log, project.platform, _later(project, service), 1)
    assert found.excused == {STORE_DOWN: 4}

    class Broken:
        def answer(self, rows: Any) -> Any:
            raise ValueError("no such column")

    first, *rest = service.state.rungs
    service._ladder.state = replace(service.state, rungs=(replace(first, answerer=Broken()), *rest))
    decisions = service.decide(requests)
    assert {each.policy for each in decisions} <= {"previous", "heuristic"}
    assert all(each.places for each in decisions)
    assert service.counts["failed_champion"] == 4


def test_a_model_whose_hash_is_wrong_is_refused_and_the_old_one_serves_on(finished, project, service) -> None:
    from pipelines.flows.edge import bind

    registry = bind(project, service.case.name, live=True).registry
    good = service.state.first
    assert not service.refresh()
    folder = registry.load(registry.champion())
    spoiled = next(
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"
    )
    whole = spoiled.read_bytes()
    service._ladder._models.clear()
    try:
        spoiled.write_bytes(whole + b" ")
        fresh = open_service(project, service.case.name, seed=1)
        assert fresh.state.first.policy == "heuristic"
        assert "refused" in fresh.state.problems[0]
        assert all(each.places for each in fresh.decide(asked(finished, 2)))
        fresh.close()
    finally:
        spoiled.write_bytes(whole)
    assert good.version == "1"


def _later(project: Project, service: Service) -> Any:
    return clock.read(live(project, service)).now() + timedelta(seconds=1)
