"""The days that were judged since the reference: what the alarm remembers between looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.learning.drift_profile import Watched

MINIMUM_ROWS = 30  # rows behind a day's value, at least
KEPT_DAYS = 120  # current days remembered, at most


@dataclass
class State:
    """What was judged since the reference: contrasts by column and day. A day, once judged, stays.

    `values[column][day]` is (values, rows), each (k,). `until` names, for inputs and labels, the first day
    that was not looked at yet.
    """

    values: dict[str, dict[int, tuple[list[float], list[int]]]] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)

    def add(self, watched: Watched, days: np.ndarray, values: np.ndarray, rows: np.ndarray) -> list[int]:
        """Keep the days that are new and have rows enough; return them."""
        kept = self.values.setdefault(watched.column.name, {})
        after = max(self.until.get(side(watched.column.role), 0), int(watched.days.max(initial=-1)) + 1)
        fresh = []
        for day, value, behind in zip(days.tolist(), values, rows, strict=True):
            if day >= after and day not in kept and behind.max(initial=0) >= MINIMUM_ROWS:
                kept[day] = ([float(v) for v in value], [int(r) for r in behind])
                fresh.append(day)
        for old in sorted(kept)[:-KEPT_DAYS]:
            del kept[old]
        return fresh

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        values = {
            name: {
                str(day): [[None if np.isnan(value) else value for value in values], rows]
                for day, (values, rows) in days.items()
            }
            for name, days in self.values.items()
        }
        return {"until": self.until, "values": values}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> State:
        """Read what `to_json` wrote."""
        values = {
            name: {
                int(day): ([np.nan if value is None else value for value in values], rows)
                for day, (values, rows) in days.items()
            }
            for name, days in content["values"].items()
        }
        return cls(values, dict(content["until"]))


def side(role: str) -> str:
    """Say when a role's rows are complete: `inputs` with the day, `labels` when they matured."""
    return "labels" if role == "label" else "inputs"
