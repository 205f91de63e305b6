"""A time-lapse, run: the past once, then every arm on it, side by side on the machine's cores; resumable."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context, parent_process
from pathlib import Path

from pipelines import catalog
from pipelines.flows.timelapse.measures import Course
from pipelines.flows.timelapse.plan import DIRECT, Plan, Stage, laid_over, make_plan, open_stage
from pipelines.flows.timelapse.policies import Policy
from pipelines.flows.timelapse.record import Lived, Record
from pipelines.settings import CaseConfig, Project

Tell = Callable[[str, int], None]
_SHIFTLESS = ("none", "season")


def play(
    project: Project,
    case: str,
    scenario: str,
    seed: int,
    days: int,
    arms: Sequence[Policy],
    tell: Tell,
    promotion: str | None = None,
) -> Course:
    """Play one seed of a scenario under each policy; `tell(arm, day)` hears of progress.

    What was lived before is not lived again: the folder `timelapse/<case>/<scenario>-<seed>` (with a canary
    `…-canary`) keeps it. The past and
    the days before the scenario begins are the same for every scenario but the season, which is there from the first
    day on: they are lived once, and copied.
    """
    from pipelines.flows.timelapse.arm import begin_arm, has_begun

    plan = make_plan(project, case, scenario, seed, promotion)
    folder = project.root / "timelapse" / case / plan.name
    stages = {policy: open_stage(project, own_plan(plan, policy), folder / policy.name) for policy in arms}
    missing = [policy for policy, stage in stages.items() if not has_begun(stage)]
    if missing:
        common = _live_common(project, plan, folder.parent, days, missing, tell)
        for policy in missing:
            begin_arm(common[policy.until_shift], stages[policy])
    lived = _side_by_side(folder, plan, arms, days, tell)
    shift = None if plan.scenario in _SHIFTLESS else plan.shift_day
    return Course(seed, shift, _settled(plan), lived)


def _live_common(
    project: Project, plan: Plan, folder: Path, days: int, arms: Sequence[Policy], tell: Tell
) -> dict[Policy, Stage]:
    """Live what the scenarios have in common: the past, and each rule's days before anything changes."""
    from pipelines.flows.timelapse.arm import begin_arm, build_past

    quiet = (
        plan
        if plan.scenario == "season"
        else make_plan(project, plan.case, "none", plan.seed, plan.promotion)
    )
    # There is no champion to try the first one against.
    past_plan = replace(quiet, config={**quiet.config, "promotion": DIRECT})
    past = open_stage(project, past_plan, folder / f"past-{past_plan.name}")
    build_past(past, past_plan)
    tell("past", 0)
    shared = folder / f"before-{quiet.name}"
    rules = list(dict.fromkeys(policy.until_shift for policy in arms))
    stages = {rule: open_stage(project, own_plan(quiet, rule), shared / rule.name) for rule in rules}
    for stage in stages.values():
        begin_arm(past, stage)
    _side_by_side(shared, quiet, rules, min(days, plan.shift_day), tell)
    return stages


def _settled(plan: Plan) -> int:
    """Name the day from which success is measured: after labels, a decision (a day), a training, a canary."""
    attribution = catalog.case(plan.case).framing.attribution
    config = CaseConfig.model_validate(plan.config)
    # A canary's shadow days are among its fewest.
    canary = 0 if plan.promotion == DIRECT else config.experiment.minimum_days
    return plan.shift_day + math.ceil(attribution / timedelta(days=1)) + 1 + canary


def own_plan(plan: Plan, policy: Policy) -> Plan:
    """Lay a reference's own params over the plan: what it brings must not be fitted again, to its arm's rows."""
    if policy.rule != "fresh":
        return plan
    return replace(plan, params=laid_over(plan.params, {"window": {"refit": False}}))


def _side_by_side(
    folder: Path, plan: Plan, arms: Sequence[Policy], days: int, tell: Tell
) -> dict[str, Sequence[Lived]]:
    """Live every arm in a process of its own, as many at a time as there are cores."""
    workers = min(len(arms), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: dict[str, Future[None]] = {
            policy.name: pool.submit(live_arm, folder / policy.name, plan, policy, days) for policy in arms
        }
        waiting = dict(running)
        while waiting:
            for name, future in list(waiting.items()):
                try:
                    future.result(timeout=0.5)
                    del waiting[name]
                except TimeoutError:
                    pass
                tell(name, len(Record(folder / name).days()))
    return {name: Record(folder / name).days()[:days] for name in running}


def live_arm(folder: Path, plan: Plan, policy: Policy, days: int) -> None:
    """Live one arm: the work of one process, which ends after the day on which nobody waits for it any more."""
    from pipelines.flows.timelapse.arm import Arm

    Arm(Stage(folder, "embedded"), plan, policy).live(days, lambda lived: _require_parent())


def _require_parent() -> None:
    """Leave when the process that asked was killed: a second one would live the same arm beside this one."""
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)
