"""Did a share of a number's values arrive in another unit? Seconds as milliseconds, shares as percents.

On a logarithmic scale a change of unit moves values by a constant and keeps their shape. So a day's values
are a mixture: a part 1 - s as usual, and a part s as usual but moved. Of all moves and parts the likeliest
is taken (a maximum of the likelihood of binned values over a grid); it is a change of unit where the move is
a ratio of units, and moving the struck values back makes the day look as usual. What drifts is moved
by some other factor, or spreads, or changes its shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNITS = (10.0, 60.0, 100.0, 1000.0, 3600.0, 86_400.0, 1e6)
"""Ratios between units that people mix up; their inverses count too. 1,024 is as good as 1,000."""
_RATIOS = np.array([sign * np.log10(unit) for unit in UNITS for sign in (1, -1)])
BIN = 0.05  # width of a bin, in decades
TOLERANCE = 0.075  # decades that the likeliest move may lie off a ratio of units
AS_LIKELY = 3.0  # … or nats that it may be likelier: what broke may drift as well
LITTLE = 0.01  # … or so much of its gain
FARTHEST = 6.3  # decades: the greatest move that is tried
SHARES = np.arange(0.05, 1.001, 0.05)
FLOOR = 1e-4  # share of the likelihood that is spread evenly: no value is impossible
LEAST_GAIN = 10.0  # nats by which the mixture must beat "as usual", and "as usual, but wider or narrower"
LEAST_GAIN_A_ROW = 1.5  # … and this for each struck row, up to half of all: they lie where else few would
LEAST_VALUES = 10
LIKE_USUAL = 0.1  # Kolmogorov-Smirnov distance that remains when the struck values are moved back, and noise


@dataclass(frozen=True)
class UnitChange:
    """A `share` of the values came multiplied by `factor`, one of UNITS or its inverse."""

    factor: float
    share: float


def logs(values: Floats) -> Floats:
    """Take decimal logarithms of the sizes of values that are finite and not 0."""
    sizes = np.abs(values[np.isfinite(values)])
    found: Floats = np.log10(sizes[sizes > 0])
    return found


def find_unit_change(usual: Floats, now: Floats) -> UnitChange | None:
    """Compare decimal logarithms, shapes (m,) and (n,); None where no change of unit explains the difference."""
    if min(len(usual), len(now)) < LEAST_VALUES or (off := distance(usual, now)) < SHARES[0] / 2:
        return None
    stretched = _stretched(usual, now)
    low = min(each.min() for each in (usual, now, stretched)) - BIN
    size = int((max(each.max() for each in (usual, now, stretched)) - low) / BIN) + 2
    shape, bins = _shape(usual, low, size), _bins(now, low)
    counts = np.bincount(bins, minlength=size)
    drifted = float(counts @ (np.log(_shape(stretched, low, size)) - np.log(shape)))
    found = _likeliest(shape, counts, [round(ratio / BIN) for ratio in _RATIOS])
    least = max(LEAST_GAIN, LEAST_GAIN_A_ROW * min(found.share, 0.5) * len(now))
    if found.gain - max(drifted, 0.0) < least:
        return None  # most days end here
    farthest = int(FARTHEST / BIN)
    best = _likeliest(shape, counts, range(-farthest, farthest + 1))
    likelier = best.gain - found.gain > max(AS_LIKELY, LITTLE * best.gain)
    if likelier and abs(best.bins - found.bins) * BIN > TOLERANCE:
        return None
    move = _RATIOS[np.abs(_RATIOS - found.bins * BIN).argmin()]
    repaired = np.where(_struck(shape, found)[bins], now - move, now)
    noise = 1.36 * np.sqrt(1 / len(usual) + 1 / len(now))  # exceeded five times in a hundred
    if distance(usual, repaired) > min(LIKE_USUAL + noise, max(noise, off / 2)):
        return None
    return UnitChange(float(10**move), found.share)


def distance(left: Floats, right: Floats) -> float:
    """Compute the Kolmogorov-Smirnov distance: the greatest gap between the shares below any value."""
    left, right = np.sort(np.round(left, 6)), np.sort(np.round(right, 6))  # equal but for rounding is equal
    at = np.concatenate([left, right])
    below = [np.searchsorted(each, at, side="right") / len(each) for each in (left, right)]
    return float(np.abs(below[0] - below[1]).max())


@dataclass(frozen=True)
class _Move:
    """So many bins up, of such a share of the values; `gain` over "as usual" in nats."""

    bins: int = 0
    share: float = 0.0
    gain: float = 0.0


def _likeliest(shape: Floats, counts: NDArray[np.int64], moves: Iterable[int]) -> _Move:
    """Try moves with all shares, and return the likeliest."""
    best, seen = _Move(), np.flatnonzero(counts)
    usual = float(counts[seen] @ np.log(shape[seen]))
    for move in moves:
        mixed = np.outer(1 - SHARES, shape[seen]) + np.outer(SHARES, _moved(shape, move)[seen])
        gains = np.log(mixed) @ counts[seen] - usual
        if gains.max() > best.gain:
            best = _Move(move, float(SHARES[gains.argmax()]), float(gains.max()))
    return best


def _struck(shape: Floats, move: _Move) -> NDArray[np.bool_]:
    """Say of each bin whether its values are likelier to have been moved."""
    struck: NDArray[np.bool_] = move.share * _moved(shape, move.bins) > (1 - move.share) * shape
    return struck


def _stretched(usual: Floats, now: Floats) -> Floats:
    """Widen or narrow the usual values about their middle as the others are: the rival explanation, drift."""
    middle = np.median(usual)
    usually, by_now = (float(np.sqrt(((each - middle) ** 2).mean())) for each in (usual, now))
    found: Floats = middle + (usual - middle) * (by_now / usually if usually else 1.0)
    return found


def _shape(values: Floats, low: float, size: int) -> Floats:
    counts = np.bincount(_bins(values, low), minlength=size) / len(values)
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    found: Floats = (1 - FLOOR) * smooth + FLOOR / size
    return found


def _moved(shape: Floats, move: int) -> Floats:
    moved = np.full(len(shape), FLOOR / len(shape))
    if not move:
        return shape
    if abs(move) < len(shape):
        to, of = (
            (slice(move, None), slice(None, -move)) if move > 0 else (slice(None, move), slice(-move, None))
        )
        moved[to] = shape[of]
    return moved


def _bins(values: Floats, low: float) -> NDArray[np.int64]:
    return ((values - low) / BIN).astype(np.int64)
