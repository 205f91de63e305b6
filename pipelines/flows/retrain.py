"""The retrain flow: a new version from the live workspace, for a cause."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from pipelines.flows import clock
from pipelines.flows.causes import SCHEDULED, Journal
from pipelines.flows.live import asleep, bind_live, turn
from pipelines.flows.retrain_manifest import write_manifest
from pipelines.flows.tasks import learn, take_in, told
from pipelines.flows.work import held
from pipelines.settings import Project, UtcDatetime
from pipelines.stores.files import write_json


@flow(name="retrain", flow_run_name="{case}: {cause}")
def retrain(
    case: str, cause: str = "asked for", as_of: UtcDatetime | None = None, event: str | None = None
) -> dict[str, Any]:
    """Ingest, compute features, train, evaluate and promote.

    `event` is the id of the cause in the workspace's journal, where `watch` asked: a second run for the
    same one ends at once. While an incident is open, what the calendar asks for is held, and what a person
    asks for is done.
    """
    project = Project.find()
    if cause == SCHEDULED and (why := asleep(project, case)) is not None:
        return {"decision": "held", "why": told("retrain", why)}
    with turn(bind_live(project, case).workspace):
        run = bind_live(project, case, as_of=as_of, cause=cause)
        if event is not None and Journal(run.workspace).taken(event):
            get_run_logger().info("another run has learned for this cause: nothing to do")
            return {"decision": "taken before"}
        if cause == SCHEDULED and (why := held(run)) is not None:
            get_run_logger().warning("%s", why)
            return {"decision": "held"}
        now = clock.read(run.workspace).now()
        ingested = take_in(run, now)
        outcome = learn(run)
        write_manifest(run, now, ingested, outcome)
        write_json(
            run.workspace.root / "last_retrain.json", {"at": now.isoformat(), "cause": cause} | outcome
        )
        return outcome
