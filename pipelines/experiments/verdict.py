"""The verdict: what the evidence of an experiment allows, in a word and in sentences.

It may be asked for every day. In this order: a sample-ratio mismatch stops the experiment, since nothing it says
is to be trusted; a guardrail whose whole interval lies beyond its tolerance, or a metric that is certainly
worse, rolls back at once; from `minimum_days` on, a metric that is certainly better promotes, if every guardrail's
interval lies within its tolerance; on `maximum_days` it stops, and the control stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from pipelines.errors import DataError
from pipelines.experiments.cuped import compare
from pipelines.experiments.declaration import Experiment, Metric
from pipelines.experiments.interval import Interval
from pipelines.experiments.moments import Moments, read_outcomes
from pipelines.experiments.sample_ratio import THRESHOLD, SampleRatio, check_sample_ratio
from pipelines.experiments.sequences import boundary, half_width

Decision = Literal["continue", "promote", "roll_back", "stop"]


@dataclass(frozen=True)
class Evidence:
    """Units exposed in each arm, and the moments of those whose outcome is whole: `outcomes[metric][arm]`."""

    exposed: Mapping[str, int]
    outcomes: Mapping[str, Mapping[str, Moments]]

    def __add__(self, other: Evidence) -> Evidence:
        """Join with the evidence of another day: other units."""
        return Evidence(
            {arm: count + other.exposed[arm] for arm, count in self.exposed.items()},
            {
                metric: {arm: moments + other.outcomes[metric][arm] for arm, moments in arms.items()}
                for metric, arms in self.outcomes.items()
            },
        )


@dataclass(frozen=True)
class Verdict:
    """A decision with its reasons, and the figures behind it. Effects are treatment minus control."""

    decision: Decision
    reasons: tuple[str, ...]
    sample_ratio: SampleRatio
    effect: Interval
    guardrails: Mapping[str, Interval]

    def summary(self) -> str:
        """Say in a line what was decided, and why."""
        return f"{self.decision.replace('_', ' ')}: {'; '.join(self.reasons)}"

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON would have it."""
        return {
            "decision": self.decision,
            "reasons": list(self.reasons),
            "sample_ratio": {"seen": dict(self.sample_ratio.seen), "p": self.sample_ratio.p},
            "effect": self.effect.as_json(),
            "guardrails": {name: interval.as_json() for name, interval in self.guardrails.items()},
        }


def gather(experiment: Experiment, exposures: pl.DataFrame, outcomes: pl.DataFrame) -> Evidence:
    """Read one day, or all days so far; evidence of separate days adds up.

    `exposures` has one row a unit first exposed, with its `arm`. `outcomes` has one row a unit whose outcome has
    become whole (a fixed time after its first exposure), with its `arm` and the metrics' columns. So each unit
    counts once, which is what the intervals rest on. An arm that was not declared is a DataError.
    """
    for rows in (exposures, outcomes):
        unknown = set(rows["arm"].unique()) - set(experiment.arms)
        if unknown:
            raise DataError(f"experiment '{experiment.name}' has no arm {sorted(map(str, unknown))}")
    return Evidence(
        {arm: exposures.filter(pl.col("arm") == arm).height for arm in experiment.arms},
        {
            metric.name: {
                arm: Moments.of(read_outcomes(outcomes.filter(pl.col("arm") == arm), metric))
                for arm in experiment.arms
            }
            for metric in experiment.metrics
        },
    )


def judge(experiment: Experiment, evidence: Evidence, days: int, tried: int | None = None) -> Verdict:
    """Decide after `days` whole days, of which `tried` went by the stages (all of them, where nothing is told)."""
    ratio = check_sample_ratio(evidence.exposed, experiment.arms)
    effects = {metric.name: effect_of(experiment, metric, evidence) for metric in experiment.metrics}
    effect = effects.pop(experiment.metric.name)
    reaches = {
        each.metric.name: reach_of(experiment, each.metric, evidence) for each in experiment.guardrails
    }
    tried = days if tried is None else tried
    decision, reasons = _decide(experiment, ratio, effect, effects, reaches, days, tried)
    return Verdict(decision, reasons, ratio, effect, effects)


def effect_of(experiment: Experiment, metric: Metric, evidence: Evidence) -> Interval:
    """Estimate treatment minus control with its always-valid interval.

    It reaches to infinity while an arm has fewer than `minimum_units`, or outcomes that do not vary: the
    standard error would then say more than is known.
    """
    arms = evidence.outcomes[metric.name]
    control, treatment = arms[experiment.control], arms[experiment.treatment]
    difference = compare(control, treatment)
    value = float(difference.value)
    half = float(half_width(difference, _planned(experiment), 1 - experiment.confidence))
    known = all(arm.n >= experiment.minimum_units and arm.spread[0, 0] > 0 for arm in (control, treatment))
    if not known or not math.isfinite(half):
        return Interval(value, -math.inf, math.inf)
    return Interval(value, value - half, value + half)


def reach_of(experiment: Experiment, metric: Metric, evidence: Evidence) -> float:
    """Say how far the interval will reach to either side at the designed size, units being as they were until now."""
    arms = evidence.outcomes[metric.name]
    difference = compare(arms[experiment.control], arms[experiment.treatment])
    planned = _planned(experiment)
    error = float(difference.error) * math.sqrt(float(difference.information) / planned)
    return error * float(boundary(np.array(planned), planned, 1 - experiment.confidence))


def _planned(experiment: Experiment) -> float:
    """Return the information of the designed size."""
    share = experiment.arms[experiment.treatment]
    return experiment.planned_units * share * (1 - share)


def _decide(
    experiment: Experiment,
    ratio: SampleRatio,
    effect: Interval,
    guardrails: Mapping[str, Interval],
    reaches: Mapping[str, float],
    days: int,
    tried: int,
) -> tuple[Decision, tuple[str, ...]]:
    if ratio.mismatch:
        return "stop", (
            f"the arms hold {dict(ratio.seen)} units, and chance does that once in {1 / max(ratio.p, 1e-300):.3g} "
            f"times (limit: once in {1 / THRESHOLD:g}): units were lost in one arm, so nothing here can be compared",
        )
    broken, open_ = _guarded(experiment, guardrails, reaches)
    if broken:
        return "roll_back", broken
    name, gain = experiment.metric.name, _better(experiment.metric, effect)
    told = f"{name}: {effect}"
    if gain.high < 0:
        return "roll_back", (f"{told}, certainly worse",)
    if gain.low > 0 and not open_ and tried >= experiment.minimum_days:
        held = (f"all {len(guardrails)} guardrails hold",) if guardrails else ()
        return "promote", (f"{told}, certainly better", *held)
    clear = f"{told}, certainly better" if gain.low > 0 else f"{told}, not clearly better"
    reasons = (clear, *open_)
    if days >= experiment.maximum_days:
        return "stop", (*reasons, f"the {experiment.maximum_days} days are over: {experiment.control} stays")
    if tried < experiment.minimum_days:
        reasons = (*reasons, f"day {tried}: nothing is promoted before day {experiment.minimum_days}")
    return "continue", reasons


def _guarded(
    experiment: Experiment, effects: Mapping[str, Interval], reaches: Mapping[str, float]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell which guardrails are broken, and which are not yet shown to hold."""
    broken, open_ = [], []
    for guardrail in experiment.guardrails:
        name, effect = guardrail.metric.name, effects[guardrail.metric.name]
        gain = _better(guardrail.metric, effect)
        if gain.high < -guardrail.tolerance:
            broken.append(f"guardrail {name}: {effect}, worse by more than {guardrail.tolerance:g}")
        elif gain.low <= -guardrail.tolerance:
            words = f"guardrail {name}: {effect}, may be worse by {guardrail.tolerance:g}"
            if math.isfinite(effect.low) and reaches[name] >= guardrail.tolerance:
                words += (
                    f" (with the {experiment.planned_units:,} planned_units it is told to ± {reaches[name]:.3g}: "
                    "to be seen to hold it needs more of them, or a wider tolerance)"
                )
            open_.append(words)
    return tuple(broken), tuple(open_)


def _better(metric: Metric, effect: Interval) -> Interval:
    """Turn an effect so that more is better."""
    if metric.sign > 0:
        return effect
    return Interval(-effect.value, -effect.high, -effect.low)
