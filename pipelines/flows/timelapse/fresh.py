"""The fresh reference: the same model class and params, learned from rows of the day's own world alone.

It tells what could be had had the world always been what it is on the day: its scenario is in force from the first row
on, answered by the logging policy. What it learns serves in an arm of its own. There are as many rows as the system
itself has, not more: with ten times the people every count among the features would be ten times what it is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipelines.flows import work
from pipelines.flows.edge import Run, bind, perform
from pipelines.flows.timelapse.plan import Plan, Stage, laid_over, midnight, open_stage
from pipelines.steps.promote import Promotion
from pipelines.steps.refit import refit
from pipelines.world.scenarios import Scenario


def take_fresh(arm: Stage, plan: Plan, run: Run, day: int) -> Promotion:
    """Learn from the world of a day, and register what was learned in the arm's live workspace."""
    stage = open_stage(arm, _fresh_plan(plan, run, day), arm.root / "fresh" / f"day-{day:03d}")
    learned = bind(stage, plan.case)
    for step in ("ingest", "features"):
        perform(learned, step)
    with run.workspace.lock():
        # As a refit: it serves at once, and need not be judged by days that it does not learn from.
        refit(
            run.case,
            learned.workspace,
            run.as_of,
            learned.params,
            stage.platform,
            run.protocol,
            judged="",
            folder=run.workspace.model,
        )
    perform(run, "evaluate")
    shutil.rmtree(stage.root)
    return work.promote(run)


def _fresh_plan(plan: Plan, run: Run, day: int) -> Plan:
    """Ask for a world in which what holds on the day has always held."""
    window = laid_over(plan.params["window"], {"evaluate_days": 1})
    changes = {
        "as_of": midnight(plan, day + 1).isoformat(),
        "window": window,
        "world": {"scenario": _standing(plan, run, day)},
    }
    return replace(plan, params=laid_over(plan.params, changes))


def _standing(plan: Plan, run: Run, day: int) -> Mapping[str, Any]:
    """Describe what stands of the scenario on the day, as one that was there from the first day on."""
    scenario: Scenario = run.world_params.scenario
    level = float(scenario.level(scenario.name, scenario.day + day - plan.shift_day))
    if level == 0:
        return {"name": "none"}
    return {"name": scenario.name.removesuffix("_gradual"), "day": 0, "strength": level}
