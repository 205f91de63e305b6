"""What a live workspace has been retrained for reaches the steps: they learn from what came since, and judge by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from plant_help import Plant

from pipelines.errors import UsageError
from pipelines.flows import work
from pipelines.flows.causes import Journal
from pipelines.flows.edge import Run, bind, perform
from pipelines.flows.live import seed_live
from pipelines.learning.drift import Verdict
from pipelines.steps import outcome, promote, train
from pipelines.steps.decide import ANSWERS, OUTCOME, Decision, Reason

DAY = timedelta(days=1)
ANSWERED = {"name": "asked", "numerator": "requests", "drop": 0.4}
BY_UNIT = {"metric": {"name": "labels_a_unit", "denominator": "units"}}


@pytest.fixture
def live(built: Plant) -> Run:
    """A live workspace with a champion, that has been retrained for two falls of different kinds."""
    seed_live(built.project, "breakdown")
    run = bind(built.project, "breakdown", live=True)
    perform(run, "promote")
    for kind, ago in ((OUTCOME, 3), (ANSWERS, 1)):
        reason = Reason(kind, "it fell", run.as_of - ago * DAY)
        Journal(run.workspace).note(Decision("retrain", (reason,)), run.as_of)
    return run


def noted(step: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """Note what a step is called with, and let it run."""

    def run(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return step(*args, **kwargs)

    return run


def test_training_and_promotion_are_told_when_the_falls_began(
    live: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    for step in (train, promote):
        name = step.__name__.rpartition(".")[2]
        monkeypatch.setattr(step, name, noted(getattr(step, name), calls))
    perform(live, "train")
    perform(live, "evaluate")
    perform(live, "promote")
    (trained, _), (_, promoted) = calls[0], calls[-1]
    assert trained[-1] == promoted["falls"] == [live.as_of - 3 * DAY, live.as_of - DAY]


def test_each_fall_of_answers_is_held_to_days_after_the_last_of_its_kind(
    live: Run, built: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.configure(triggers={"outcome_drop": 0.1, "answers": ANSWERED})
    live, calls = looked(built, monkeypatch)
    told = {kwargs.get("at_once", False): kwargs["after"] for _, kwargs in calls}
    assert told == {False: live.as_of - 3 * DAY, True: live.as_of - DAY}


@pytest.mark.parametrize(("days", "told"), [(0, ()), (1, ("heat moved",))])
def test_an_alarm_of_days_that_the_champion_has_learned_from_asks_for_nothing(
    live: Run, days: int, told: tuple[str, ...]
) -> None:
    """Else a watch after a retrain of the same morning would find its own window's last days drifted."""
    end = f"{live.as_of + days * DAY:%Y-%m-%d}"
    verdict = Verdict("alarm", "judged", "2026-02-20", end, 90, {}, (), ("heat moved",), 30.0, 20.0)
    perform(live, "monitor")
    assert tuple(work.look(live, verdict).alarms) == told
    assert tuple(work.look(live, replace(verdict, level="warning")).alarms) == ()


@pytest.mark.usefixtures("live")
def test_an_outcome_that_no_trigger_asks_for_is_not_measured(
    built: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.configure(triggers={"outcome_drop": None, "answers": ANSWERED}, experiment=BY_UNIT)
    _, calls = looked(built, monkeypatch)
    assert [kwargs["at_once"] for _, kwargs in calls] == [True]


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"triggers": {"outcome_drop": 0.1}, "experiment": BY_UNIT},
            r"experiment: metric, .* outcome_drop .*\(null: never\): 'labels_a_unit' counts 'units', .*requests",
        ),
        (
            {"triggers": {"answers": {**ANSWERED, "numerator": "labels"}}},
            "triggers: answers: 'asked' counts 'labels', which is not known at once: known: requests",
        ),
        (
            {"gate": {"guardrail_tolerance": {"squared_eror": 0.02}}},
            "gate: guardrail_tolerance names 'squared_eror', .* did you mean 'squared_error'",
        ),
    ],
)
def test_a_config_that_nothing_could_be_told_by_is_refused(
    sections: dict[str, Any], words: str, built: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.configure(**sections)
    with pytest.raises(UsageError, match=rf"^configs/breakdown.yaml: {words}"):
        looked(built, monkeypatch)


def looked(built: Plant, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[Any]]:
    """Let a watch look, and return what each outcome was measured with."""
    calls: list[Any] = []
    monkeypatch.setattr(outcome, "measure_outcome", noted(outcome.measure_outcome, calls))
    run = bind(built.project, "breakdown", live=True)
    perform(run, "monitor")
    work.look(run, Verdict("none", "no_times", None, None, 0, {}, (), (), 1.0, 1.0))
    return run, calls
