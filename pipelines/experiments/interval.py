"""A figure with its interval, as people and machines read it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value between two ends; where too little is known the ends are infinite, or the value NaN."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Return `{value, low, high}`; what is not known is null."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: end if math.isfinite(end) else None for name, end in ends.items()}

    def __str__(self) -> str:
        """Write `+0.0123 [-0.0045, +0.0291]`."""
        if not math.isfinite(self.high - self.low):
            return "not known yet"
        return f"{self.value:+.4g} [{self.low:+.4g}, {self.high:+.4g}]"
