"""Has what comes in changed? Verdicts on columns, held to false-alarm rates on worlds that stand still.

`profile_reference` keeps the reference as a small JSON, `judge_window` compares later rows with it. Two
levels: a `warning` looks at one window (family-wise over all columns), an `alarm` at all days since the
reference, and may be looked at every day for ever (`drift_forecast` says why). Half of each error rate
is spent on what the model puts out and what came of it (predictions, labels), half on what goes in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from pipelines.learning.drift_cells import Counts, count
from pipelines.learning.drift_contrasts import UNSEEN, daily_values, prominence
from pipelines.learning.drift_judge import Found, judge_contrasts
from pipelines.learning.drift_profile import Profile, Watched, profile_reference
from pipelines.learning.drift_rows import Rows, open_rows
from pipelines.learning.drift_state import State
from pipelines.learning.drift_verdict import ColumnVerdict, Verdict, as_date
from pipelines.learning.drift_words import explain

__all__ = ["ColumnVerdict", "Profile", "Rates", "State", "Verdict", "judge_window", "profile_reference"]

PERSISTENCE = 3  # days on end that the evidence must suffice, before it is an alarm
MINIMUM_EFFECT = 0.05  # row standard deviations: a smaller shift is not worth a word


@dataclass(frozen=True)
class Rates:
    """The false-alarm rates to hold: of a window's warning, and of a run of `run_days` ever alarming."""

    warning: float = 0.05
    alarm_run: float = 0.05
    run_days: int = 60


def judge_window(
    profile: Profile, current: Rows | None, rates: Rates | None = None, state: State | None = None
) -> Verdict:
    """Judge current rows against the reference; `state`, if given, is extended by their days.

    Days that the state already holds are not counted twice. None, or no rows, is a verdict, not an error.
    """
    rates, state = rates or Rates(), state if state is not None else State()
    counts = Counts(np.zeros(0, dtype=int), np.zeros(0, dtype=int))
    if current is not None:
        with open_rows(current, profile.time) as connection:
            counts = count(connection, [watched.column for watched in profile.columns])
    window: dict[str, list[int]] = {watched.column.name: [] for watched in profile.columns}
    if len(counts.days):
        for watched in profile.columns:
            values, rows = daily_values(watched.contrasts, counts.cells[watched.column.name], counts.rows)
            window[watched.column.name] = state.add(watched, counts.days, values, rows)
    found = judge_contrasts(profile, state, window, rates.run_days)
    columns, path = _column_verdicts(profile, found, rates)
    since = _since(path, 1 / rates.alarm_run)
    if since is not None:
        columns = _alarmed(columns)
    columns = [
        replace(each, reason=explain(each, watched, counts.only(window[each.name])))
        for each, watched in zip(columns, profile.columns, strict=True)
    ]
    fresh = sorted({day for days in window.values() for day in days})
    return _verdict(profile, counts.only(fresh) if fresh else counts, columns, path, since, rates)


def _column_verdicts(
    profile: Profile, found: Mapping[str, Found], rates: Rates
) -> tuple[list[ColumnVerdict], list[tuple[int, float]]]:
    """Judge each column, and trace the average evidence by day."""
    shares = _shares(profile, found)
    days = sorted({int(day) for each in found.values() for day in each.days})
    path = np.full(len(days), 0.0 if shares else 1.0)
    columns = []
    for watched in profile.columns:
        each, share = found[watched.column.name], shares.get(watched.column.name, 0.0)
        evidence = np.where(
            np.abs(each.moved) >= MINIMUM_EFFECT, each.evidence, np.minimum(each.evidence, 1.0)
        )
        mean = evidence.mean(axis=1) if evidence.size else np.ones(len(each.days))
        at = np.searchsorted(each.days, days, side="right") - 1
        path += share * np.where(at >= 0, np.append(mean, 1.0)[at], 1.0)
        columns.append(_column_verdict(watched, each, share, float(mean[-1]) if len(mean) else None, rates))
    return columns, list(zip(days, path.tolist(), strict=True))


def _shares(profile: Profile, found: Mapping[str, Found]) -> dict[str, float]:
    """Divide an error rate among the columns that have days: half to outputs, half to inputs."""
    judged = [w.column for w in profile.columns if len(found[w.column.name].days)]
    inputs = [column.name for column in judged if column.role == "feature"]
    outputs = [column.name for column in judged if column.role != "feature"]
    sides = [side for side in (inputs, outputs) if side]
    return {name: 1 / len(sides) / len(side) for side in sides for name in side}


def _column_verdict(
    watched: Watched, found: Found, share: float, evidence: float | None, rates: Rates
) -> ColumnVerdict:
    column = watched.column
    verdict = ColumnVerdict(
        column.name, column.role, column.kind, found.status, evidence=evidence, settled=found.settled
    )
    if found.status != "judged":
        return verdict
    worth = np.where(_worth(watched, found.shift), found.p, 1.0)
    p = float(min(1.0, worth.min() * len(worth)))
    telling = worth * len(worth) <= max(p, rates.warning * share)
    best = int(np.argmax(np.where(telling, prominence(watched.contrasts, found.shift), -1.0)))
    statistic = float(norm.isf(max(p, 1e-300) / 2))
    threshold = float(norm.isf(rates.warning * share / 2))
    return replace(
        verdict,
        statistic=statistic,
        threshold=threshold,
        p=p,
        drifted=statistic > threshold,
        what=watched.contrasts.names[best],
        effect=float(found.shift[best]),
    )


def _worth(watched: Watched, shift: np.ndarray) -> np.ndarray:
    """Say which shifts (…, k) are worth a word: large enough; and of what was never seen, only more."""
    less_is_fine = np.array([name in UNSEEN for name in watched.contrasts.names], dtype=bool)
    return np.asarray(np.where(less_is_fine, shift, np.abs(shift)) >= MINIMUM_EFFECT)


def _since(path: Sequence[tuple[int, float]], reach: float) -> int | None:
    """Find the first of the days on end, up to the last, on which the evidence sufficed; None if too few."""
    days = []
    for day, evidence in reversed(path):
        if evidence < reach:
            break
        days.append(day)
    return days[-1] if len(days) >= PERSISTENCE else None


def _alarmed(columns: Sequence[ColumnVerdict]) -> list[ColumnVerdict]:
    """Mark the columns that hold the evidence: the strongest, and all within a tenth of it."""
    strongest = max(column.evidence or 0.0 for column in columns)
    return [replace(column, alarmed=(column.evidence or 0.0) >= 0.1 * strongest) for column in columns]


def _verdict(
    profile: Profile,
    counts: Counts,
    columns: Sequence[ColumnVerdict],
    path: Sequence[tuple[int, float]],
    since: int | None,
    rates: Rates,
) -> Verdict:
    statuses = [column.status for column in columns]
    drifted = any(column.drifted for column in columns)
    some = len(counts.days) > 0
    moved = sorted((c for c in columns if c.alarmed or c.drifted), key=lambda c: not c.alarmed)
    unjudged = [c.reason for c in columns if c.reason and c not in moved]
    heading = [column.name for column in columns if not column.settled]
    if heading:
        named = ", ".join(heading[:3]) + (", …" if len(heading) > 3 else "")
        unjudged.append(
            f"{len(heading)} columns moved in the reference already, and more of it is no drift: {named}"
        )
    return Verdict(
        level="alarm" if since is not None else "warning" if drifted else "none",
        status="judged"
        if "judged" in statuses
        else min(statuses, default="no_columns")
        if some
        else "no_rows",
        start=as_date(int(counts.days.min())) if some else None,
        end=as_date(int(counts.days.max()) + 1) if some else None,
        rows=int(counts.rows.sum()),
        reference=_reference(profile),
        columns=tuple(columns),
        reasons=tuple(column.reason for column in moved),
        evidence=path[-1][1] if path else 1.0,
        alarm_at=1 / rates.alarm_run,
        since=None if since is None else as_date(since),
        notes=(*profile.notes, *(unjudged if some else ("there were no rows to judge",))),
        path=tuple((as_date(day), evidence) for day, evidence in path),
    )


def _reference(profile: Profile) -> dict[str, object]:
    days = profile.days
    return {
        "start": as_date(int(days.min())) if len(days) else None,
        "end": as_date(int(days.max()) + 1) if len(days) else None,
        "days": len(days),
        "rows": int(profile.rows.sum()),
        **profile.origin,
    }
