"""After a fall, people whom the recipe has not seen decide between it and the champion, by what neither knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import stub_case
from stub_case import AS_OF, CASE, DAY

from pipelines.case_study import CaseStudy, Dataset, Fitted, Framing, Measured, Model
from pipelines.errors import DataError
from pipelines.learning.bootstrap import Resampled
from pipelines.learning.scores import Scores
from pipelines.settings import Gate, Platform
from pipelines.steps.evaluate import evaluate
from pipelines.steps.gate import Judgement, judge_contest
from pipelines.steps.promote import Promotion, promote
from pipelines.steps.signals import Performance, measure_champion
from pipelines.steps.train import train
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

PLATFORM, GATE = Platform(), Gate(resamples=200)
TOLD = "of people whom it had not seen"


def promoted(
    ws: Workspace,
    registry: Registry,
    skill: float,
    falls: Sequence[datetime] = (),
    *,
    case: CaseStudy = CASE,
    again: bool = True,
    at: datetime = AS_OF,
) -> Promotion:
    """Judge the recipe of a skill; the newest 7 days are the test."""
    plain = stub_case.params(skill=skill)
    params = plain.model_copy(update={"window": plain.window.model_copy(update={"refit": again})})
    train(case, ws, at, params, PLATFORM, "logged")
    evaluate(case, ws, at, params, PLATFORM, "logged", gate=GATE)
    return promote(case, ws, at, params, PLATFORM, GATE, registry, origin="runs", falls=falls)


@pytest.mark.parametrize(("skill", "decision"), [(0.6, "rejected"), (0.95, "promoted")])
def test_after_a_fall_the_better_recipe_wins_on_people_it_has_not_seen(
    breakdown: Workspace, registry: Registry, skill: float, decision: str
) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    found = promoted(breakdown, registry, skill, [AS_OF - 5 * DAY])
    assert found.decision == decision
    reason, guardrail = found.reasons
    assert reason.check == "contest" and reason.estimate is not None
    assert (
        reason.words.startswith("closeness is 0.")
        and "than the champion's since 2026-02-24, on" in reason.words
    )
    assert TOLD in reason.words and guardrail.check == "guardrail squared_error"
    assert 70 <= reason.estimate.n <= 130, "a third of five days' readings"


def test_what_was_learned_before_the_fall_does_not_count(breakdown: Workspace, registry: Registry) -> None:
    """A recipe may be judged by days that it fails on as the champion does, and still have learned the new world."""

    def measure(model: Model, train: Dataset, test: Dataset, judge: Any) -> Measured:
        whole_days = test.labels().height > 300
        found = stub_case.measure(model, train, test, judge)
        worse = {name: replace(each, values=-each.values) for name, each in found.statistics.items()}
        return replace(found, statistics=worse) if whole_days else found

    logged = replace(CASE.protocols["logged"], measure=measure)
    case = replace(CASE, protocols={"logged": logged})
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    assert promoted(breakdown, registry, 0.95, case=case).decision == "rejected"
    assert promoted(breakdown, registry, 0.96, [AS_OF - 5 * DAY], case=case).decision == "promoted"


@pytest.mark.parametrize("ago", [14, 20])
def test_once_the_judged_model_knows_as_many_days_since_as_it_lacks_they_judge(
    breakdown: Workspace, registry: Registry, ago: int
) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    found = promoted(breakdown, registry, 0.95, [AS_OF - ago * DAY])
    assert found.decision == "promoted" and TOLD not in found.why


def test_a_model_that_knows_few_of_the_days_since_is_not_judged_by_the_others(
    breakdown: Workspace, registry: Registry
) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    assert TOLD in promoted(breakdown, registry, 0.95, [AS_OF - 13 * DAY]).why


def test_where_it_cannot_be_told_the_judged_days_judge(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    few = promoted(breakdown, registry, 0.95, [AS_OF - 2 * DAY])  # a third of two days: fewer than fifty
    assert few.decision == "promoted" and TOLD not in few.why
    plain = promoted(breakdown, registry, 0.97, [AS_OF - 5 * DAY], again=False)  # it serves as it was judged
    assert TOLD not in plain.why
    first = promoted(breakdown, registry, 0.98, [AS_OF - 5 * DAY])  # the champion knows all days
    assert TOLD not in first.why


def test_the_champion_is_measured_on_days_that_it_does_not_know(
    breakdown: Workspace, registry: Registry
) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 4 * DAY)
    seen: list[datetime] = []

    def measure(model: Model, train: Dataset, test: Dataset, judge: Any) -> Measured:
        seen.append(test.labels()["read_at"].min())  # type: ignore[arg-type]
        return stub_case.measure(model, train, test, judge)

    case = replace(CASE, protocols={"logged": replace(CASE.protocols["logged"], measure=measure)})
    found = promoted(breakdown, registry, 0.95, [AS_OF - 6 * DAY], case=case)
    assert found.decision == "promoted" and "since 2026-02-25, on" in found.why
    assert AS_OF - 4 * DAY < max(seen) < AS_OF - 3 * DAY


def test_later_days_are_held_to_what_the_people_saw_of_it(breakdown: Workspace, registry: Registry) -> None:
    """The days that judged had no row of what it learned; how it did there is not how it was known."""
    at, params = AS_OF - 4 * DAY, stub_case.params()

    def measured() -> Performance:
        found = measure_champion(CASE, breakdown, AS_OF, params, PLATFORM, "logged", GATE, registry)
        assert found is not None
        return found

    promoted(breakdown, registry, 0.8, at=at - 8 * DAY)
    metrics = registry.client.get_run(registry.champion().run_id).data.metrics  # type: ignore[union-attr]
    assert measured().then == metrics["closeness"]
    found = promoted(breakdown, registry, 0.95, [at - 5 * DAY], at=at)
    reached = found.reasons[0].reached
    assert found.decision == "promoted" and reached is not None
    wanted = (reached["closeness"], (reached["closeness_high"] - reached["closeness_low"]) / 2)
    assert (measured().then, measured().then_half) == pytest.approx(wanted)


def test_a_day_that_tells_nothing_of_the_champion_is_no_failure(
    breakdown: Workspace, registry: Registry
) -> None:
    """One request that nobody answered is all that came since: a watch must go on to decide by what else it knows."""

    def measure(model: Model, train: Dataset, test: Dataset, judge: Any) -> Measured:
        raise DataError("none was explored and watched")

    case = replace(CASE, protocols={"logged": replace(CASE.protocols["logged"], measure=measure)})
    promoted(breakdown, registry, 0.8, at=AS_OF - 4 * DAY)
    params = stub_case.params()
    assert measure_champion(case, breakdown, AS_OF, params, PLATFORM, "logged", GATE, registry) is None


def test_what_was_not_told_to_the_champion_it_does_not_know(breakdown: Workspace, registry: Registry) -> None:
    """Where labels are told a day later and teach alone, the champion's last day is as new to it as to the recipe."""
    case = replace(CASE, label=replace(CASE.label, told_after=DAY))
    promoted(breakdown, registry, 0.8, at=AS_OF - 4 * DAY, case=case)
    assert "since 2026-02-24, on" in promoted(breakdown, registry, 0.95, [AS_OF - 6 * DAY], case=case).why


def test_a_contest_goes_by_the_selection_metric(breakdown: Workspace, registry: Registry) -> None:
    case = replace(CASE, framing=replace(CASE.framing, selection_metric="squared_error"))
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY, case=case)
    found = promoted(breakdown, registry, 0.95, [AS_OF - 5 * DAY], case=case)
    assert found.why.startswith("squared_error is ") and TOLD in found.why


@pytest.mark.parametrize("error", [DataError, ValueError])
def test_a_recipe_that_cannot_be_learned_again_is_judged_as_it_was(
    breakdown: Workspace, registry: Registry, error: type[Exception]
) -> None:
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)
    windows: list[datetime] = []

    def fit(dataset: Dataset, settings: Any) -> Fitted:
        windows.append(dataset.end)
        if dataset.end == AS_OF:
            raise error("widen the window")
        return stub_case.fit(dataset, settings)

    found = promoted(breakdown, registry, 0.95, [AS_OF - 5 * DAY], case=replace(CASE, fit=fit))
    assert AS_OF in windows and found.decision == "promoted"
    assert TOLD not in found.why and "it could not be fitted once more" in found.why
    # Too few rows are nobody's fault; whatever else kept a contest from being held is told.
    told = "no contest could be held (ValueError: widen the window)"
    assert (told in found.why) is (error is ValueError)
    assert (told in registry.version(found.version).tags["why"]) is (error is ValueError)


def test_what_no_gate_has_passed_does_not_serve(
    breakdown: Workspace, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The people passed the recipe on all days; the judged model was learned before the fall."""
    promoted(breakdown, registry, 0.8, at=AS_OF - 8 * DAY)

    def refuse(*given: Any, **more: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr("pipelines.steps.promote.refit", refuse)
    found = promoted(breakdown, registry, 0.95, [AS_OF - 5 * DAY])
    assert found.decision == "rejected" and TOLD in found.why and "no space left" in found.why
    champion = registry.champion()
    assert champion is not None and champion.number == "2"
    assert promoted(breakdown, registry, 0.96).decision == "promoted", "as judged, it passed the gate itself"


def judged(
    metric: float,
    guardrail: float,
    noise: float = 0.001,
    framing: Framing = CASE.framing,
    tolerance: float = 0.0,
) -> Judgement | None:
    """Judge a recipe that is so much better by the primary metric, and has so much more error."""
    gate = GATE.model_copy(update={"guardrail_tolerance": {"squared_error": tolerance}})
    draws = np.random.default_rng(1).normal(0, noise, 200)

    def reached(value: float) -> Resampled:
        return Resampled(value, value + draws, 90)

    keys = {("model", "closeness", ""): 0.5 + metric, ("champion", "closeness", ""): 0.5}
    keys |= {("model", "squared_error", ""): 0.2 + guardrail, ("champion", "squared_error", ""): 0.2}
    found = {key: reached(value) for key, value in keys.items()}
    found |= {key: Resampled(each.value, each.replicates - draws, 90) for key, each in found.items()
              if key[0] == "champion"}  # fmt: skip
    return judge_contest(Scores(found, {}), framing, gate, "model", "champion", "on 90 units")


def test_a_contest_asks_for_no_worse_and_harms_no_guardrail() -> None:
    passed = {(better, worse): found.passed for better in (0.01, -0.01) for worse in (-0.1, 0.1)
              if (found := judged(better, worse)) is not None}  # fmt: skip
    assert passed == {(0.01, -0.1): True, (0.01, 0.1): False, (-0.01, -0.1): False, (-0.01, 0.1): False}


@pytest.mark.parametrize(("metric", "passes"), [(-0.01, True), (-0.03, False)])
def test_what_chance_may_have_made_is_no_defeat(metric: float, passes: bool) -> None:
    """Few people tell little, and the champion is known to have fallen."""
    found = judged(metric, -0.1, noise=0.01)
    assert found is not None and found.passed is passes


def test_few_rows_are_compared_by_a_metric_that_tells_them_apart() -> None:
    """Of a few posts none may hold a harm: their order says nothing, how sure the models were does."""
    framing = replace(CASE.framing, selection_metric="squared_error")
    won, lost = judged(float("nan"), -0.1, framing=framing), judged(float("nan"), 0.1, framing=framing)
    assert (
        won is not None and won.passed and won.reasons[0].words.startswith("squared_error is 0.1000 better")
    )
    assert lost is not None and not lost.passed
    assert won.reasons[0].reached == {}, "later days are held to the primary metric, which has no value"


@pytest.mark.parametrize(("noise", "passes"), [(0.001, False), (0.02, True)])
def test_on_few_rows_a_guardrail_breaks_where_it_surely_does(noise: float, passes: bool) -> None:
    """Of two posts that a recipe removes both may be wronged: it takes more to know."""
    found = judged(0.1, 0.05, noise, tolerance=0.02)
    assert found is not None and found.passed is passes


def test_a_metric_without_a_value_decides_nothing() -> None:
    """A harm of which no post was found, a day on which nobody clicked: that is no defeat."""
    assert judged(float("nan"), 0.0) is None
