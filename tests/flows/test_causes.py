"""One cause, one retrain: whatever is run twice or killed in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from pipelines.flows.causes import Cause, Journal
from pipelines.steps.decide import (
    AGE,
    DRIFT,
    ESTIMATED,
    FOLLOW_UP,
    LABELS,
    OUTCOME,
    PERFORMANCE,
    Decision,
    Reason,
)
from pipelines.steps.signals import Fall
from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RETRAIN = Decision("retrain", (Reason(DRIFT, "drift: heat moved"), Reason(LABELS, "20,000 labels matured")))


@pytest.fixture
def journal(ws: Workspace) -> Journal:
    return Journal(ws)


def test_all_reasons_make_one_cause_named_by_the_gravest(journal: Journal) -> None:
    cause = journal.note(RETRAIN, NOW)
    assert cause is not None
    assert cause.event == "loop.drift.found"
    assert cause.words == "drift: heat moved; 20,000 labels matured"


@pytest.mark.parametrize("action", ["hold", "wait"])
def test_only_a_decision_to_retrain_is_a_cause(journal: Journal, action: Literal["hold", "wait"]) -> None:
    assert journal.note(replace(RETRAIN, action=action), NOW) is None
    assert journal.causes() == []


def test_history_tells_when_retrains_were_asked_for(journal: Journal) -> None:
    for day in range(3):
        journal.note(RETRAIN, NOW + day * DAY)
    assert journal.history() == [NOW, NOW + DAY, NOW + 2 * DAY]


def test_the_newest_fall_is_followed_up_from_its_own_day(journal: Journal) -> None:
    def found(kind: str, day: int) -> Fall | None:
        journal.note(Decision("retrain", (Reason(kind, f"{kind} on day {day}"),)), NOW + day * DAY)
        return journal.fall()

    assert journal.fall() is None
    assert found(LABELS, 0) is None  # comes by itself
    first = Fall(NOW + DAY, "outcome.dropped on day 1")
    assert found(OUTCOME, 1) == found(FOLLOW_UP, 4) == found(AGE, 5) == first
    assert found(DRIFT, 6) == Fall(NOW + 6 * DAY, "drift.found on day 6")


def test_what_fell_is_remembered_by_kind(journal: Journal) -> None:
    """So that it is found once, and what is learned after it may be learned from what came since."""
    assert (journal.falls(), journal.last(OUTCOME), journal.asked(ESTIMATED)) == ([], None, None)
    for day, reasons in enumerate(
        [
            (Reason(PERFORMANCE, "fell", NOW - 3 * DAY), Reason(OUTCOME, "fell", NOW - DAY)),
            (Reason(LABELS, "20,000 labels matured"), Reason(ESTIMATED, "it will fall")),
            (Reason(OUTCOME, "fell", NOW + DAY),),
        ]
    ):
        journal.note(Decision("retrain", reasons), NOW + day * DAY)
    # Told together, the one that knows best when it began counts: performance tells since when it was measured.
    assert journal.falls() == [NOW - DAY, NOW + DAY]
    assert (journal.last(OUTCOME), journal.last(PERFORMANCE), journal.last(DRIFT)) == (
        NOW + DAY, NOW - 3 * DAY, None
    )  # fmt: skip
    assert (journal.asked(ESTIMATED), journal.asked(OUTCOME)) == (NOW + DAY, NOW + 2 * DAY)


def test_the_columns_of_the_newest_drift_are_remembered(journal: Journal) -> None:
    assert journal.drifted() == (None, set())
    for day, (since, columns) in enumerate([(0, ("age",)), (4, ("heat",)), (4, ("heat", "rain"))]):
        reason = Reason(DRIFT, "drift", NOW + since * DAY, columns)
        journal.note(Decision("retrain", (reason,)), NOW + (5 + day) * DAY)
    assert journal.drifted() == (NOW + 4 * DAY, {"heat", "rain"})
    known = read_json(journal._path)
    for cause in known:  # as a journal of before holds it
        for reason in cause["reasons"]:
            del reason["columns"]
    write_json(journal._path, known)
    assert journal.drifted() == (NOW + 4 * DAY, None)


def test_a_journal_of_before_reads(journal: Journal) -> None:
    """Causes once told no reasons one by one."""
    journal.note(RETRAIN, NOW)
    (known,) = read_json(journal._path)
    del known["reasons"]
    write_json(journal._path, [known])
    assert journal.falls() == [] and journal.history() == [NOW]


def test_a_cause_is_sent_once(journal: Journal) -> None:
    journal.note(RETRAIN, NOW)
    sent: list[Cause] = []
    journal.send(sent.append, NOW)
    journal.send(sent.append, NOW)
    assert len(sent) == 1


def test_a_watch_killed_before_the_event_was_acknowledged_sends_the_same_one_again(journal: Journal) -> None:
    noted = journal.note(RETRAIN, NOW)
    sent: list[Cause] = []

    def killed(cause: Cause) -> None:
        sent.append(cause)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.send(killed, NOW)
    journal.send(sent.append, NOW)
    assert noted is not None
    assert [cause.id for cause in sent] == [noted.id, noted.id]


def test_a_cause_is_taken_when_its_retrain_has_ended(journal: Journal) -> None:
    cause = journal.note(RETRAIN, NOW)
    assert cause is not None
    assert not journal.taken(cause.id), "one that has only begun may die"
    journal.finish()
    assert journal.taken(cause.id) and not journal.taken("unknown")
    journal.send(lambda each: pytest.fail("a cause that was taken needs no event"), NOW)


def test_a_cause_whose_retrain_died_is_sent_again_by_another_event(journal: Journal) -> None:
    journal.note(RETRAIN, NOW)
    sent: list[Cause] = []
    for hours in range(48):
        journal.send(sent.append, NOW + timedelta(hours=hours))
    assert [each.sent_at for each in sent] == [
        (NOW + timedelta(hours=each)).isoformat() for each in (0, 6, 12)
    ]
    assert len({each.id for each in sent}) == 1, "it is still the same cause"
    assert len({each.event_id for each in sent}) == 3, "the server drops an event that it has seen"


def test_what_a_retrain_has_learned_is_not_asked_for_again(journal: Journal) -> None:
    """Whoever asked for it: a person, the calendar, or another cause."""
    for day in range(2):
        journal.note(RETRAIN, NOW + day * DAY)
    journal.send(lambda each: None, NOW)
    journal.finish()
    assert journal.send(lambda each: None, NOW + DAY) == []
