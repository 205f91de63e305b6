"""The truth of the world: who is there, and what they like. Replace: with what you believe of your users.

P(click) = examination(position) · relevance(user, item, day): a taste that users of one segment share for items of one
kind, how readily the user clicks, and how good the item is. The log shows segment and kind alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipelines.settings import Frozen
from pipelines.world.delays import Delivery
from pipelines.world.numbers import sigmoid
from pipelines.world.population import Columns, Population, Tenure
from pipelines.world.scenarios import Drift, Scenario
from pipelines.world.streams import DAY, Purpose, stream

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

SEGMENTS = ("new", "casual", "regular")
KINDS = ("books", "games", "music", "tools")
TENURE = Tenure(60.0)
ITEM_DAYS = 20
BURN_IN_DAYS = 7


class WorldParams(Frozen):
    """`users` and `items` are the numbers there on an average day. A time-lapse needs `scenario`."""

    users: int = Field(default=1500, ge=1)
    items: int = Field(default=60, ge=1)
    requests_per_user_day: float = Field(default=1.0, gt=0)
    exploration: float = Field(default=0.10, ge=0, le=1)
    position_decay: float = Field(default=0.5, ge=0)
    scenario: Scenario = Scenario()
    delivery: Delivery = Delivery()


class Truth:
    """The population and its truth: drawn from params, seed and the world's first day alone."""

    def __init__(self, params: WorldParams, seed: int, origin: int) -> None:
        self.params, self.seed = params, seed
        self.drift = Drift(params.scenario, origin)
        self._taste = stream(seed, 0, Purpose.STRUCTURE).standard_normal((len(SEGMENTS), len(KINDS)))
        first = origin - BURN_IN_DAYS - 2
        self.actors = Population(
            "u", self._draw_users, seed, Purpose.ACTORS, first - TENURE.longest, TENURE.longest
        )
        self.items = Population("i", self._draw_items, seed, Purpose.ITEMS, first - ITEM_DAYS, ITEM_DAYS + 1)

    def _draw_users(self, day: int, rng: np.random.Generator) -> Columns:
        count = TENURE.arrivals(self.params.users, rng)
        born, stay = TENURE.stays(day, count, rng)
        return {
            "born": born,
            "gone": born + stay,
            "segment": rng.integers(len(SEGMENTS), size=count),
            "openness": 0.5 * rng.standard_normal(count),
        }

    def _draw_items(self, day: int, rng: np.random.Generator) -> Columns:
        count = rng.poisson(self.params.items / ITEM_DAYS)
        return {
            "born": day * DAY + (rng.random(count) * (DAY - 1)).astype(np.int64),
            "gone": np.full(count, (day + 1 + ITEM_DAYS) * DAY),
            "kind": rng.integers(len(KINDS), size=count),
            "quality": 0.5 * rng.standard_normal(count),
        }

    def examination(self, actors: Rows, positions: Rows) -> Floats:
        """Compute P(examined): a power of the position."""
        return np.asarray(positions, dtype=np.float64) ** -self.params.position_decay

    def relevance(self, actors: Rows, items: Rows, time: Rows, *, grid: bool = False) -> Floats:
        """Compute P(click | examined) of pairs, shape (n,); or of all users with all items, (n, m).

        Under the scenarios concept and concept_gradual each kind comes to be liked as another one was.
        """
        segment, openness = self.actors["segment"][actors], self.actors["openness"][actors]
        changed = self.drift.concept(time // DAY)
        if grid:
            segment, openness, changed = segment[:, None], openness[:, None], changed[:, None]
        kind = self.items["kind"][items]
        taste = (1 - changed) * self._taste[segment, kind] + changed * self._taste[segment, kind - 1]
        return sigmoid(taste + openness + self.items["quality"][items] - 2.0)
