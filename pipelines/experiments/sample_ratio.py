"""The sample-ratio check: are the arms as large as they were meant to be?

Where they are not, units were lost on the way in one arm, and what remains cannot be compared (Fabijan et al.
2019). The threshold is strict, since the check is repeated every day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

THRESHOLD = 0.001


@dataclass(frozen=True)
class SampleRatio:
    """Units seen in each arm, those expected, and how likely so large a difference is by chance."""

    seen: Mapping[str, int]
    expected: Mapping[str, float]
    p: float

    @property
    def mismatch(self) -> bool:
        """Say whether nothing may be concluded from this experiment."""
        return self.p < THRESHOLD


def check_sample_ratio(seen: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Compare the numbers of units with the arms' shares (chi-square); no units at all are no mismatch."""
    total, whole = sum(seen.values()), sum(shares.values())
    expected = {name: total * share / whole for name, share in shares.items()}
    if not total:
        return SampleRatio(dict(seen), expected, 1.0)
    statistic = sum((seen.get(name, 0) - of) ** 2 / of for name, of in expected.items())
    return SampleRatio(dict(seen), expected, float(special.chdtrc(len(shares) - 1, statistic)))
