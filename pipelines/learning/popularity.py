"""How popular things are: counts within a window, and rates that do not punish what is new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY_SECONDS = 86_400.0


def window_counts(items: NDArray[np.int64], ages: Floats, days: float, size: int) -> Floats:
    """Count events younger than `days`; `ages` are in days, the result has shape (size,)."""
    return np.bincount(items, (ages < days).astype(np.float64), minlength=size).astype(np.float64)


def daily_rate(counts: Floats, days: float, item_age: Floats) -> Floats:
    """Divide a window's count by the days for which the item could earn it (at least one).

    A window longer than an item's life would divide three days of success by twenty-eight. Unknown ages
    (NaN) are taken as longer than the window.
    """
    lived = np.where(np.isnan(item_age), days, item_age)
    rate: Floats = counts / np.clip(lived, 1.0, days)
    return rate
