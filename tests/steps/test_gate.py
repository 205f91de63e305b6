"""The gate, proved on stubs: worse, equal, better by luck, and truly better, over many seeds.

The real bootstrap judges them. A gate that were tried on the equal case alone could as well compare the
challenger with itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
from stub_case import Mean

from pipelines.case_study import Framing, Measured
from pipelines.errors import UsageError
from pipelines.learning.scores import Scores, score
from pipelines.settings import Gate
from pipelines.steps.gate import Judgement, best_heuristic, check_tolerances, judge

UNITS = 600
NOISE = 0.25
TRUE_GAIN = 0.05  # the design: 600 units whose difference scatters by 0.35, so 3.5 standard errors
SEEDS = 300

FRAMING = Framing("business", "model", "label", timedelta(days=1), "quality", ("harm",), ("harm",))
GATE = Gate(resamples=300)


@dataclass(frozen=True)
class Trial:
    """One draw of units, measured by a champion, a heuristic and a challenger."""

    seed: int
    gain: float = 0.0
    harm: float = 0.0
    slice_loss: float = 0.0
    units: int = UNITS

    def scores(self) -> Scores:
        generator = np.random.default_rng(self.seed)
        units = np.arange(self.units)
        common = generator.normal(0.5, 0.2, self.units)
        small = np.arange(self.units) % 6 == 0

        def measured(shift: float, harm: float = 0.0, loss: float = 0.0) -> Measured:
            quality = common + shift + generator.normal(0, NOISE, self.units) - loss * small
            damage = generator.normal(0.3 + harm, 0.1, self.units)
            return Measured(
                {"quality": Mean(units, quality), "harm": Mean(units, damage)},
                {"small": small, "day=1": small},
            )

        return score(
            {
                "model": measured(self.gain, self.harm, self.slice_loss),
                "simple": measured(-0.2),
                "simpler": measured(-0.4),
                "champion": measured(0.0),
            },
            "quality",
            GATE.resamples,
            self.seed,
        )

    def judgement(self, gate: Gate = GATE) -> Judgement:
        return judge(self.scores(), FRAMING, gate, "model", "simple", "champion")


def passed(gain: float) -> float:
    return float(np.mean([Trial(seed, gain).judgement().passed for seed in range(SEEDS)]))


def test_a_worse_challenger_is_not_promoted() -> None:
    assert passed(-TRUE_GAIN) <= 0.01


def test_an_equal_challenger_is_rarely_promoted() -> None:
    assert passed(0.0) <= 0.05


def test_a_truly_better_challenger_is_promoted() -> None:
    assert passed(TRUE_GAIN) >= 0.8


def test_a_challenger_that_is_better_by_luck_is_refused() -> None:
    lucky = 0
    for seed in range(60):
        judgement = Trial(seed).judgement()
        against = next(reason for reason in judgement.reasons if reason.check == "champion")
        assert against.estimate is not None
        if against.estimate.value > 0 >= against.estimate.low:
            lucky += 1
            assert not against.passed and not judgement.passed
            assert "does not clear the margin of 0" in judgement.words
    assert lucky > 15


def test_a_margin_is_asked_of_the_interval_and_not_of_the_point() -> None:
    trial = Trial(3, gain=0.1)
    assert trial.judgement().passed
    assert not trial.judgement(GATE.model_copy(update={"champion_margin": 0.095})).passed
    assert not trial.judgement(GATE.model_copy(update={"heuristic_margin": 0.295})).passed


def test_beating_the_champion_is_not_enough_where_a_heuristic_is_better() -> None:
    scores = Trial(3, gain=0.1).scores()
    judgement = judge(scores, FRAMING, GATE, "champion", "model", "simpler")
    assert [reason.check for reason in judgement.reasons if not reason.passed] == ["heuristic"]


def test_too_few_units_are_no_evidence() -> None:
    judgement = Trial(3, gain=1.0, units=90).judgement()
    assert not judgement.passed
    assert judgement.words == "90 units were measured, 100 are needed"


def test_a_guardrail_that_goes_the_wrong_way_stops_a_better_model() -> None:
    judgement = Trial(3, gain=0.1, harm=0.05).judgement()
    assert [reason.check for reason in judgement.reasons if not reason.passed] == ["guardrail harm"]
    assert "worse" in judgement.words
    tolerant = GATE.model_copy(update={"guardrail_tolerance": {"harm": 0.1}})
    assert Trial(3, gain=0.1, harm=0.05).judgement(tolerant).passed
    assert Trial(3, gain=0.1, harm=-0.05).judgement().passed  # less harm is better


def test_a_tolerance_of_what_is_no_guardrail_is_refused() -> None:
    misspelt = GATE.model_copy(update={"guardrail_tolerance": {"hram": 0.1}})
    with pytest.raises(UsageError, match=r"^configs/shop.yaml: gate: .*'hram'.* did you mean 'harm'"):
        check_tolerances(FRAMING, misspelt, "configs/shop.yaml")
    check_tolerances(FRAMING, GATE, "configs/shop.yaml")


def test_a_slice_that_gets_badly_worse_stops_a_better_model() -> None:
    judgement = Trial(3, gain=0.1, slice_loss=0.4).judgement()
    assert [reason.check for reason in judgement.reasons if not reason.passed] == ["slice small"]
    few = GATE.model_copy(update={"slice_minimum_units": 101})
    assert Trial(3, gain=0.1, slice_loss=0.4).judgement(few).passed


def test_without_a_champion_the_heuristic_is_the_bar() -> None:
    scores = Trial(3).scores()
    assert judge(scores, FRAMING, GATE, "model", "simple", None).passed
    assert not judge(scores, FRAMING, GATE, "simpler", "simple", None).passed


@pytest.mark.parametrize(("lower", "best"), [((), "simple"), (("quality",), "simpler")])
def test_the_best_heuristic_depends_on_which_way_is_better(lower: tuple[str, ...], best: str) -> None:
    framing = Framing("", "", "", timedelta(days=1), "quality", (), lower)
    assert best_heuristic(Trial(3).scores(), framing, ["simpler", "simple"]) == best
