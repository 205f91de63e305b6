"""What is said about a window: one verdict a column, and one over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class ColumnVerdict:
    """What a window says of a column.

    `statistic` and `threshold` are normal quantiles (standard deviations of surprise) of `p`, the chance of
    such a window if nothing changed, and of the column's share of the error rate; `drifted` is statistic >
    threshold. `what` names the contrast that moved most of those beyond noise, `effect` its shift in row
    standard deviations. `evidence` weighs "it moved, and did not come back", as odds, over all days since
    the reference. A column that was not `settled` in the reference is judged by where it was heading.
    `status`: judged, no_new_rows, not_enough_rows, not_enough_reference, or not_comparable
    (the reference was learned from).
    """

    name: str
    role: str
    kind: str
    status: str
    statistic: float | None = None
    threshold: float | None = None
    p: float | None = None
    drifted: bool = False
    what: str | None = None
    effect: float | None = None
    evidence: float | None = None
    alarmed: bool = False
    settled: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a window. `start`, `end` are dates, the end exclusive; `level` none, warning or alarm.

    `status` is judged where any column was, no_rows, no_times, no_reference, or why no column could be.
    `evidence` is the average evidence of all contrasts, `alarm_at` what it must reach, `path` the
    evidence after each day since the reference; `since` is the first day of the present alarm.
    """

    level: str
    status: str
    start: str | None
    end: str | None
    rows: int
    reference: Mapping[str, Any]
    columns: tuple[ColumnVerdict, ...]
    reasons: tuple[str, ...]
    evidence: float
    alarm_at: float
    since: str | None = None
    notes: tuple[str, ...] = ()
    path: tuple[tuple[str, float], ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """Name the columns that drifted, those of an alarm first."""
        alarmed = [column.name for column in self.columns if column.alarmed]
        return (*alarmed, *(c.name for c in self.columns if c.drifted and not c.alarmed))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """Read what `to_json` wrote."""
        held = {name: value for name, value in content.items() if name != "drifted_columns"}
        held["columns"] = tuple(ColumnVerdict(**column) for column in content["columns"])
        held["path"] = tuple((day, evidence) for day, evidence in content["path"])
        return cls(**{**held, "reasons": tuple(held["reasons"]), "notes": tuple(held["notes"])})

    def to_json(self) -> dict[str, Any]:
        """Return what `verdict.json` holds."""
        return {**asdict(self), "drifted_columns": list(self.drifted)}

    def summary(self) -> str:
        """Say the verdict in a line."""
        if self.status != "judged":
            return f"drift: {self.level} ({self.status.replace('_', ' ')})"
        named = f" ({', '.join(self.drifted[:5])})" if self.drifted else ""
        return f"drift: {self.level}{named}"


def as_date(day: int) -> str:
    """Write a day number as an ISO date."""
    return (EPOCH + timedelta(days=day)).isoformat()
