"""What makes a reason to retrain, what holds a retrain back, and how often one is asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.bootstrap import Estimate
from pipelines.learning.estimated_performance import EstimatedPerformance
from pipelines.settings import Budget, Triggers, Watched
from pipelines.steps.decide import (
    AGE,
    ANSWERS,
    DRIFT,
    ESTIMATED,
    FOLLOW_UP,
    KINDS,
    LABELS,
    OUTCOME,
    PERFORMANCE,
    Decision,
    decide,
)
from pipelines.steps.incidents import Incident
from pipelines.steps.outcome import Outcome, Week
from pipelines.steps.signals import Fall, OnTrial, Performance, Signals

REMOVALS = Watched(name="removals_per_post", numerator="remove", drop=0.5)
TRIGGERS = Triggers(
    new_labels=100,
    performance_drop=0.05,
    outcome_drop=0.1,
    answers=REMOVALS,
    estimated_drop=0.02,
    max_age=30,
)
NOW = datetime(2026, 3, 20, tzinfo=UTC)
DAY = timedelta(days=1)
OPEN = Incident(
    "videos", "duration_seconds", "unit", "98 % of the values came × 1,000", date(2026, 3, 17), None, 131
)
CLOSED = Incident(
    "requests", "device", "empty", "missing values 0 % → 100 %", date(2026, 3, 3), date(2026, 3, 5), 2041
)


def performance(
    value: float, half: float = 0.01, then: float = 0.5, then_half: float = 0.0, worse_up: bool = False
) -> Performance:
    now = Estimate(value, value - half, value + half, 500)
    return Performance("ndcg_at_10", "3", now, then, then_half, worse_up, NOW - 9 * DAY, NOW)


def estimated(value: float, half: float = 0.002, then: float = 0.87) -> EstimatedPerformance:
    now = Estimate(value, value - half, value + half, 4000)
    return EstimatedPerformance(now, Estimate(then, then - half, then + half, 4000), 0.1, 0.1)


def outcome(now: float) -> Outcome:
    return Outcome("watches_per_request", NOW - DAY, 2.0, 0.1, 14, (now,))


def removed(days: int) -> Outcome:
    """Removals ended so many days ago; what a post was takes four days to be known."""
    return Outcome("removals_per_post", NOW, 0.03, 0.005, 14, (0.001,) * days + (0.03,), 4 * DAY)


def signals(**given: Any) -> Signals:
    return Signals(**{"alarms": (), "new_labels": 0, "performance": None, "trained": NOW - 5 * DAY, **given})


def decided(history: tuple[datetime, ...] = (), triggers: Triggers = TRIGGERS, **given: Any) -> Decision:
    return decide(signals(**given), triggers, history, NOW)


def kinds(**given: Any) -> list[str]:
    decision = decided(**given)
    assert decision.action == ("retrain" if decision.reasons else "wait")
    return [reason.kind for reason in decision.reasons]


def test_a_quiet_day_waits_and_says_so() -> None:
    decision = decided(new_labels=99, performance=performance(0.49))
    assert (decision.action, decision.reasons, decision.until) == ("wait", (), None)
    assert decision.words == "wait: no reason to retrain"


def test_labels_count_from_the_threshold() -> None:
    assert kinds(new_labels=100) == [LABELS]


def test_the_model_ages_from_its_last_training() -> None:
    assert kinds(trained=NOW - 30 * DAY) == [AGE]
    assert kinds(trained=NOW - 30 * DAY + timedelta(hours=1)) == []
    assert kinds(trained=None) == []


def test_what_is_null_asks_for_nothing() -> None:
    never = Triggers(new_labels=None)
    given = {
        "new_labels": 10**9,
        "trained": NOW - 999 * DAY,
        "estimated": estimated(0.99),
        "outcome": outcome(0),
    }
    assert decided(triggers=never, **given).reasons == ()


def test_an_alarm_is_a_reason_in_its_own_words() -> None:
    (reason,) = decided(alarms=("heat moved by 0.8 sd",), drifting_since="2026-03-14").reasons
    assert (reason.kind, reason.words) == (DRIFT, "drift since 2026-03-14: heat moved by 0.8 sd")


def test_of_many_columns_the_first_are_named() -> None:
    (reason,) = decided(alarms=tuple(f"c{place} moved" for place in range(8))).reasons
    assert reason.words == "drift: c0 moved; c1 moved; c2 moved; c3 moved; c4 moved; and 3 more columns"


@pytest.mark.parametrize(
    ("learned", "days", "told"),
    [
        (0, 2, False),
        (0, 3, True),
        (3, 5, False),  # followed up on day 3, next on day 6
        (3, 6, True),
        (6, 11, False),
        (6, 12, True),
        (7, 8, False),  # for whatever reason it was learned on day 7
        (12, 13, False),  # no more follow-ups
        (0, 24, True),
        (0, 25, False),  # long ago
    ],
)
def test_a_fall_is_followed_up_at_growing_distances(learned: int, days: int, told: bool) -> None:
    triggers = TRIGGERS.model_copy(update={"follow_ups": 3, "cooldown": 3 * DAY})
    fall = Fall(NOW - days * DAY, "drift: heat moved")
    reasons = decided(triggers=triggers, fall=fall, trained=fall.found + learned * DAY).reasons
    assert [each.kind for each in reasons] == [FOLLOW_UP] * told
    assert all("drift: heat moved" in each.words for each in reasons)


def test_without_a_cooldown_a_fall_is_followed_up_the_day_after() -> None:
    """The next midnight brings a whole day more to learn from."""
    triggers = TRIGGERS.model_copy(update={"cooldown": 0 * DAY})
    found_at = NOW + timedelta(hours=15, minutes=3)
    for hours, told in ((15.1, False), (23.9, False), (24, True)):
        fall, trained = Fall(found_at, "drift: heat moved"), NOW
        found = decide(signals(fall=fall, trained=trained), triggers, (), NOW + timedelta(hours=hours))
        assert [each.kind for each in found.reasons] == [FOLLOW_UP] * told


@pytest.mark.parametrize("minutes", [0, 3, 1439])
@pytest.mark.parametrize(("cooldown", "days"), [(1, [1, 2, 4]), (1.5, [2, 3, 6])])
def test_each_follow_up_is_asked_for_once_at_whatever_time_of_day(
    minutes: int, cooldown: float, days: list[int]
) -> None:
    """A training is dated by its midnight, which lies before the moment at which the fall was found."""
    triggers = TRIGGERS.model_copy(update={"follow_ups": 3, "cooldown": cooldown * DAY})
    fall, trained, asked = Fall(NOW + timedelta(minutes=minutes), "it fell"), NOW, []
    for hour in range(1, 30 * 24):
        now = fall.found + timedelta(hours=hour)
        if decide(signals(fall=fall, trained=trained), triggers, (), now).action == "retrain":
            trained = now.replace(hour=0, minute=0)
            asked.append((trained - NOW).days)
    assert asked == days


def test_a_new_fall_needs_no_follow_up_of_the_last() -> None:
    """Else its words would hold those of the last one, and the next one's its own."""
    fall = Fall(NOW - 9 * DAY, "drift: heat moved")
    (reason,) = decided(alarms=("light moved",), fall=fall).reasons
    assert (reason.kind, reason.words) == (DRIFT, "drift: light moved")


@pytest.mark.parametrize(("began", "told"), [(2, False), (1, False), (3, True)])
def test_an_outcome_is_not_held_against_what_was_retrained_for_it(began: int, told: bool) -> None:
    """The day until NOW - DAY began two days ago: whoever fell since then answered it."""
    fall = Fall(NOW - began * DAY + timedelta(hours=1), "watches fell")
    never = TRIGGERS.model_copy(update={"follow_ups": 0})
    reasons = decided(triggers=never, outcome=outcome(1), fall=fall).reasons
    assert [each.kind for each in reasons] == [OUTCOME] * told


@pytest.mark.parametrize(("now", "told"), [(1.69, True), (1.71, False), (2.5, False)])
def test_what_comes_of_answers_falls_beyond_its_bound_and_the_days_differences(
    now: float, told: bool
) -> None:
    assert (kinds(outcome=outcome(now)) == [OUTCOME]) is told


def slid(metric: str, until: datetime) -> Outcome:
    """The newest day is like the others, the newest week is not."""
    return Outcome(metric, until, 2.0, 0.1, 14, (1.9,), 4 * DAY, week=Week(1.2, 2.0, 0.05, 14, 0.2))


@pytest.mark.parametrize("kind", [OUTCOME, ANSWERS])
def test_a_week_that_slid_is_told_as_a_week(kind: str) -> None:
    known = {OUTCOME: ("outcome", NOW - DAY), ANSWERS: ("answered", NOW)}[kind]
    found = decided(**{known[0]: slid("watches_per_request", known[1])})
    (reason,) = found.reasons
    assert (found.action, reason.kind, reason.since) == ("retrain", kind, known[1] - 7 * DAY)
    assert "was 1.2000 in the week until" in reason.words and "2.0000 ± 0.0500 is usual" in reason.words


@pytest.mark.parametrize(("began", "told"), [(7, False), (9, True)])
def test_a_week_is_not_held_against_what_was_retrained_within_it(began: int, told: bool) -> None:
    never = TRIGGERS.model_copy(update={"follow_ups": 0})
    fall = Fall(NOW - began * DAY + timedelta(hours=1), "watches fell")
    came, answered = slid("watches_per_request", NOW - DAY), slid("removals_per_post", NOW)
    assert bool(decided(triggers=never, fall=fall, outcome=came).reasons) is told
    assert bool(decided(triggers=never, fall=fall, answered=answered).reasons) is told


@pytest.mark.parametrize(("days", "told"), [(1, False), (4, False), (5, True), (9, True)])
def test_what_is_answered_falls_and_waits_for_labels_to_learn_from(days: int, told: bool) -> None:
    found = decided(answered=removed(days))
    (reason,) = found.reasons
    assert (reason.kind, reason.since) == (ANSWERS, NOW - days * DAY)
    assert found.action == ("retrain" if told else "wait")
    if not told:
        assert found.until == NOW + (5 - days) * DAY
        assert found.words.startswith(
            f"wait until 2026-03-{20 + 5 - days} 00:00 UTC (there is nothing to learn"
        )
        assert kinds(answered=removed(days), new_labels=500) == [LABELS], "it holds nothing else up"


def test_answers_that_fell_before_the_last_fall_was_found_are_followed_up_with_it() -> None:
    never = TRIGGERS.model_copy(update={"follow_ups": 0})
    assert decided(triggers=never, answered=removed(9), fall=Fall(NOW - 8 * DAY, "it fell")).reasons == ()
    later = decided(triggers=never, answered=removed(9), fall=Fall(NOW - 10 * DAY, "it fell"))
    assert [each.kind for each in later.reasons] == [ANSWERS]


def test_answers_are_watched_only_where_asked_for() -> None:
    never = TRIGGERS.model_copy(update={"answers": None})
    assert decided(triggers=never, answered=removed(9)).reasons == ()


def test_a_fall_is_found_once_and_then_followed_up() -> None:
    """Else a model that nothing better replaces would be trained again every day, and so would what replaces it."""
    fell = performance(0.3)
    fall = Fall(NOW - DAY, "it fell")
    assert decided(performance=fell, fall=fall, trained=NOW).reasons == ()
    long_ago = Fall(NOW - 9 * DAY, "it fell")  # followed up after 1, 2 and 4 days, and no longer
    assert kinds(performance=fell, fall=long_ago) == [PERFORMANCE]
    assert kinds(estimated=estimated(0.99), foreseen=NOW - 9 * DAY) == [ESTIMATED]
    assert decided(estimated=estimated(0.99), foreseen=NOW - DAY, trained=NOW).reasons == ()
    assert decided(estimated=estimated(0.99), fall=fall, trained=NOW).reasons == ()  # whatever kind it was of


def test_the_same_drift_is_found_once_but_other_columns_are_another() -> None:
    drifts = {"alarms": ("heat moved",), "drifting": ("heat",), "drifting_since": "2026-03-14"}
    assert kinds(**drifts, drifted=NOW - 7 * DAY, drifted_columns={"heat"}) == [DRIFT]
    assert kinds(**drifts, drifted=NOW - 6 * DAY, drifted_columns={"heat"}) == []
    assert kinds(**drifts, drifted=NOW - 6 * DAY, drifted_columns={"rain"}) == [DRIFT]
    assert kinds(**drifts, drifted=NOW - 6 * DAY, drifted_columns=None) == []
    # While it is followed up, more columns join it as evidence grows.
    fall = Fall(NOW - DAY, "rain moved")
    given = {**drifts, "drifted": NOW - 6 * DAY, "drifted_columns": {"rain"}, "trained": NOW}
    assert decided(**given, fall=fall).reasons == ()
    # What drifts less for a day, and then again, is no new drift, unless another column comes with it.
    dipped = {**drifts, "drifted": NOW - 8 * DAY, "trained": NOW, "fall": fall}
    assert decided(**dipped, drifted_columns={"heat"}).reasons == ()
    assert kinds(**dipped, drifted_columns={"rain"}) == kinds(**dipped, drifted_columns=()) == [DRIFT]


def test_each_fall_tells_when_it_began() -> None:
    told = decided(
        performance=performance(0.3),
        outcome=outcome(1),
        answered=removed(6),
        alarms=("heat moved",),
        drifting_since="2026-03-14",
    )
    began = {each.kind: each.since for each in told.reasons}
    assert began == {
        PERFORMANCE: NOW - 9 * DAY, OUTCOME: NOW - 2 * DAY, ANSWERS: NOW - 6 * DAY, DRIFT: NOW - 6 * DAY
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "half", "told"),
    [(0.90, 0.002, True), (0.88, 0.002, False), (0.90, 0.04, False), (0.80, 0.002, False)],
)
def test_estimated_performance_falls_beyond_its_bound_and_its_noise(
    value: float, half: float, told: bool
) -> None:
    assert (kinds(estimated=estimated(value, half)) == [ESTIMATED]) is told


def test_the_gravest_reason_comes_first() -> None:
    everything = {
        "alarms": ("moved",),
        "new_labels": 500,
        "performance": performance(0.3),
        "outcome": outcome(1),
        "answered": removed(10),
    }
    found = kinds(**everything, estimated=estimated(0.95), trained=NOW - 40 * DAY)
    assert KINDS == (PERFORMANCE, OUTCOME, ANSWERS, DRIFT, ESTIMATED, FOLLOW_UP, LABELS, AGE)
    assert found == [kind for kind in KINDS if kind != FOLLOW_UP]
    fall = Fall(NOW - 2 * DAY, "drift: heat moved")
    assert kinds(fall=fall, new_labels=500, trained=NOW - 40 * DAY) == [FOLLOW_UP, LABELS, AGE]


@pytest.mark.parametrize(
    ("found", "fell"),
    [
        (performance(0.43), True),
        (performance(0.46), False),  # within the bound
        (performance(0.445), False),  # beyond the bound as likely by chance
        (performance(0.43, half=0.07), False),  # as likely noise
        (performance(0.43, then_half=0.07), False),  # it was never known to be that good
        (performance(0.60), False),
        (performance(0.57, worse_up=True), True),
        (performance(0.44, worse_up=True), False),
    ],
)
def test_performance_falls_beyond_its_bound_and_its_noise(found: Performance, fell: bool) -> None:
    assert (kinds(performance=found) == [PERFORMANCE]) is fell


def test_reasons_name_what_how_much_and_which_day() -> None:
    decision = decided(performance=performance(0.3), estimated=estimated(0.95), new_labels=20_000)
    for named in ("ndcg_at_10 of version 3", "0.3000", "2026-03-11 to 2026-03-20", "0.5000", "0.9500"):
        assert named in decision.words
    assert "20,000 labels matured since 2026-03-15, the day of the last training" in decision.words
    assert decision.words == f"retrain: {decision.cause}"


def test_an_open_incident_holds_training_and_says_which_column() -> None:
    decision = decided(alarms=("moved",), incidents=(OPEN, CLOSED))
    assert decision.action == "hold"
    for named in (
        "videos.duration_seconds",
        "98 % of the values came × 1,000",
        "since 2026-03-17",
        "131 rows",
    ):
        assert named in decision.words
    assert "moved" in decision.words
    assert "requests.device" not in decision.words


def test_a_closed_incident_lets_train_and_tells_its_broken_days() -> None:
    decision = decided(alarms=("moved",), incidents=(CLOSED,))
    assert decision.action == "retrain"
    assert "requests.device was broken upstream from 2026-03-03 until 2026-03-05" in decision.cause
    assert "2,041 rows" in decision.cause


def test_within_the_cooldown_it_waits_until_its_end() -> None:
    last = NOW - DAY + timedelta(minutes=1)
    decision = decided((last,), alarms=("moved",))
    assert (decision.action, decision.until) == ("wait", last + DAY)
    assert (
        "wait until 2026-03-20 00:01 UTC (cooldown: the last retrain was asked for on 2026-03-19)"
        in decision.words
    )
    assert decided((NOW - DAY,), alarms=("moved",)).action == "retrain"


def test_over_the_budget_it_waits_until_the_oldest_is_out_of_the_window() -> None:
    triggers = Triggers(budget=Budget(retrains=2, days=14))
    asked = (NOW - 2 * DAY, NOW - 10 * DAY, NOW - 20 * DAY)
    decision = decided(asked, triggers, alarms=("moved",))
    assert (decision.action, decision.until) == ("wait", NOW + 4 * DAY)
    assert "budget: 2 retrains within 14 days" in decision.words
    assert decided(asked[:1], triggers, alarms=("moved",)).action == "retrain"


def test_while_a_version_is_on_trial_none_other_is_asked_for() -> None:
    decision = decided(alarms=("moved",), trial=OnTrial("version 4 is on trial since 2026-03-18"))
    assert (decision.action, decision.until) == ("wait", None)
    assert decision.words == "wait (version 4 is on trial since 2026-03-18): drift: moved"
    assert decided(trial=OnTrial("version 4 is on trial")).words == "wait: no reason to retrain"
    assert (
        decided(alarms=("moved",), trial=OnTrial("version 4 is on trial"), incidents=(OPEN,)).action == "hold"
    )


def test_what_falls_after_a_version_on_trial_has_learned_ends_its_experiment() -> None:
    def trial(learned: datetime | None) -> OnTrial:
        return OnTrial("version 4 is on trial since 2026-03-10", learned)

    fell = {"outcome": outcome(1.0)}
    decision = decided(trial=trial(NOW - 9 * DAY), **fell)
    assert decision.action == "retrain" and decision.reasons[0].kind == OUTCOME
    ends = "version 4 is on trial since 2026-03-10, which ends: it has learned until 2026-03-11 00:00, before that"
    assert decision.overtakes == ends and decision.words.endswith(ends) and ends not in decision.cause
    for waits in (
        # It is measured since the champion learned: that tells nothing of when it fell, and moves on every day.
        decided(trial=trial(NOW - 9 * DAY - timedelta(hours=1)), performance=performance(0.3)),
        decided(trial=trial(NOW), **fell),
        decided(trial=trial(None), **fell),
        decided(trial=trial(NOW - 9 * DAY), alarms=("moved",), drifting_since="2026-03-15"),
        decided((NOW,), trial=trial(NOW - 9 * DAY), **fell),
        decided(trial=trial(NOW - 9 * DAY), incidents=(OPEN,), **fell),
    ):
        assert waits.action in ("wait", "hold") and not waits.overtakes


def test_a_fall_is_followed_up_beside_an_experiment_that_few_have_met() -> None:
    fall = Fall(NOW - DAY, "it fell")
    triggers = TRIGGERS.model_copy(update={"follow_ups": 2})
    for early, action in ((True, "retrain"), (False, "wait")):
        trial = OnTrial("version 4 is on trial since 2026-03-19", NOW - DAY, early)
        decision = decided(triggers=triggers, trial=trial, fall=fall, trained=NOW - DAY)
        assert (decision.action, [each.kind for each in decision.reasons]) == (action, [FOLLOW_UP])
        assert not decision.overtakes, "what it makes may not pass the gate"
        drifts = decided(trial=trial, alarms=("moved",), new_labels=10**9)
        assert drifts.action == "wait", "not for every reason"


incidents = st.sampled_from([(), (CLOSED,), (OPEN,)])
days = st.tuples(st.integers(0, 72), st.booleans(), st.integers(0, 200), incidents)


@given(st.lists(days, min_size=1, max_size=80), st.integers(1, 4), st.integers(1, 20), st.integers(0, 72))
def test_no_sequence_exceeds_budget_or_cooldown_or_trains_while_it_holds(
    steps: list[tuple[int, bool, int, tuple[Incident, ...]]], retrains: int, window: int, cooldown: int
) -> None:
    bounds = Budget(retrains=retrains, days=window)
    triggers = Triggers(new_labels=100, budget=bounds, cooldown=timedelta(hours=cooldown))
    now, history = NOW, list[datetime]()
    for hours, drifts, labels, broken in steps:
        now += timedelta(hours=hours)
        seen = Signals(("moved",) if drifts else (), labels, None, incidents=broken)
        decision = decide(seen, triggers, history, now)
        assert (decision.action == "hold") == (OPEN in broken)
        assert bool(decision.reasons) == (drifts or labels >= 100)
        if decision.action == "retrain":
            history.append(now)
        elif decision.until is not None:
            assert decide(seen, triggers, history, decision.until).action == "retrain"
    for place, asked in enumerate(history):
        assert sum(asked <= each < asked + timedelta(days=window) for each in history) <= retrains
        assert place == 0 or asked - history[place - 1] >= timedelta(hours=cooldown)
