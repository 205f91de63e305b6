"""Which days are the reference, and which are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.case_study import CaseStudy

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_REFERENCE = 56  # days
SHORTEST_REFERENCE = 21  # days that are kept although features were still filling their windows


@dataclass(frozen=True)
class Plan:
    """Day numbers: the reference [start, split), what is judged from `split` on, until `end`.

    Rows of [learned_from, learned_until) are those the model learned from.
    """

    start: int
    split: int
    end: int
    learned_from: int
    learned_until: int
    notes: tuple[str, ...] = ()


def make_plan(case: CaseStudy, first: datetime, as_of: datetime, record: Mapping[str, Any]) -> Plan:
    """Choose the days of the reference and those that are judged.

    `first` is the moment of the first row; days before all feature windows are full are left out, as long
    as enough others remain.
    """
    window = {name: datetime.fromisoformat(record["window"][name]) for name in ("start", "end")}
    end, born = day_number(as_of), day_number(datetime.fromisoformat(record["as_of"]), up=True)
    learned_from, learned_until = day_number(window["start"]), day_number(window["end"], up=True)
    split = born if end > born else learned_until
    if split >= end:  # nothing was held out by time: the last days are judged
        split = end - int(record.get("days", {}).get("evaluate_days", 7))
    begin = max(day_number(window["start"], up=True), day_number(first), split - LONGEST_REFERENCE)
    windows = sorted({days for view in case.features for days in view.windows})
    settled = [max(begin, day_number(first) + days) for days in (0, *windows)]
    start = max(day for day in settled if day <= max(begin, split - SHORTEST_REFERENCE))
    filling = ", ".join(str(days) for days in windows if day_number(first) + days > start)
    note = f"features over {filling} days were still filling their windows in the reference"
    return Plan(start, split, end, learned_from, learned_until, (note,) if filling else ())


def day_number(moment: datetime, *, up: bool = False) -> int:
    """Number the UTC day of a moment; with `up`, the first that begins at or after it."""
    since = moment - EPOCH
    return -(-since // DAY) if up else since // DAY


def midnight(day: int) -> datetime:
    return EPOCH + day * DAY
