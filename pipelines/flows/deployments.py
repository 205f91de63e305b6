"""prefect.yaml, generated: a deployment of each flow for each case, its schedule and its triggers."""

from __future__ import annotations

from typing import Any

import yaml

from pipelines import catalog
from pipelines.flows.causes import EVENT_PREFIX, SCHEDULED
from pipelines.settings import Cadence, Project
from pipelines.steps.decide import KINDS

PREFECT_YAML = "prefect.yaml"
POOL = "loop"
FLOWS = {
    "build": "From the source to a judged version",
    "retrain": "A new version from the live workspace, for a cause",
    "watch": "Take in new rows, look for drift, ask for a retrain",
    "experiment": "Judge the challenger on trial, and act on the verdict",
}

_HEADER = """\
# The production run: a deployment of each flow for each case, with schedules and event triggers.
# Generated from configs/ by `loop sync`; do not edit (`loop sync --check` compares).
"""


def render_prefect(project: Project) -> str:
    """Write prefect.yaml for the project's cases and their cadence."""
    deployments = [_deployment(project, name, flow) for name in catalog.names() for flow in FLOWS]
    content = {"name": "ml-loops", "deployments": deployments}
    return _HEADER + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def resource(case: str) -> str:
    """Name a case's live system as the subject of events."""
    return f"loop.case.{case}"


def _deployment(project: Project, case: str, flow: str) -> dict[str, Any]:
    cadence: Cadence = project.case_config(case).cadence
    cron = getattr(cadence, flow)
    # A second run waits for the first: a trigger is never lost.
    queue = {"limit": 1, "collision_strategy": "ENQUEUE"}
    deployment: dict[str, Any] = {
        "name": case.replace("_", "-"),
        "description": FLOWS[flow],
        "entrypoint": f"pipelines.flows.{flow}.{flow}",
        "tags": [case],
        "parameters": {"case": case},
        "work_pool": {"name": POOL},
        "concurrency_limit": queue,
        "schedules": [{"cron": cron, "timezone": "UTC", **_told(flow)}] if cron else [],
    }
    if flow == "retrain":
        deployment["triggers"] = [_trigger(case)]
    return deployment


def _told(flow: str) -> dict[str, Any]:
    """Let a retrain know that nobody but the calendar asked for it."""
    return {"parameters": {"cause": SCHEDULED}} if flow == "retrain" else {}


def _trigger(case: str) -> dict[str, Any]:
    return {
        "type": "event",
        "enabled": True,
        "match": {"prefect.resource.id": resource(case)},
        "expect": [EVENT_PREFIX + kind for kind in KINDS],
        "parameters": {
            "case": case,
            "cause": "{{ event.payload.cause }}",
            "event": "{{ event.payload.id }}",
        },
    }
