"""The plain work as Prefect tasks, and the stretch of them that build and retrain share.

Importing this costs Prefect's second: only the flows do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from pipelines.flows import work
from pipelines.flows.artifacts import publish_version
from pipelines.flows.causes import Journal
from pipelines.flows.edge import Run, perform

P = ParamSpec("P")
T = TypeVar("T")


def told(name: str, result: T) -> T:
    """Write a step's outcome to the flow run's log."""
    words = result.summary() if hasattr(result, "summary") else str(result)
    get_run_logger().info("%s: %s", name, words)
    return result


def as_task(name: str, do: Callable[P, T]) -> Callable[P, T]:
    """Make a task of a plain function; it tells its outcome."""

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    @wraps(do)
    def done(*args: P.args, **kwargs: P.kwargs) -> T:
        return told(name, do(*args, **kwargs))

    return done


@task(name="step", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def step(run: Run, name: str) -> object:
    """Run one step of the plan and return its outcome."""
    outcome: object = perform(run, name)
    return told(name, outcome)


take_in = as_task("ingest", work.take_in)
materialize = as_task("materialize", work.materialize)
promote = as_task("promote", work.promote)
look = as_task("look", work.look)
keep_report = as_task("keep report", work.keep_report)
compare = as_task("parity", work.compare)


def learn(run: Run) -> dict[str, Any]:
    """Take a workspace with fresh rows to a judged version."""
    step(run, "features")
    materialize(run)
    step(run, "train")
    evaluation = step(run, "evaluate")
    promotion = promote(run)
    Journal(run.workspace).finish()  # at once: what follows tells of it, and may fail
    publish_version(run, evaluation, promotion)
    return {"version": promotion.version, "decision": promotion.decision, "digest": promotion.digest}
