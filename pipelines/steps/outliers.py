"""Which actors act on more of what they are shown than can be believed, from the population itself.

Median and median deviation are moved by neither a few wild accounts nor a per cent of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.settings import Outlier

_ENOUGH_ACTORS = 30
_LEAST_SPREAD = 0.25
"""Of log-odds: where nearly all act alike, a small difference is no sign yet."""
_NORMAL = 1.4826
"""What makes the median deviation of a normal sample its standard deviation."""

Counts = NDArray[np.int64]


def believed(shown: Counts, acted: Counts, outlier: Outlier) -> NDArray[np.float64]:
    """Tell for each actor the most of its shown things that it can be believed to have acted on, shape (n,).

    Infinite for actors who were shown too little, and for all where too few were shown enough.
    """
    known = shown >= outlier.shown
    most = np.full(len(shown), np.inf)
    if known.sum() < _ENOUGH_ACTORS:
        return most
    n, k = shown[known], np.minimum(acted, shown)[known]
    odds = np.log((k + 0.5) / (n - k + 0.5))
    middle = np.median(odds)
    spread = max(_NORMAL * float(np.median(np.abs(odds - middle))), _LEAST_SPREAD)
    rate = 1 / (1 + np.exp(-(middle + outlier.deviations * spread)))
    most[known] = n * rate + outlier.deviations * np.sqrt(n * rate * (1 - rate))
    return most
