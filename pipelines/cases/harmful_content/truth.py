"""The truth about posts: what reviewers would find, and the best queue of a day."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.harmful_content.population import Posts
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.errors import StrangerError

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_LOGGED = r"^p(\d{8})-(\d{6})$"
"""A post as the world's own log names it: the day it was posted, and its number."""


class Truth:
    """Judges rows of post and harm by the world that wrote them.

    A post is known by its id where the world's own log named it, else, where a service that really answered
    gave it another, by its author and words, among those that were due on the day of its `time` or the day before.
    """

    def __init__(self, world: Posts) -> None:
        self.world = world

    def expected(self, rows: pl.DataFrame) -> Floats:
        """Return P(label) for each row's post and harm, shape (n,)."""
        place = {harm: column for column, harm in enumerate(HARMS)}
        harm = rows["harm"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        chance = self._find(rows)[0]
        return chance[np.arange(len(chance)), harm]

    def best_share(self, rows: pl.DataFrame, k: int) -> pl.DataFrame:
        """Compare each day's queue (rows in its order; `unit` names the day) with the day's best k posts.

        Rewards are expected numbers of harms found. Returns a row a unit: `unit`, `reward`, `best`.
        """
        chance, day, served = self._find(rows)
        found = {"harms": chance.sum(axis=1), "day": day, "served": served}
        queue = rows.select("unit", "request_id").hstack(pl.DataFrame(found))
        queue = queue.unique(["unit", "request_id"], keep="first", maintain_order=True)
        shares = []
        for unit in queue.partition_by("unit", maintain_order=True):
            days = unit.select("day", "served").unique().sort("day", "served").rows()
            best = np.concatenate([self._best(each, really, k) for each, really in days])
            reward = float(unit["harms"].to_numpy()[:k].sum())
            shares.append((unit["unit"][0], reward, float(np.sort(best)[-k:].sum())))
        return pl.DataFrame(
            shares,
            schema={"unit": rows.schema["unit"], "reward": pl.Float64, "best": pl.Float64},
            orient="row",
        )

    def _best(self, day: int, served: bool, k: int) -> Floats:
        """List the greatest numbers of harms among the posts of a day, or among those that were due on it."""
        posts = self.world.due(day) if served else self.world.day(day)
        return np.sort(posts.chance.sum(axis=1))[-k:]

    def _find(self, rows: pl.DataFrame) -> tuple[Floats, Rows, NDArray[np.bool_]]:
        """Look posts up: P(label) (n, 4), the day, and whether they were really served; or raise StrangerError."""
        logged = rows["request_id"].str.contains(_LOGGED).fill_null(False)
        served = ~logged.to_numpy()
        chance, day = np.full((rows.height, len(HARMS)), np.nan), np.zeros(rows.height, dtype=np.int64)
        chance[~served], day[~served] = self._logged(rows["request_id"].filter(logged))
        if served.any() and {"author_id", "text", "time"} <= set(rows.columns):
            chance[served], day[served] = self._served(rows.filter(~logged))
        if np.isnan(chance).any():
            stranger = rows["request_id"][int(np.isnan(chance[:, 0]).argmax())]
            raise StrangerError(
                f"'{stranger}' is no post of this world: ask the judge of the world, seed and first day that "
                "wrote the rows"
            )
        return chance, day, served

    def _logged(self, ids: pl.Series) -> tuple[Floats, Rows]:
        parts = ids.str.extract_groups(_LOGGED).struct.unnest()
        found, day = np.full((len(ids), len(HARMS)), np.nan), np.zeros(len(ids), dtype=np.int64)
        number = parts["2"].cast(pl.Int64).to_numpy()
        for text in parts["1"].unique().sort():
            each = (date.fromisoformat(text) - date(1970, 1, 1)).days
            chance = self.world.day(each).chance
            rows = np.flatnonzero((parts["1"] == text).to_numpy() & (number < len(chance)))
            found[rows], day[rows] = chance[number[rows]], each
        return found, day

    def _served(self, rows: pl.DataFrame) -> tuple[Floats, Rows]:
        found, day = np.full((rows.height, len(HARMS)), np.nan), rows["time"].dt.epoch("d").to_numpy().copy()
        wanted = rows.select("author_id", "text", day=pl.Series(day)).with_row_index("row")
        for each in np.unique(np.concatenate([day, day - 1]))[::-1]:
            due = self.world.due(int(each))
            known = due.asked.select("author_id", "text").with_row_index("post")
            known = known.unique(["author_id", "text"], keep="first", maintain_order=True)
            open_ = wanted.filter(pl.col("day").is_in([each, each + 1]))
            pairs = open_.join(known, on=["author_id", "text"], maintain_order="left")
            at = pairs["row"].to_numpy()
            missing = np.isnan(found[at, 0])
            found[at[missing]] = due.chance[pairs["post"].to_numpy()[missing]]
            day[at[missing]] = each
        return found, day
