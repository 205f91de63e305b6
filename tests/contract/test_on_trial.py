"""Every case that is served can put a challenger on trial: arms in the log become evidence."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.experiments.evidence import read_evidence
from pipelines.experiments.running import CONTROL, TREATMENT, Running
from pipelines.flows import clock
from pipelines.flows.live import bind_live
from pipelines.flows.serve import open_service
from pipelines.flows.trial import _check, _unit
from pipelines.flows.work import take_in
from pipelines.serving.ladder import Rung, Trial
from pipelines.serving.service import Service
from pipelines.settings import Project
from pipelines.stores.lake import Lake
from pipelines.stores.registry import CHALLENGER, Version
from pipelines.stores.schemas import Requests

USERS = 60


@pytest.fixture
def service(finished, tmp_path: Path) -> Iterator[Service]:
    case = finished.run.case
    if case.serving is None:
        pytest.skip(f"{case.name} is not served yet")
    root = tmp_path / "project"
    shutil.copytree(finished.run.project.root, root, ignore=shutil.ignore_patterns("live"))
    opened = open_service(Project(root), case.name, seed=7)
    yield opened
    opened.close()


def test_arms_in_the_log_become_evidence(finished, service: Service) -> None:
    root = service._ladder.workspace.root.parents[1]
    run = bind_live(Project(root), service.case.name)
    challenger, canary = Version("2", "another", "", ""), run.config.experiment
    began = clock.read(run.workspace).now()
    trial = Running(
        case=run.case.name, unit=_unit(run), canary=canary, challenger=challenger, champion="1", started=began,
        day=canary.maximum_days,
    )  # fmt: skip
    _check(run, trial, "a test")
    rungs = (Rung(CHALLENGER, "2", "another", service.state.first.answerer), *service.state.rungs)
    service._ladder.state = replace(service.state, trial=Trial(trial, rungs))

    requests = asked(finished, trial.unit)
    decisions = service.decide(requests)
    arms = dict(Counter(each.arm for each in decisions))
    assert arms.keys() == {CONTROL, TREATMENT}
    assert {(each.arm, each.policy) for each in decisions} == {(CONTROL, "champion"), (TREATMENT, CHALLENGER)}
    clock.advance(run.workspace, canary.outcome + run.case.framing.attribution + timedelta(days=1))
    now = clock.read(run.workspace).now()
    take_in(run, now)

    found = read_evidence(run.case, run.workspace, trial, now, run.project.platform)
    assert found.exposed == arms
    metric = trial.declaration.metric.name
    assert {arm: int(found.outcomes[metric][arm].n) for arm in arms} == arms
    for arm in arms:
        assert found.outcomes[metric][arm].mean[1] >= 1, "a unit asked at least once"
    young = read_evidence(
        run.case, run.workspace, trial, began + timedelta(minutes=1), run.project.platform
    ).outcomes[metric]
    assert {arm: int(young[arm].n) for arm in arms} == dict.fromkeys(arms, 0), "no outcome is whole yet"


def asked(finished, unit: str) -> list[Any]:
    """Ask again what was asked in the tiny world: one request of each of some units."""
    run = finished.run
    (table,) = run.case.shaped(Requests)
    rows = Lake(run.workspace.lake, run.case.tables).scan(table.name).drop_nulls(unit).collect()
    rows = rows.sort(table.time).unique(unit, keep="last", maintain_order=True).tail(USERS)
    model = run.case.serving.request
    fields = [pl.col(name) for name in model.model_fields if name in rows.columns]
    return [model.model_validate(row) for row in rows.select(fields).iter_rows(named=True)]
