"""Assignment: uniform, independent between experiments and layers, and growing without anybody moving."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from pipelines.errors import UsageError
from pipelines.experiments.assignment import arm, assign, place
from pipelines.experiments.declaration import Experiment, Guardrail, Metric, Stage, check_layers

CLICKS = Metric(name="clicks", numerator="clicks")
CANARY = (
    Stage(from_day=0, exposure=0.02),
    Stage(from_day=2, exposure=0.1),
    Stage(from_day=4, exposure=1.0),
)
UNITS = [f"u{number}" for number in range(20_000)]


def experiment(name: str = "ranker", layer: str = "ranking", **options: object) -> Experiment:
    asked = {
        "name": name,
        "layer": layer,
        "unit": "user_id",
        "metric": CLICKS,
        "planned_units": 1000,
        **options,
    }
    return Experiment.model_validate(asked)


words = st.text(min_size=1, max_size=12)


@settings(max_examples=30)
@given(words, words)
def test_places_are_uniform_whatever_the_salt(salt: str, stem: str) -> None:
    places = [place(f"{stem}{number}", salt) for number in range(2000)]
    assert min(places) >= 0 and max(places) < 1
    # The p-value of one draw may be anything, but not this small for any of a hundred salts.
    assert stats.kstest(places, "uniform").pvalue > 1e-7


@settings(max_examples=30)
@given(words, words)
def test_layers_are_independent(first: str, second: str) -> None:
    ours = np.array([place(unit, first) for unit in UNITS[:2000]])
    theirs = np.array([place(unit, second) for unit in UNITS[:2000]])
    if first == second:
        assert (ours == theirs).all()
    else:
        table = np.histogram2d(ours, theirs, bins=4, range=[[0, 1], [0, 1]])[0]
        assert stats.chi2_contingency(table).pvalue > 1e-7


@settings(max_examples=30)
@given(
    words,
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=5),
    st.floats(0.05, 0.95),
)
def test_whoever_took_part_still_does_in_the_same_arm(name: str, shares: list[float], treated: float) -> None:
    stages = [Stage(from_day=day, exposure=share) for day, share in enumerate(sorted(shares))]
    asked = experiment(name, stages=stages, arms={"a": 1 - treated, "b": treated})
    arms = [assign(asked, UNITS[:300], day) for day in range(len(stages))]
    for before, after in pairwise(arms):
        assert all(was is None or was == now for was, now in zip(before, after, strict=True))


def test_a_canary_of_one_percent_grows_to_half() -> None:
    asked = experiment(stages=CANARY)
    for day, share in ((0, 0.01), (1, 0.01), (2, 0.05), (4, 0.5), (29, 0.5)):
        arms = assign(asked, UNITS, day)
        for name in ("champion", "challenger"):
            low, high = stats.binom.ppf([1e-6, 1 - 1e-6], len(UNITS), share)
            assert low <= arms.count(name) <= high


def test_nobody_takes_part_in_the_shadow_of_an_experiment() -> None:
    asked = experiment(stages=[Stage(from_day=0, exposure=0), Stage(from_day=1, exposure=1)])
    assert set(assign(asked, UNITS[:500], 0)) == {None}
    assert set(assign(asked, UNITS[:500], 1)) == {"champion", "challenger"}


def test_experiments_of_one_layer_share_no_unit() -> None:
    first, second = experiment("one", span=(0.0, 0.5)), experiment("two", span=(0.5, 1.0))
    check_layers([first, second])
    took = [(arm(first, unit, 0) is not None, arm(second, unit, 0) is not None) for unit in UNITS[:2000]]
    assert all(one != two for one, two in took)


def test_overlapping_spans_are_refused() -> None:
    with pytest.raises(UsageError, match="share units of layer 'ranking'"):
        check_layers([experiment("two", span=(0.4, 1.0)), experiment("one", span=(0.0, 0.5))])
    check_layers([experiment("one"), experiment("two", layer="bids")])


def test_arms_of_two_experiments_are_independent() -> None:
    for layer in ("ranking", "bids"):
        one = assign(experiment("one"), UNITS, 0)
        two = assign(experiment("two", layer=layer), UNITS, 0)
        table = np.array([[0, 0], [0, 0]])
        for ours, theirs in zip(one, two, strict=True):
            table[ours == "challenger", theirs == "challenger"] += 1
        assert stats.chi2_contingency(table).pvalue > 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": {"a": 0.5, "b": 0.6}},
        {"arms": {"a": 1.0}},
        {"stages": [{"from_day": 1, "exposure": 1.0}]},
        {"stages": [{"from_day": 0, "exposure": 0.5}, {"from_day": 1, "exposure": 0.1}]},
        {"stages": [{"from_day": 0, "exposure": 0.5}, {"from_day": 9, "exposure": 1.0}]},
        {"minimum_days": 31},
        {"span": (0.5, 0.5)},
        {"guardrails": [Guardrail(metric=CLICKS, tolerance=1)]},
        {"sample": 3},
    ],
)
def test_an_experiment_that_could_not_decide_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        experiment(**wrong)
