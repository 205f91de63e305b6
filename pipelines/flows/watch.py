"""The watch flow: take in new rows, look for drift, and ask for a retrain where there is a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from pipelines.flows import clock, work
from pipelines.flows.artifacts import publish_watch
from pipelines.flows.causes import Cause, Journal
from pipelines.flows.deployments import resource
from pipelines.flows.edge import Run
from pipelines.flows.live import asleep, bind_live, turn
from pipelines.flows.tasks import compare, keep_report, look, materialize, step, take_in, told
from pipelines.settings import Project, UtcDatetime

if TYPE_CHECKING:
    from pipelines.learning.drift import Verdict
    from pipelines.steps.decide import Decision
    from pipelines.steps.signals import Signals


@flow(name="watch", flow_run_name="{case}: watch")
def watch(case: str, as_of: UtcDatetime | None = None) -> dict[str, Any]:
    """Ingest, compute features, monitor, decide; emit at most one event."""
    project = Project.find()
    if (why := asleep(project, case)) is not None:
        return {"action": "wait", "reasons": [], "incidents": [], "event": None, "why": told("watch", why)}
    with turn(bind_live(project, case).workspace):
        run = bind_live(project, case, as_of=as_of)
        take_in(run, clock.read(run.workspace).now())
        step(run, "features")
        materialize(run)
        verdict = cast("Verdict", step(run, "monitor"))
        keep_report(run)
        signals = look(run, verdict)
        decision, cause = ask(run, signals)
        publish_watch(run, verdict, signals, decision, compare(run))
    return {
        "action": decision.action,
        "reasons": [reason.words for reason in decision.reasons],
        "incidents": [incident.words for incident in decision.incidents],
        "event": cause.id if cause else None,
    }


@task(name="ask", task_run_name="ask", cache_policy=NO_CACHE, persist_result=False)
def ask(run: Run, signals: Signals) -> tuple[Decision, Cause | None]:
    """Decide, write down a new cause, and send what was written down and not sent."""
    decision, cause = work.resolve(run, signals)
    if decision.action != "hold":
        # By the wall's clock, as runs are: a simulated one may stand still.
        Journal(run.workspace).send(
            lambda each: emit(run.case.name, each), datetime.now(UTC), again=signals.trial is None
        )
    told("ask", decision.words)
    return decision, cause


def emit(case: str, cause: Cause) -> None:
    """Send a cause's event to Prefect's server; raise where the server does not acknowledge it.

    The event's id follows from the cause's: the server keeps one copy.
    """
    from prefect.client.orchestration import get_client
    from prefect.events import Event, Resource

    event = Event(
        id=cause.event_id,
        event=cause.event,
        resource=Resource({"prefect.resource.id": resource(case), "prefect.resource.name": case}),
        payload={"id": cause.id, "cause": cause.words, "found_at": cause.found_at},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
