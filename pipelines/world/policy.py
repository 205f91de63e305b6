"""Logging policies: what is shown before there is a champion, and with what probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import UsageError
from pipelines.world.rhythm import Visits

_CHUNK = 4096
_HEAD = 384
"""How far down the ranking most actors find something new; the others are looked after apart."""


@dataclass(frozen=True)
class Served:
    """What was shown: for n visits of k places each.

    `items` (n, k) rows of the population, in order of position; `explored` (n,);
    `propensity` (n, k): the probability, over the policy's own randomness, that this very item
    stands at this very position of this visit.
    """

    items: NDArray[np.int64]
    propensity: NDArray[np.float64]
    explored: NDArray[np.bool_]


@dataclass
class Memory:
    """What a policy knows from the log up to the previous day.

    `score` (items,) and `seen` (actors, items) are windows that begin at population rows
    `first_item` and `first_actor`: those who left before are forgotten.
    """

    first_actor: int
    first_item: int
    score: NDArray[np.float64]
    seen: NDArray[np.bool_]

    @classmethod
    def empty(cls) -> Memory:
        """Know nothing yet."""
        return cls(0, 0, np.zeros(0), np.zeros((0, 0), dtype=bool))

    def move(self, first_actor: int, actors: int, first_item: int, items: int) -> None:
        """Let the windows begin at the given rows and hold the given numbers of rows."""
        seen = np.zeros((actors, items), dtype=bool)
        score = np.zeros(items)
        down, right = first_actor - self.first_actor, first_item - self.first_item
        kept = self.seen[down : down + actors, right : right + items]
        seen[: kept.shape[0], : kept.shape[1]] = kept
        kept_score = self.score[right : right + items]
        score[: len(kept_score)] = kept_score
        self.first_actor, self.first_item, self.seen, self.score = first_actor, first_item, seen, score


class Policy(Protocol):
    """Answers visits from what is live."""

    @property
    def name(self) -> str:
        """The policy as the log records it."""

    def serve(
        self, visits: Visits, live: NDArray[np.int64], memory: Memory, rng: np.random.Generator
    ) -> Served:
        """Choose what each visit sees from the `live` rows."""


@dataclass(frozen=True)
class PopularWithExploration:
    """The most popular items that the actor has not been shown, with some visits explored.

    Popularity is the memory's score (ties: the newest first). Later visits of a day turn the page;
    who has seen everything starts over. An explored visit's places are drawn uniformly, without
    replacement, from all that is live, seen or not. With n live items and share e explored, the
    propensity of an item is e / n, plus 1 - e where it is the popular choice for that position.
    """

    places: int
    share: float

    @property
    def name(self) -> str:
        """The policy as the log records it."""
        return f"popular-explore-{self.share:.2f}"

    def serve(
        self, visits: Visits, live: NDArray[np.int64], memory: Memory, rng: np.random.Generator
    ) -> Served:
        """Choose what each visit sees from the `live` rows."""
        if len(live) < self.places:
            raise UsageError(
                f"{len(live)} items are live, too few to fill {self.places} places: "
                "raise the number of items or lower the number of places"
            )
        ranked = live[np.lexsort((-live, -memory.score[live - memory.first_item]))]
        popular = np.concatenate(
            [self._popular(visits, ranked, memory, at) for at in range(0, len(visits.actor), _CHUNK)]
            or [np.zeros((0, self.places), dtype=np.int64)]
        )
        explored = rng.random(len(visits.actor)) < self.share
        items = popular.copy()
        items[explored] = live[draw_without_replacement(int(explored.sum()), self.places, len(live), rng)]
        propensity = self.share / len(live) + (1 - self.share) * (items == popular)
        return Served(items, propensity, explored)

    def _popular(
        self, visits: Visits, ranked: NDArray[np.int64], memory: Memory, at: int
    ) -> NDArray[np.int64]:
        actors = visits.actor[at : at + _CHUNK] - memory.first_actor
        skipped = visits.page[at : at + _CHUNK] * self.places
        chosen, short = self._turn(actors, skipped, ranked[:_HEAD], memory)
        if short.any():
            chosen[short], spent = self._turn(actors[short], skipped[short], ranked, memory)
            over = np.flatnonzero(short)[spent]
            again = skipped[over] % (len(ranked) - self.places + 1)
            chosen[over] = ranked[again[:, None] + np.arange(self.places)]
        return chosen

    def _turn(
        self, actors: NDArray[np.int64], skipped: NDArray[np.int64], ranked: NDArray[np.int64], memory: Memory
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Choose each actor's first unseen items after those skipped; tell for whom there were too few."""
        fresh = ~memory.seen[actors[:, None], (ranked - memory.first_item)[None, :]]
        order = np.cumsum(fresh, axis=1, dtype=np.int32)
        short = order[:, -1] < skipped + self.places
        wanted = fresh & (order > skipped[:, None]) & (order <= skipped[:, None] + self.places)
        chosen = np.zeros((len(actors), self.places), dtype=np.int64)
        chosen[~short] = ranked[np.nonzero(wanted[~short])[1].reshape(-1, self.places)]
        return chosen, short


def draw_without_replacement(rows: int, k: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw k of n, uniformly and in random order, for each row: shape (rows, k)."""
    drawn = [np.zeros((0, k), dtype=np.int64)]
    for at in range(0, rows, _CHUNK):
        keys = rng.random((min(_CHUNK, rows - at), n))
        best = np.argpartition(keys, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1)
        drawn.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(drawn)
