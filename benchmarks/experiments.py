"""Measure the experiments: how often they err, and how often they find what is there.

    python benchmarks/experiments.py [--runs 2000]

Prints one table, seeded: A/A experiments looked at on each of 30 days; tests at a fixed horizon against theory;
the sample-ratio check; and the verdict on challengers that are worse, equal and better. Some two minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import polars as pl
from scipy import stats

from pipelines.experiments.cuped import Difference, compare
from pipelines.experiments.declaration import Experiment, Guardrail, Metric, Stage
from pipelines.experiments.fixed_horizon import compare_arms, power_at, units_needed
from pipelines.experiments.moments import Floats, Moments
from pipelines.experiments.sample_ratio import check_sample_ratio
from pipelines.experiments.sequences import half_width, inflation
from pipelines.experiments.verdict import Evidence, judge

ALPHA, POWER, DAYS = 0.05, 0.8, 30
AA_DAILY = 100  # units an arm and day in A/A
CHUNK = 50  # A/A runs held in memory at once
RATIO = Metric(name="ratio", numerator="clicks", denominator="impressions")
CUPED = Metric(
    name="ratio, CUPED",
    numerator="clicks",
    denominator="impressions",
    covariate="clicks_before",
    covariate_denominator="impressions_before",
)
EFFECT = 0.0125  # of the fixed horizon: clicks an impression more, on 0.05
BASE, LIFT = 0.10, 0.01  # the verdict's metric: 10 % of the units act, and the margin is a point
GUARDED, TOLERANCE = 0.05, 0.015  # its guardrail: 5 % complain, 1.5 points more are tolerated
CANARY = (
    Stage(from_day=0, exposure=0.02),
    Stage(from_day=2, exposure=0.1),
    Stage(from_day=4, exposure=1.0),
)


def users(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Draw users with impressions and a click rate of their own, now and before: shape (..., 4)."""
    rate = rng.standard_gamma(0.5, shape) / 10  # most hardly click, a few often
    now, before = (1.0 + rng.poisson(4, shape) for _ in range(2))
    return np.stack([rng.poisson(rate * now), now, rng.poisson(rate * before), before], axis=-1)


def looks(runs: int, seed: int) -> Iterator[dict[str, Difference]]:
    """Yield A/A experiments, some at a time: differences by metric, shape (days, runs)."""
    rng = np.random.default_rng(seed)
    for start in range(0, runs, CHUNK):
        shape = (DAYS, min(CHUNK, runs - start), AA_DAILY)
        arms = [cumulated(Moments.of(users(shape, rng))) for _ in range(2)]
        yield {
            name: compare(*(narrowed(arm, columns) for arm in arms))
            for name, columns in {"mean": [0], "ratio": [0, 1], "ratio, CUPED": [0, 1, 2, 3]}.items()
        }


def narrowed(moments: Moments, columns: list[int]) -> Moments:
    """Keep some columns; the others stand as they do where a metric has none: denominators of 1, no past."""
    kept = np.isin(np.arange(4), columns)
    mean = np.where(kept, moments.mean, [0.0, 1.0, 0.0, 1.0])
    return Moments(moments.n, mean, moments.spread * (kept[:, None] & kept))


def cumulated(daily: Moments) -> Moments:
    """Add up the days, the first of the leading axes."""
    sums = list(accumulate(daily[day] for day in range(len(daily.n))))
    return Moments(*(np.stack([getattr(each, part) for each in sums]) for part in ("n", "mean", "spread")))


def a_a(runs: int) -> None:
    """Count the A/A experiments that any look took for a difference."""
    planned = AA_DAILY * DAYS / 2
    valid: Counter[str] = Counter()
    peeked: Counter[str] = Counter()
    for found in looks(runs, seed=1):
        for name, difference in found.items():
            apart = np.abs(difference.value)
            valid[name] += int((apart > half_width(difference, planned, ALPHA)).any(axis=0).sum())
            peeked[name] += int((apart > stats.norm.ppf(1 - ALPHA / 2) * difference.error).any(axis=0).sum())
    for name, count in valid.items():
        row(f"A/A, {DAYS} looks, {name}: always-valid", shown(count, runs), "at most 5.5 % (upper bound)")
        row(f"A/A, {DAYS} looks, {name}: z-test at each look", shown(peeked[name], runs), "")


def fixed_horizon(runs: int) -> None:
    """Compare coverage and power of the fixed-horizon tests with theory, at the size that the plain one asks for."""
    rng = np.random.default_rng(2)
    past = frame(users((1_000_000,), rng))
    needed = units_needed(past, RATIO, EFFECT, ALPHA, POWER)
    treated = np.arange(needed) % 2 == 1
    arms = pl.Series(np.where(treated, "b", "a"))
    covered: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for _ in range(runs):
        outcomes = users((needed,), rng)
        outcomes[:, 0] += EFFECT * outcomes[:, 1] * treated  # as theory has it: the spread stays
        for name, tested in compare_arms(frame(outcomes).with_columns(arm=arms), [RATIO, CUPED], "a").items():
            covered[name] += tested.effect.low <= EFFECT <= tested.effect.high
            found[name] += tested.p < ALPHA
    for metric in (RATIO, CUPED):
        title, theory = (
            f"fixed horizon, {metric.name}, {needed:,} units",
            power_at(past, metric, EFFECT, needed, ALPHA),
        )
        row(f"{title}: coverage", shown(covered[metric.name], runs), f"{1 - ALPHA:.0%} ± 3 points")
        row(f"{title}: power", shown(found[metric.name], runs), f"theory {theory:.1%} ± 3 points")


def sample_ratio(runs: int) -> None:
    """Lose 2 % of one arm of 100,000, and nothing."""
    rng, units = np.random.default_rng(3), 200_000
    control = rng.binomial(units, 0.5, runs)
    for name, kept, goal in (
        ("2 % lost at 100,000 an arm", 0.98, "at least 80 %"),
        ("nothing lost", 1.0, "0.1 %"),
    ):
        treated = rng.binomial(units - control, kept)
        pairs = zip(control.tolist(), treated.tolist(), strict=True)
        found = sum(check_sample_ratio({"a": a, "b": b}, {"a": 0.5, "b": 0.5}).mismatch for a, b in pairs)
        row(f"sample ratio, {name}: mismatch", shown(found, runs), goal)


def designed() -> Experiment:
    """Size an experiment for the margin, so that a look every day has the power of the plan."""
    variance = BASE * (1 - BASE)
    fixed = 4 * variance * ((stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)) / LIFT) ** 2
    return Experiment(
        name="benchmark",
        layer="benchmark",
        unit="user_id",
        metric=Metric(name="acted", numerator="acted"),
        guardrails=(
            Guardrail(
                metric=Metric(name="complained", numerator="complained", lower_is_better=True),
                tolerance=TOLERANCE,
            ),
        ),
        planned_units=math.ceil(fixed * inflation(ALPHA, POWER)),
        stages=CANARY,
        confidence=1 - ALPHA,
        maximum_days=DAYS,
    )


def yes_or_no(yes: int, units: int) -> Moments:
    """Take the moments of units of which some acted, without drawing each."""
    spread = np.zeros((4, 4))
    spread[0, 0] = yes * (1 - yes / max(units, 1))
    return Moments(np.array(float(units)), np.array([yes / max(units, 1), 1.0, 0.0, 1.0]), spread)


def tried(experiment: Experiment, lift: float, harm: float, rng: np.random.Generator) -> tuple[str, int]:
    """Run one experiment to its end: the decision and its day."""
    whole = sum(experiment.exposure(day) for day in range(DAYS))
    total: Evidence | None = None
    for day in range(DAYS):
        came = round(experiment.planned_units * experiment.exposure(day) / whole)
        treated = int(rng.binomial(came, 0.5))
        units = dict(zip(experiment.arms, (came - treated, treated), strict=True))
        chances = {"acted": (BASE, BASE + lift), "complained": (GUARDED, GUARDED + harm)}
        today = Evidence(
            units,
            {
                metric: {
                    arm: yes_or_no(int(rng.binomial(units[arm], chance)), units[arm])
                    for arm, chance in zip(experiment.arms, by_arm, strict=True)
                }
                for metric, by_arm in chances.items()
            },
        )
        total = today if total is None else total + today
        verdict = judge(experiment, total, day + 1)
        if verdict.decision != "continue":
            return ("mismatch" if verdict.sample_ratio.mismatch else verdict.decision), day + 1
    raise AssertionError("an experiment ends on its last day")


def verdicts(runs: int) -> None:
    """Try challengers whose truth is known."""
    experiment, rng = designed(), np.random.default_rng(4)
    row(f"verdict: units planned for ±{LIFT:.0%} on {BASE:.0%}", f"{experiment.planned_units:,}", "")
    trials = {
        "worse by the margin": (-LIFT, 0.0, "promote", "at most 1 %"),
        "equal": (0.0, 0.0, "promote", "at most 5 %"),
        "better at the designed size": (LIFT, 0.0, "promote", "at least 80 %"),
        "better, guardrail worse by twice its tolerance": (LIFT, 2 * TOLERANCE, "roll_back", "nearly all"),
    }
    for name, (lift, harm, decision, goal) in trials.items():
        ended = [tried(experiment, lift, harm, rng) for _ in range(runs)]
        counts, days = Counter(word for word, _ in ended), [day for word, day in ended if word == decision]
        median = f"; median day {np.median(days):.0f}" if len(days) > runs / 2 else ""
        told = "promoted" if decision == "promote" else "rolled back"
        row(f"verdict, {name}: {told}", shown(counts[decision], runs), goal + median)
        rest = ", ".join(
            f"{word} {count / runs:.1%}" for word, count in sorted(counts.items()) if word != decision
        )
        row("    otherwise", rest or "–", "")


def frame(outcomes: Floats) -> pl.DataFrame:
    """Name the columns of outcomes."""
    return pl.DataFrame(outcomes, schema=["clicks", "impressions", "clicks_before", "impressions_before"])


def shown(count: int, runs: int) -> str:
    """Write a share with its 95 % bounds (Clopper & Pearson), one-sided each."""
    low = stats.beta.ppf(0.05, count, runs - count + 1) if count else 0.0
    high = stats.beta.ppf(0.95, count + 1, runs - count) if count < runs else 1.0
    return f"{count / runs:6.2%}  [{low:.2%}, {high:.2%}]"


def row(what: str, found: str, goal: str) -> None:
    """Print a row at once."""
    sys.stdout.write(f"{what:66} {found:28} {goal}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000, help="experiments a row")
    runs = parser.parse_args(arguments).runs
    row(f"{runs:,} experiments a row", "share [95 % bounds]", "goal")
    for part in (a_a, fixed_horizon, sample_ratio, verdicts):
        part(runs)
    row("seconds of processor time", f"{time.process_time():.0f}", "120")


if __name__ == "__main__":
    main()
