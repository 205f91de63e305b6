"""One arm of a time-lapse: a live workspace of its own, lived day by day, with its own rule for retraining."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from pipelines.case_study import Users
from pipelines.errors import UsageError
from pipelines.flows import trial, work
from pipelines.flows.causes import Journal
from pipelines.flows.edge import Run, bind, perform
from pipelines.flows.live import bind_live, seed_live
from pipelines.flows.serve import open_service
from pipelines.flows.timelapse.day import Mail, live_day
from pipelines.flows.timelapse.fresh import take_fresh
from pipelines.flows.timelapse.judgement import UNWATCHED, Judgement, judge_day
from pipelines.flows.timelapse.plan import Plan, Stage, midnight
from pipelines.flows.timelapse.policies import LEAD, TOLD, Policy
from pipelines.flows.timelapse.record import Lived, Record, Retrained, Tried
from pipelines.serving.service import Service
from pipelines.steps.decide import OUTCOME, Decision, Reason, follow_up_days
from pipelines.steps.promote import Promotion
from pipelines.stores.action_log import open_action_log
from pipelines.stores.schemas import Impressions
from pipelines.world.state import State

DAY = timedelta(days=1)
_BUILT = ("ingest", "features", "train", "evaluate")
_CARRIED, _MAIL, _BEGUN = ("live", "registry"), "mail.parquet", "begun"


def build_past(stage: Stage, plan: Plan) -> None:
    """Live what all arms have behind them: the world's days under the logging policy, and the first champion's."""
    run = bind(stage, plan.case)
    mark = stage.root / "built"
    if not mark.exists():
        shutil.rmtree(stage.root / "runs", ignore_errors=True)  # what was cut off: its world has gone on
        for step in _BUILT:
            perform(run, step)
        mark.touch()
    if Record(stage.root).broken:
        _forget(stage)
    if seed_live(stage, plan.case):
        perform(run, "promote")
    Arm(stage, plan, LEAD).live(0)


def has_begun(stage: Stage) -> bool:
    """Say whether an arm is there to go on with; one whose day was cut off in its middle is not."""
    return (stage.root / _BEGUN).exists() and not Record(stage.root).broken


def begin_arm(source: Stage, stage: Stage) -> None:
    """Copy what lies behind an arm to it, unless it has begun: the past, or days that another arm lived as it would."""
    if has_begun(stage):
        return
    _forget(stage)
    for part in _CARRIED:
        if (source.root / part).is_dir():
            # The online store is built anew: its registry names the folder it lies in.
            shutil.copytree(
                source.root / part, stage.root / part, ignore=shutil.ignore_patterns("online", ".*")
            )
    if (source.root / _MAIL).is_file():
        shutil.copy(source.root / _MAIL, stage.root / _MAIL)
    Record(stage.root).keep([each for each in Record(source.root).days() if each.day >= 0])
    (stage.root / _BEGUN).touch()


class Arm:
    """A live workspace under one policy."""

    def __init__(self, stage: Stage, plan: Plan, policy: Policy) -> None:
        self.stage, self.plan, self.policy = stage, plan, policy
        self._record = Record(stage.root)
        self._seconds: dict[str, float] = {}

    @cached_property
    def users(self) -> Users:
        """The simulated users; the scenario is among their world's params."""
        run = bind(self.stage, self.plan.case)
        return run.world.users(run.world_params, run.params.seed, run.world_start)

    def live(self, until: int, tell: Callable[[Lived], None] = lambda lived: None) -> list[Lived]:
        """Live every day before day `until`, from wherever the arm stands; tell of each when it is over."""
        days = self._record.days()
        first = -self.plan.lead_days if self.policy.rule == "lead" else 0
        if first + len(days) >= until:
            return days[: until - first]
        if self._record.broken:
            raise UsageError(f"{self.stage.root}: a day was cut off in its middle: begin the arm anew")
        dice = np.random.default_rng()
        service = open_service(self.stage, self.plan.case, seed=dice)
        try:
            for number in range(first + len(days), until):
                # Seeded anew each day, so that an arm that was continued is one that was never stopped.
                fresh = np.random.default_rng([self.plan.seed, self.plan.lead_days + number])
                dice.bit_generator.state = fresh.bit_generator.state
                self._record.begin()
                days.append(self._live_one(number, service, days[-1] if days else None))
                self._record.end(days)
                tell(days[-1])
        finally:
            service.close()
        return days

    def _live_one(self, number: int, service: Service, before: Lived | None) -> Lived:
        day = midnight(self.plan, number)
        self._seconds = {}
        champion = service.state.first.version
        with self._timed("serve"):
            self._arrive(number)
            mail = Mail(self.stage.root / _MAIL)
            run = bind_live(self.stage, self.plan.case)
            new = before is not None and before.champion is not None and before.champion != champion
            served = live_day(run.workspace, service, self.users, day, mail, compare=new)
            mail.save()
        judgement, retrained = self._morning(number)
        with self._timed("refresh"):
            service.refresh()  # it also writes down how the challenger did, which the review reads
        with self._timed("experiment"):
            tried = _tend(bind_live(self.stage, self.plan.case))
        with self._timed("refresh"):
            service.refresh()
        return Lived(
            number, f"{day:%Y-%m-%d}", champion, served, judgement, retrained, tried, dict(self._seconds)
        )

    def _arrive(self, number: int) -> None:
        """Write the day's newcomers to the log; on the first day also what was on its way before."""
        run = bind_live(self.stage, self.plan.case)
        day = midnight(self.plan, number)
        with open_action_log(self.stage.platform.action_log, run.workspace) as log:
            for table, rows in self.users.newcomers(day).items():
                log.append(table, rows)
            if number == -self.plan.lead_days:
                for table, rows in _pending(run, day).items():
                    log.append(table, rows)

    def _morning(self, number: int) -> tuple[Judgement, Retrained | None]:
        """Do at midnight what the flows do: take in, compute, watch, decide; and learn where it is asked."""
        run = bind_live(self.stage, self.plan.case)
        with self._timed("ingest"):
            work.take_in(run, run.as_of)
        with self._timed("features"):
            perform(run, "features")
            work.materialize(run)
        judgement, cause = UNWATCHED, self._asked(run, number)
        if self.policy.rule == "triggered":
            with self._timed("watch"):
                judgement = judge_day(run)
            cause = judgement.cause
        if cause == TOLD:
            self._tell_of_shift(run, cause)
        return judgement, None if cause is None else self._retrain(replace(run, cause=cause), number)

    def _asked(self, run: Run, number: int) -> str | None:
        again = follow_up_days(run.config.triggers)
        return self.policy.asks(number, self.plan.shift_day, self._mature(run), again)

    def _tell_of_shift(self, run: Run, cause: str) -> None:
        """Write down when the change came, as the system does when it has found one: the recipe learns by it."""
        reason = Reason(OUTCOME, cause, midnight(self.plan, self.plan.shift_day))
        Journal(run.workspace).note(Decision("retrain", (reason,)), run.as_of)

    def _retrain(self, run: Run, number: int) -> Retrained:
        with self._timed("retrain"):
            # By its rule: in a process of its own an arm's policy is a copy.
            fresh = self.policy.rule == "fresh"
            found = take_fresh(self.stage, self.plan, run, number) if fresh else learn(run)
            if fresh or self.policy.rule == "lead":
                # A reference, and the arms' common beginning, whatever a gate on few rows says.
                run.registry.crown(run.registry.version(found.version))
                found = replace(found, decision="promoted")
        return Retrained(
            run.cause, found.version, found.decision, found.why, round(self._seconds["retrain"], 2)
        )

    def _mature(self, run: Run) -> int:
        """Name the first morning that may learn from labels of the scenario's first day."""
        return self.plan.shift_day + 1 + run.case.told_after // DAY

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[part] = round(self._seconds.get(part, 0.0) + time.perf_counter() - started, 3)


def learn(run: Run) -> Promotion:
    """Train, evaluate and judge, as the retrain flow does."""
    for step in ("train", "evaluate"):
        perform(run, step)
    return work.promote(run)


def _tend(run: Run) -> Tried | None:
    """Start the experiment of a challenger who waits, or review the one that runs."""
    verdict = trial.tend(run)
    return None if verdict is None else Tried(verdict.decision, "; ".join(verdict.reasons))


def _pending(run: Run, day: datetime) -> Mapping[str, pl.DataFrame]:
    """Read what was on its way when the past ended; what the logging policy would answer later, the service does."""
    state = State.load(run.workspace.root / "world")
    if state is None:
        return {}
    answered = {table.name: pl.col(table.time) < day for table in run.case.shaped(Impressions)}
    return {name: rows.filter(answered.get(name, pl.lit(True))) for name, rows in state.pending.items()}


def _forget(stage: Stage) -> None:
    """Take away what an arm has lived, not what it was built from."""
    for part in (*_CARRIED, _MAIL, "days.jsonl", "day.open", _BEGUN):
        path = stage.root / part
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
