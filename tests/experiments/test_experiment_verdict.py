"""The verdict: every way an experiment can end, and the order in which they count."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from pipelines.errors import DataError
from pipelines.experiments.declaration import Experiment, Guardrail, Metric
from pipelines.experiments.verdict import Evidence, gather, judge, reach_of

EXPERIMENT = Experiment(
    name="ranker",
    layer="ranking",
    unit="user_id",
    metric=Metric(name="clicks", numerator="clicks", denominator="impressions"),
    planned_units=20_000,
    guardrails=(
        Guardrail(
            metric=Metric(name="complaints", numerator="complaints", lower_is_better=True), tolerance=0.01
        ),
    ),
)


def outcomes(units: int, lift: float = 0.0, complaints: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """Draw units of both arms whose outcomes are whole; the challenger's differ by so much."""
    rng = np.random.default_rng(seed)
    arms = np.repeat(["champion", "challenger"], units)
    treated = arms == "challenger"
    impressions = 1 + rng.poisson(5, 2 * units)
    return pl.DataFrame(
        {
            "arm": arms,
            "clicks": rng.binomial(impressions, 0.2 + lift * treated),
            "impressions": impressions,
            "complaints": (rng.random(2 * units) < 0.03 + complaints * treated).astype(int),
        }
    )


def evidence(units: int, **options: float) -> Evidence:
    rows = outcomes(units, **options)  # type: ignore[arg-type]
    return gather(EXPERIMENT, rows, rows)


def test_a_better_challenger_is_promoted_from_the_minimum_of_days_on() -> None:
    found = evidence(10_000, lift=0.02)
    early, due = judge(EXPERIMENT, found, 6), judge(EXPERIMENT, found, 7)
    assert early.decision == "continue" and "nothing is promoted before day 7" in early.reasons[-1]
    assert due.decision == "promote"
    assert due.effect.low > 0 and due.effect.low < 0.02 < due.effect.high
    assert "certainly better" in due.reasons[0] and due.reasons[1] == "all 1 guardrails hold"


def test_a_worse_one_is_rolled_back_on_the_first_day() -> None:
    found = judge(EXPERIMENT, evidence(10_000, lift=-0.02), 1)
    assert found.decision == "roll_back" and "certainly worse" in found.reasons[0]


def test_a_broken_guardrail_rolls_back_at_once_however_good_the_metric() -> None:
    found = judge(EXPERIMENT, evidence(10_000, lift=0.02, complaints=0.04), 1)
    assert found.decision == "roll_back"
    assert (
        found.reasons[0].startswith("guardrail complaints: +0.0")
        and "worse by more than 0.01" in found.reasons[0]
    )
    assert found.guardrails["complaints"].low > 0.01


def test_better_is_not_enough_while_a_guardrail_may_not_hold() -> None:
    found = judge(EXPERIMENT, evidence(10_000, lift=0.02, complaints=0.01), 10)
    assert found.effect.low > 0
    assert found.decision == "continue" and any("may be worse by 0.01" in reason for reason in found.reasons)


def test_a_guardrail_that_the_design_cannot_see_to_hold_says_so() -> None:
    few = EXPERIMENT.model_copy(update={"planned_units": 3_000})
    for units in (1_000, 4_000):  # whatever has come until now, the design is the same
        rows = outcomes(units, lift=0.05)
        found = gather(few, rows, rows)
        reach = reach_of(few, few.guardrails[0].metric, found)
        assert reach == pytest.approx(0.0195, rel=0.1)
        words = " ".join(judge(few, found, 10).reasons)
        assert f"with the 3,000 planned_units it is told to ± {reach:.3g}" in words
    told = judge(EXPERIMENT, evidence(4_000, lift=0.05), 10)
    assert "may be worse by 0.01" in told.reasons[1] and "planned_units" not in told.reasons[1]


def test_equal_arms_go_on_until_the_days_are_over() -> None:
    found = evidence(10_000)
    assert judge(EXPERIMENT, found, 29).decision == "continue"
    ended = judge(EXPERIMENT, found, 30)
    assert ended.decision == "stop"
    assert "not clearly better" in ended.reasons[0] and "champion stays" in ended.reasons[-1]


def test_a_sample_ratio_mismatch_comes_before_everything_else() -> None:
    rows = outcomes(10_000, lift=0.02)
    lost = pl.concat([rows.head(10_000), rows.tail(9_400)])
    found = judge(EXPERIMENT, gather(EXPERIMENT, lost, lost), 10)
    assert found.decision == "stop" and found.sample_ratio.mismatch
    assert "units were lost" in found.reasons[0]


def test_few_units_and_outcomes_that_do_not_vary_decide_nothing() -> None:
    few = judge(EXPERIMENT, evidence(90, lift=0.5), 10)
    assert few.decision == "continue" and "not known yet" in few.reasons[0]
    rows = outcomes(5000).with_columns(complaints=pl.lit(0))
    still = judge(EXPERIMENT, gather(EXPERIMENT, rows, rows), 10)
    assert still.guardrails["complaints"].as_json() == {"value": 0, "low": None, "high": None}


def test_evidence_of_days_adds_up_to_that_of_all() -> None:
    days = [outcomes(300, seed=seed) for seed in range(3)]
    summed = gather(EXPERIMENT, days[0], days[0])
    for day in days[1:]:
        summed = summed + gather(EXPERIMENT, day, day)
    whole = pl.concat(days)
    told = [judge(EXPERIMENT, found, 8).as_json() for found in (summed, gather(EXPERIMENT, whole, whole))]
    assert told[0]["decision"] == told[1]["decision"]
    assert told[0]["effect"] == pytest.approx(told[1]["effect"])
    assert told[0]["sample_ratio"] == told[1]["sample_ratio"]


def test_a_verdict_before_anybody_came_is_json() -> None:
    nobody = outcomes(0)
    found = judge(EXPERIMENT, gather(EXPERIMENT, nobody, nobody), 0)
    assert found.decision == "continue"
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["effect"]["value"] is None


def test_an_arm_that_was_not_declared_is_refused() -> None:
    rows = outcomes(5).with_columns(arm=pl.lit("other"))
    with pytest.raises(DataError, match="has no arm"):
        gather(EXPERIMENT, rows, rows)
