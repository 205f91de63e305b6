"""The build flow: from the source to a judged version, in the live workspace.

An empty workspace is filled with the simulated world's past, as DVC's first stage fills its own; one
that lives already takes in what its action log received.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect import flow

from pipelines import catalog
from pipelines.errors import UsageError
from pipelines.flows import clock
from pipelines.flows.edge import Run, Seed, bind
from pipelines.flows.live import bind_live, holds_something, open_workspace, turn
from pipelines.flows.tasks import learn, step, take_in
from pipelines.settings import Project, UtcDatetime
from pipelines.stores.action_log import require_unused


@flow(name="build", flow_run_name="{case}: {cause}")
def build(case: str, cause: str = "built anew", as_of: UtcDatetime | None = None) -> dict[str, Any]:
    """Ingest, compute features, train, evaluate and promote."""
    project = Project.find()
    unseen = bind(project, case, live=True, as_of=as_of)
    with turn(unseen.workspace):
        if holds_something(unseen.workspace):
            run = bind_live(project, case, as_of=as_of, cause=cause)
            take_in(run, clock.read(run.workspace).now())
        else:
            run = begin(replace(unseen, cause=cause))
        return learn(run)


def begin(run: Run) -> Run:
    """Fill an empty workspace from the case's simulated world."""
    if not catalog.has_world(run.case.name):
        raise UsageError(
            f"{run.workspace.root} is empty, and {run.case.name} has no simulated world to fill it: `loop run "
            f"{run.case.name} --source …`, then `loop seed {run.case.name} --source …`"
        )
    require_unused(run.project.platform.action_log, run.workspace)
    step(run, "ingest")
    open_workspace(run.workspace, run.as_of, None, Seed())
    return run
