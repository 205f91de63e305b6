"""What a time-lapse shows: how much of the loss that a shift brings is made good, by the judge's expected rewards.

The gap closure over the days T from t1 on is G = Σ(served − frozen) / Σ(fresh − frozen): 0 is a system that was
never retrained, 1 one that learned from the new world alone. It is null where the fresh
reference is less than 2 % better than the frozen one: there is nothing to close.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.flows.timelapse.record import Lived
from pipelines.steps.decide import FALLS, KINDS

WINDOW = 14
_LEAST = 0.02
_RESAMPLES = 2000

Days = Sequence[Lived]
Arms = Mapping[str, Days]


@dataclass(frozen=True)
class Course:
    """One seed's arms, and when its scenario begins and its labels are mature (days from 0; None: no shift)."""

    seed: int
    shift: int | None
    settled: int
    arms: Arms


def rewards(days: Days) -> np.ndarray:
    """Return the expected reward a request of each day, shape (days,)."""
    return np.array([each.served.reward / max(each.served.requests, 1) for each in days])


def oracle_share(days: Days) -> float:
    """Return what was earned as a share of what the best answers would have earned."""
    best = math.fsum(each.served.best for each in days)
    return math.fsum(each.served.reward for each in days) / best if best else math.nan


def gap_closure(courses: Sequence[Course], seed: int = 0) -> dict[str, float | None]:
    """Return G with its bootstrap interval over seeds; a single seed has no interval."""
    parts = np.array([_gap(course) for course in courses if "fresh" in course.arms])
    if not len(parts):
        return {"value": None, "low": None, "high": None}
    gained, possible, frozen = parts.sum(axis=0)
    if not _clear(possible, frozen):
        return {"value": None, "low": None, "high": None}
    value = float(gained / possible)
    if len(parts) < 2:
        return {"value": value, "low": None, "high": None}
    drawn = parts[np.random.default_rng(seed).integers(0, len(parts), (_RESAMPLES, len(parts)))].sum(axis=1)
    if not all(_clear(gap, stood) for _, gap, stood in drawn):
        return {"value": value, "low": None, "high": None}  # of some draws no share can be told
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}


def gap_closure_by_day(courses: Sequence[Course]) -> list[float | None]:
    """Return G of each single day, over all seeds."""
    full = [course for course in courses if "fresh" in course.arms]
    if not full:
        return []
    served, frozen, fresh = (
        np.sum([rewards(course.arms[name]) for course in full], axis=0)
        for name in ("triggered", "frozen", "fresh")
    )
    possible = fresh - frozen
    return [
        float(gain / gap) if _clear(gap, stood) else None
        for gain, gap, stood in zip(served - frozen, possible, frozen, strict=True)
    ]


def _clear(possible: float, frozen: float) -> bool:
    """Say whether there is a gap to close. What stood still may have done harm: its reward is then negative."""
    return possible > 0 and possible >= _LEAST * abs(frozen)


def _gap(course: Course) -> tuple[float, float, float]:
    window = slice(course.settled, course.settled + WINDOW)
    served, frozen, fresh = (
        rewards(course.arms[name])[window].sum() for name in ("triggered", "frozen", "fresh")
    )
    return float(served - frozen), float(fresh - frozen), float(frozen)


def describe_arm(days: Days, shift: int | None) -> dict[str, Any]:
    """Tell of one arm: its reward before and after the shift, retrains and what asked for them, alarms, and its cost.

    A day's retrain is asked for on the morning after it. An alarm is a retrain that a fall asked for: what follows it
    up, and what age or new labels ask for, is none.
    """
    after = [each for each in days if shift is not None and each.day >= shift]
    before = [each for each in days if shift is None or each.day < shift]
    retrains = [each for each in days if each.retrained is not None]
    asked = [each for each in days if each.judgement.cause]
    alarmed = [each.day for each in asked if set(each.judgement.kinds) & set(FALLS)]
    detected = [day for day in alarmed if shift is not None and day >= shift]
    seconds: dict[str, float] = {}
    for each in days:
        for part, spent in each.seconds.items():
            seconds[part] = round(seconds.get(part, 0.0) + spent, 2)
    return {
        "days": len(days),
        "requests": sum(each.served.requests for each in days),
        "actions": sum(each.served.actions for each in days),
        "reward": math.fsum(each.served.reward for each in days),
        "reward_before": _mean(before),
        "reward_after": _mean(after),
        "oracle_share": oracle_share(days),
        "retrains": len(retrains),
        "promotions": sum(took_over(each) for each in days),
        "wrong_promotions": sum(is_worse(each) for each in days),
        "retrain_seconds": round(sum(each.retrained.seconds for each in retrains if each.retrained), 2),
        "detection_delay_days": detected[0] + 1 - shift if detected and shift is not None else None,
        "false_alarms": len(alarmed) - len(detected),
        "asked_for": {kind: sum(kind in each.judgement.kinds for each in asked) for kind in KINDS},
        "held_days": sum(each.judgement.held for each in days),
        "seconds": seconds,
    }


def took_over(day: Lived) -> bool:
    """Say whether a new champion was made on the morning after the day: by the gate, or by an experiment."""
    gate = day.retrained is not None and day.retrained.decision == "promoted"
    return gate or (day.tried is not None and day.tried.decision == "promote")


def is_worse(day: Lived) -> bool:
    """Say whether the day's new champion earns a fiftieth less than the one before it would have that day."""
    own, before = day.served.own, day.served.before
    return own is not None and before is not None and own < before - _LEAST * abs(before)


def _mean(days: Days) -> float | None:
    requests = sum(each.served.requests for each in days)
    return math.fsum(each.served.reward for each in days) / requests if requests else None


def regret(course: Course) -> dict[str, float]:
    """Return, for each arm, what it fell short of the best answers, from the shift on (all days without one)."""
    start = course.shift or 0
    return {
        name: math.fsum(each.served.best - each.served.reward for each in days if each.day >= start)
        for name, days in course.arms.items()
    }
