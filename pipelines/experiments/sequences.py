"""Always-valid intervals: they may be looked at every day, and acted on at any look.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences" (arXiv:2103.06476, 2021; Annals of Statistics 2024), Theorem 2.2:
after t units with mean m and standard deviation s,

    m ± s √( 2 (tρ² + 1) / (t²ρ²) · log(√(tρ² + 1) / α) )

covers the truth at all t at once, with probability 1 - α as the first look moves away from t = 0. A difference
of means or of ratios is a mean of linear terms but for a vanishing rest, so the same boundary holds for it, with
its standard error in the place of s / √t and its information in the place of t.

ρ sets the size at which the interval is tightest. There tρ² = a with a = log((a + 1) / α²), whose greater root
is a = -W₋₁(-α² / e) - 1 (Lambert's function).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import special, stats

from pipelines.experiments.cuped import Difference
from pipelines.experiments.moments import Floats


@cache
def tightest(alpha: float) -> float:
    """Return tρ² at the size for which ρ is chosen: there the boundary is √(tρ² + 1) standard errors."""
    return float(-special.lambertw(-(alpha**2) / math.e, k=-1).real - 1)


def boundary(information: Floats, planned: float, alpha: float) -> Floats:
    """Return how many standard errors the interval reaches to either side; tightest at `planned`."""
    clock = tightest(alpha) * np.asarray(information, dtype=np.float64) / planned
    with np.errstate(divide="ignore"):
        return np.sqrt((1 + 1 / clock) * np.log((clock + 1) / alpha**2))


def half_width(difference: Difference, planned: float, alpha: float) -> Floats:
    """Return half the width of the always-valid interval, of the shape of the difference; NaN if unknown."""
    with np.errstate(invalid="ignore"):
        return difference.error * boundary(difference.information, planned, alpha)


def inflation(alpha: float, power: float) -> float:
    """Say how many times the units of a fixed-horizon test are needed for the same power at the designed size."""
    reach = stats.norm.ppf(power)
    return float(((math.sqrt(tightest(alpha) + 1) + reach) / (stats.norm.ppf(1 - alpha / 2) + reach)) ** 2)
