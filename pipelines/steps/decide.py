"""Decide: what was watched becomes a decision, with its reasons in words.

`retrain` where there is a reason and nothing speaks against it; `hold` while a column is broken upstream, since a
model must not learn from it; `wait` where there is no reason, where a version is on trial with live users (unless the
world has changed since it learned), or where cooldown and budget do not allow another retrain yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pipelines.learning.estimated_performance import METRIC
from pipelines.settings import Triggers
from pipelines.steps.incidents import Incident
from pipelines.steps.outcome import Outcome
from pipelines.steps.signals import Fall, OnTrial, Signals

PERFORMANCE, OUTCOME, ANSWERS = "performance.dropped", "outcome.dropped", "answers.dropped"
DRIFT, ESTIMATED = "drift.found", "performance.estimated"
FOLLOW_UP = "retrain.follow_up"
LABELS, AGE = "labels.matured", "model.aged"
FALLS = (PERFORMANCE, OUTCOME, ANSWERS, DRIFT, ESTIMATED)
KINDS = (*FALLS, FOLLOW_UP, LABELS, AGE)
"""The kinds of reasons, the gravest first."""
_DATED = (OUTCOME, ANSWERS)
"""The falls that tell when they began. Performance tells since when it was measured, which moves on every day."""

_DAY = timedelta(days=1)
SHOWN = 5  # columns that a drift's words name; the report shows all
Action = Literal["retrain", "hold", "wait"]


@dataclass(frozen=True)
class Reason:
    """A reason to retrain: its kind, and in words.

    `since` is when a fall began, as far as is known, `columns` are those that drifted.
    """

    kind: str
    words: str
    since: datetime | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to do, and why. `reasons` speak for a retrain, the gravest first, whatever the action is.

    `incidents` are open and closed ones; an open one holds training. `bound` is what forbids a retrain, and
    `until` when one is allowed again, where that is known. A retrain that `overtakes` a version on trial ends its
    experiment.
    """

    action: Action
    reasons: tuple[Reason, ...] = ()
    incidents: tuple[Incident, ...] = ()
    until: datetime | None = None
    bound: str = ""
    overtakes: str = ""

    @property
    def cause(self) -> str:
        """Say why to retrain, and which of the rows to learn from are broken."""
        told = [reason.words for reason in self.reasons]
        return "; ".join(told + [each.words for each in self.incidents if each.until is not None])

    @property
    def words(self) -> str:
        """Say what is done, and why."""
        why = "; ".join(reason.words for reason in self.reasons) or "no reason to retrain"
        if self.action == "hold":
            broken = "; ".join(each.words for each in self.incidents if each.until is None)
            return f"hold: {broken}" + (
                f"; else there would be reason to retrain: {why}" if self.reasons else ""
            )
        if self.bound:
            until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M} UTC"
            return f"wait{until} ({self.bound}): {why}"
        ended = f"; {self.overtakes}" if self.overtakes else ""
        return f"retrain: {self.cause}{ended}" if self.action == "retrain" else f"wait: {why}"

    def as_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        return {
            "action": self.action,
            "words": self.words,
            "until": None if self.until is None else self.until.isoformat(),
            "reasons": [{"kind": each.kind, "words": each.words} for each in self.reasons],
            "incidents": [each.as_json() for each in self.incidents],
        }


def decide(signals: Signals, triggers: Triggers, history: Sequence[datetime], now: datetime) -> Decision:
    """Decide at a moment; `history` tells when retrains were asked for, in any order."""
    reasons, incidents = tuple(_reasons(signals, triggers, now)), tuple(signals.incidents)
    if any(each.until is None for each in incidents):
        return Decision("hold", reasons, incidents)
    if not reasons:
        fallen = _answered(signals, triggers)
        if fallen is None:
            return Decision("wait", (), incidents)
        return Decision("wait", fallen[:1], incidents, fallen[1], "there is nothing to learn of it before")
    overtakes = _overtakes(signals.trial, reasons)
    if signals.trial is not None and not overtakes and not _beside(signals.trial, reasons):
        return Decision("wait", reasons, incidents, bound=signals.trial.words)
    until, bound = max(_bounds(triggers, history), default=(now, ""))
    if until > now:
        return Decision("wait", reasons, incidents, until, bound)
    return Decision("retrain", reasons, incidents, overtakes=overtakes)


def _overtakes(trial: OnTrial | None, reasons: Sequence[Reason]) -> str:
    """Say why an experiment is over before its time; '' where it is not.

    What comes of the answers, or what they are, has fallen since its challenger learned: who wins a comparison of two
    that know the old world alone tells nothing of the new one.
    """
    began = fall_of(reasons)
    if trial is None or trial.learned is None or began is None or began <= trial.learned:
        return ""
    return f"{trial.words}, which ends: it has learned until {trial.learned:%Y-%m-%d %H:%M}, before that"


def fall_of(reasons: Sequence[Reason]) -> datetime | None:
    """Return when the newest fall among reasons began that tells it."""
    return max(
        (each.since for each in reasons if each.kind in _DATED and each.since is not None), default=None
    )


def _beside(trial: OnTrial, reasons: Sequence[Reason]) -> bool:
    """Say whether a retrain may go on beside an experiment: a fall is followed up, and few have met its challenger.

    That one knows little of what came with the fall; what newer rows make takes its place, if the gate lets it.
    """
    return trial.early and any(each.kind == FOLLOW_UP for each in reasons)


def _bounds(triggers: Triggers, history: Sequence[datetime]) -> Iterator[tuple[datetime, str]]:
    """Yield until when each bound forbids a retrain, and its name."""
    asked, budget = sorted(history), triggers.budget
    if asked:
        yield (
            asked[-1] + triggers.cooldown,
            f"cooldown: the last retrain was asked for on {asked[-1]:%Y-%m-%d}",
        )
    if budget is not None and len(asked) >= budget.retrains:
        told = f"budget: {budget.retrains} retrains within {budget.days} days"
        yield asked[-budget.retrains] + timedelta(days=budget.days), told


def _reasons(signals: Signals, triggers: Triggers, now: datetime) -> Iterator[Reason]:
    falls = list(_falls(signals, triggers, now))
    yield from falls
    trained, fall = signals.trained, signals.fall
    number = None if falls or fall is None else _follow_up(fall, triggers, trained, now)
    if fall is not None and number is not None:
        words = f"follow-up {number}, from newer rows, of {fall.found:%Y-%m-%d}: {fall.words}"
        yield Reason(FOLLOW_UP, words)
    since = (
        f" since {trained:%Y-%m-%d}, the day of the last training" if trained else " since the last training"
    )
    if triggers.new_labels is not None and signals.new_labels >= triggers.new_labels:
        yield Reason(LABELS, f"{signals.new_labels:,} labels matured{since}")
    if triggers.max_age is not None and trained and now - trained >= timedelta(days=triggers.max_age):
        yield Reason(AGE, f"the model is {(now - trained).days} days old: nothing was learned{since}")


def _falls(signals: Signals, triggers: Triggers, now: datetime) -> Iterator[Reason]:
    found, estimated = signals.performance, signals.estimated
    # What was asked for once is followed up; it is not found again each day, nor in each version that came of it.
    followed = signals.fall is not None and now <= signals.fall.found + _horizon(triggers)
    if found is not None and not followed and found.fell(triggers.performance_drop):
        rows = (
            f"rows of {found.start:%Y-%m-%d} to {found.end:%Y-%m-%d}"
            if found.start and found.end
            else "newer rows"
        )
        yield Reason(
            PERFORMANCE,
            f"{found.metric} of version {found.version} is {found.now.value:.4f} "
            f"[{found.now.low:.4f}, {found.now.high:.4f}] on {rows}, and was {found.then:.4f} ± {found.then_half:.4f}",
            found.start,
        )
    if (came := _came(signals, triggers)) is not None:
        yield came
    answered = _answered(signals, triggers)
    if answered is not None and answered[1] <= now:
        yield answered[0]
    began = signals.drifting_since
    since = datetime.fromisoformat(began).replace(tzinfo=UTC) if began else None
    same = since is not None and signals.drifted is not None and since <= signals.drifted
    # More columns join a drift as evidence grows; once it is followed up no more, another column is another drift.
    # Meanwhile the same columns are the same drift, though their evidence was weaker for a day, and began anew.
    known, columns = signals.drifted_columns, set(signals.drifting)
    within = known is None or columns <= set(known)
    again = (same and (followed or within)) or (followed and bool(known) and within)
    if signals.alarms and not again:
        drifting = f"drift since {began}: " if began else "drift: "
        more = [f"and {len(signals.alarms) - SHOWN} more columns"] if len(signals.alarms) > SHOWN else []
        words = drifting + "; ".join([*signals.alarms[:SHOWN], *more])
        yield Reason(DRIFT, words, since, tuple(signals.drifting))
    bound, asked = triggers.estimated_drop, signals.foreseen
    foreseen = asked is not None and now <= asked + _horizon(triggers)
    if estimated is not None and bound is not None and not (followed or foreseen) and estimated.fell(bound):
        yield Reason(
            ESTIMATED,
            f"the scores of the days before {now:%Y-%m-%d}, whose labels have not come, lead to expect {METRIC} "
            f"{estimated.now.value:.4f} [{estimated.now.low:.4f}, {estimated.now.high:.4f}], and those the model "
            f"was judged by {estimated.then.value:.4f}",
        )


def _dropped(kind: str, found: Outcome, drop: float) -> Reason:
    spoken = f"{found.metric} of what the champion answered was {found.words(slid=found.slid(drop))}"
    return Reason(kind, spoken, found.began(drop))


def _came(signals: Signals, triggers: Triggers) -> Reason | None:
    """Return the fall of what came of the answers; None where there is none, or it has been retrained for."""
    found, drop, fall = signals.outcome, triggers.outcome_drop, signals.fall
    if found is None or drop is None or not found.fell(drop):
        return None
    if fall is not None and found.start(drop) < fall.found:  # they were answered by what it found wanting
        return None
    return _dropped(OUTCOME, found, drop)


def _answered(signals: Signals, triggers: Triggers) -> tuple[Reason, datetime] | None:
    """Return the fall of what is answered, and when its first labels have come; None where there is none."""
    found, watched, fall = signals.answered, triggers.answers, signals.fall
    if found is None or watched is None or not found.fell(watched.drop):
        return None
    if fall is not None and found.since(watched.drop) < fall.found:  # it is followed up
        return None
    return _dropped(ANSWERS, found, watched.drop), found.taught(watched.drop)


def _horizon(triggers: Triggers) -> timedelta:
    """Return for how long a fall is followed up."""
    return max(triggers.cooldown, _DAY) * 2**triggers.follow_ups


def follow_up_days(triggers: Triggers) -> Sequence[int]:
    """Return after how many days each follow-up of a fall is due: a cooldown, a day at least, then twice as long.

    In whole days, as trainings are: else one that took place on the due day would lie before it.
    """
    first = max(triggers.cooldown, _DAY)
    return [math.ceil(first * 2**number / _DAY) for number in range(triggers.follow_ups)]


def due_days(fall: Fall, triggers: Triggers) -> Sequence[datetime]:
    """Return the midnights on which the follow-ups of a fall are due."""
    begun = fall.found.replace(hour=0, minute=0, second=0, microsecond=0)
    return [begun + days * _DAY for days in follow_up_days(triggers)]


def _follow_up(fall: Fall, triggers: Triggers, trained: datetime | None, now: datetime) -> int | None:
    """Number the follow-up of a fall that is due: twice as long after it each time, for as many new days again.

    Whatever has been learned since, for whatever reason, need not be followed up; nor need a fall of long ago.
    """
    if now > fall.found + _horizon(triggers):
        return None
    for number, due in enumerate(due_days(fall, triggers), 1):
        if trained is None or trained < due:
            return number if now >= due else None
    return None
