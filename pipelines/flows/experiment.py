"""The experiment flow: take in what came, judge the challenger on trial, and act on the verdict."""

from __future__ import annotations

from typing import Any

from prefect import flow

from pipelines.flows import clock
from pipelines.flows.live import asleep, bind_live, turn
from pipelines.flows.tasks import as_task, take_in, told
from pipelines.flows.trial import tend
from pipelines.settings import Project


@flow(name="experiment", flow_run_name="{case}: experiment")
def experiment(case: str) -> dict[str, Any]:
    """Review the running experiment; where none runs, start that of a challenger who waits."""
    project = Project.find()
    if (why := asleep(project, case)) is not None:
        return {"decision": None, "why": told("experiment", why)}
    with turn(bind_live(project, case).workspace):
        run = bind_live(project, case)
        now = clock.read(run.workspace).now()
        take_in(run, now)
        verdict = as_task("review", tend)(run, now)
    return {"decision": None} if verdict is None else verdict.as_json()
