"""Seeded randomness: one independent generator for each seed, day and purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

DAY = 86_400_000_000
"""Microseconds a day. World times are int64 microseconds since 1970 (UTC); world days count from 1970."""
SECOND = 1_000_000


class Purpose(IntEnum):
    """What a generator is for. Its number is part of every world drawn so far: never renumber."""

    STRUCTURE = 0
    ACTORS = 1
    ITEMS = 2
    VISITS = 3
    POLICY = 4
    RESPONSES = 5
    DELIVERY = 6
    FAULTS = 7
    ARRIVALS = 8
    REACTIONS = 9


def stream(seed: int, day: int, purpose: Purpose) -> np.random.Generator:
    """Open the generator of one seed, day and purpose: days come out alike in any order."""
    return np.random.default_rng([seed, day, int(purpose)])


class Dice:
    """Common random numbers: the same for the same keys, whatever else is thrown for.

    So two systems that show a person the same thing see them do the same about it, and differ by what
    they show differently alone.
    """

    def __init__(self, seed: int, day: int, purpose: Purpose) -> None:
        self._salt = stream(seed, day, purpose).integers(2**64, dtype=np.uint64)

    def throw(self, count: int, *keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Throw `count` dice in [0, 1) for each row of integer keys, shape (n, count)."""
        mixed = np.full(len(keys[0]), self._salt)
        for key in keys:
            mixed = mix(mixed * _GOLDEN + key.astype(np.uint64))
        return uniform(mix(mixed[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix bits by the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return state ^ (state >> np.uint64(31))


def uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Read mixed bits as numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) / 2**53
