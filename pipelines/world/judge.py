"""The truth of a world: exact probabilities, and the best that could have been shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.world.population import Population
from pipelines.world.streams import DAY

_CHUNK = 256


class Truth(Protocol):
    """What a case's world knows: P(label) = examination(actor, position) · relevance(actor, item, time)."""

    actors: Population
    items: Population

    def relevance(
        self,
        actors: NDArray[np.int64],
        items: NDArray[np.int64],
        time: NDArray[np.int64],
        *,
        grid: bool = False,
    ) -> NDArray[np.float64]:
        """Compute P(label | examined) of pairs, shape (n,); or of all actors with all items, (n, m).

        `time` has the shape of `actors`. In a grid all times lie on one day.
        """

    def examination(self, actors: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute P(examined), falling with the position (from 1); shapes broadcast."""


@dataclass(frozen=True)
class WorldJudge:
    """Judges rows that name their actor, item and time by the given columns.

    `times` are tried in turn. `unit` names the answers (slates) that `best_share` compares. `as_shown`:
    the case predicts what happens at a row's own `position`, not what would if it were looked at.
    """

    truth: Truth
    actor: str
    item: str
    unit: str
    times: tuple[str, ...]
    as_shown: bool = False

    def expected(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Return P(label | examined) for each row, shape (n,): free of position bias; or P(label), as shown."""
        actors, items, time = self._read(rows)
        relevance = self.truth.relevance(actors, items, time)
        if not self.as_shown:
            return relevance
        examined: NDArray[np.float64] = self.truth.examination(actors, rows["position"].to_numpy())
        return examined * relevance

    def best_share(self, rows: pl.DataFrame, k: int) -> pl.DataFrame:
        """Compare what was shown in the first k places with the best k of all that was live.

        Rows stand in order of position within their unit, or have a `position` column. An item that
        was not live that day earns nothing, nor does one shown again. Returns a row a unit, in order of
        first appearance: `unit`, `reward` and `best`, both expected numbers of labels with position bias.
        """
        unit = "unit" if "unit" in rows.columns else self.unit
        actors, items, time = self._read(rows)
        found = pl.DataFrame({"unit": rows[unit], "actor": actors, "item": items, "time": time})
        place = pl.int_range(1, pl.len() + 1).over("unit")
        if "position" in rows.columns and not rows["position"].has_nulls():
            place = pl.lit(rows["position"].cast(pl.Int64))
        found = found.with_columns(place.alias("position"), day=pl.col("time") // DAY)
        units = found.group_by("unit", maintain_order=True).agg(pl.col("actor", "time", "day").first())
        shown = found.filter(pl.col("position") <= k).sort("position", maintain_order=True)
        shown = shown.unique(["unit", "item"], keep="first", maintain_order=True)
        # Added one by one in the order of positions: a grouped sum would round by the number of threads.
        row = shown.join(units.with_row_index("row"), on="unit", maintain_order="left")["row"]
        reward = np.bincount(row.to_numpy(), _rewards(self.truth, shown), minlength=units.height)
        actors, time = (units[name].to_numpy() for name in ("actor", "time"))
        best = best_rewards(self.truth, actors, time, k)
        return units.select("unit", reward=pl.Series(reward, dtype=pl.Float64), best=pl.Series(best))

    def _read(self, rows: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        named = next((name for name in self.times if name in rows.columns), None)
        if named is None:
            raise DataError(f"rows to judge need a time ({' or '.join(self.times)}); got {rows.columns}")
        if not rows.height:
            nobody = np.zeros(0, dtype=np.int64)
            return nobody, nobody, nobody
        time = rows[named].dt.epoch("us").to_numpy()
        until = int(time.max() // DAY) + 1
        actors = self.truth.actors.find(rows[self.actor], until)
        return actors, self.truth.items.find(rows[self.item], until), time


def _rewards(truth: Truth, found: pl.DataFrame) -> NDArray[np.float64]:
    """Return what each place of a slate is expected to earn, shape (n,)."""
    actors, items, time, position = (found[name].to_numpy() for name in ("actor", "item", "time", "position"))
    reward: NDArray[np.float64] = truth.relevance(actors, items, time) * truth.examination(actors, position)
    return is_live(truth.items, items, time) * reward


def is_live(population: Population, items: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which items are there for the whole of the day of `time`, shape (n,)."""
    live = np.zeros(len(items), dtype=bool)
    day = time // DAY
    for each in np.unique(day):
        live[day == each] = np.isin(items[day == each], population.settled(int(each)))
    return live


def best_rewards(
    truth: Truth, actors: NDArray[np.int64], time: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Fill k places with the most relevant, best first: exact, as examination falls. Shape (n,)."""
    day, best = time // DAY, np.zeros(len(actors))
    for each in np.unique(day):
        live = truth.items.settled(int(each))
        rows = np.flatnonzero(day == each)
        for part in np.array_split(rows, -(-len(rows) // _CHUNK)):
            relevance = truth.relevance(actors[part], live, time[part], grid=True)
            shown = min(k, len(live))
            top = -np.sort(-np.partition(relevance, -shown, axis=1)[:, -shown:], axis=1)
            places = np.arange(1, shown + 1)[None, :]
            best[part] = (truth.examination(actors[part][:, None], places) * top).sum(axis=1)
    return best
