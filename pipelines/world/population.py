"""Populations that come and go: each day's arrivals are drawn by themselves, so no origin is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.errors import StrangerError
from pipelines.world.streams import DAY, Purpose, stream

Columns = Mapping[str, NDArray[Any]]
Draw = Callable[[int, np.random.Generator], Columns]

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Tenure:
    """How long people stay: exponential, at most 1.6 times the mean."""

    mean_days: float

    @property
    def longest(self) -> int:
        """Days that nobody stays longer than."""
        return round(1.6 * self.mean_days)

    def arrivals(self, people: float, rng: np.random.Generator) -> int:
        """Draw how many arrive on a day, where `people` are there on an average one."""
        mean_stay = self.mean_days * (1 - np.exp(-self.longest / self.mean_days))
        return int(rng.poisson(people / mean_stay))

    def stays(
        self, day: int, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw when on the day each of `count` arrives, and how long each stays (microseconds)."""
        born = day * DAY + (rng.random(count) * (DAY - 1)).astype(np.int64)
        stay = np.minimum(rng.exponential(self.mean_days, count), self.longest)
        return born, (stay * DAY).astype(np.int64)


class Population:
    """All who ever arrive, in order of arrival; a row's index stays the same for good.

    `draw(day, rng)` yields one day's arrivals: at least `born` and `gone` (int64 microseconds), and
    whatever else describes them, each array's first axis being the newcomers. Nobody stays longer
    than `longest` days. `first` is the earliest day drawn.
    """

    def __init__(
        self, prefix: str, draw: Draw, seed: int, purpose: Purpose, first: int, longest: int
    ) -> None:
        self.prefix, self.longest, self.first = prefix, longest, first
        self._draw, self._seed, self._purpose = draw, seed, purpose
        self._columns: dict[str, NDArray[Any]] = {}
        self._ids: list[str] = []
        self._starts: list[int] = [0]

    def cover(self, until: int) -> None:
        """Draw the arrivals of every day before `until` that was not drawn yet."""
        drawn: list[Columns] = []
        for day in range(self.first + len(self._starts) - 1, until):
            columns = self._draw(day, stream(self._seed, day, self._purpose))
            count = len(columns["born"])
            stem = f"{self.prefix}{_EPOCH + timedelta(days=day):%Y%m%d}-"
            self._ids += [f"{stem}{number:05d}" for number in range(count)]
            self._starts.append(self._starts[-1] + count)
            drawn.append(columns)
        if drawn:
            parts = [self._columns, *drawn] if self._columns else drawn
            self._columns = {name: np.concatenate([part[name] for part in parts]) for name in drawn[0]}

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, column: str) -> NDArray[Any]:
        self.cover(self.first + 1)  # the first day's arrivals tell the columns, whoever was asked for so far
        return self._columns[column]

    def arrived(self, first: int, until: int) -> NDArray[np.int64]:
        """List the rows that arrived on days [first, until)."""
        self.cover(until)
        low, high = (self._starts[max(day - self.first, 0)] for day in (first, until))
        return np.arange(low, high)

    def alive(self, day: int) -> NDArray[np.int64]:
        """List the rows that are there for at least a part of the day, newcomers of the day included."""
        rows = self.arrived(day - self.longest, day + 1)
        return rows[self["gone"][rows] > day * DAY]

    def settled(self, day: int) -> NDArray[np.int64]:
        """List the rows that are there for the whole day: what a catalogue read at midnight holds."""
        rows = self.arrived(day - self.longest - 1, day)
        return rows[self["gone"][rows] >= (day + 1) * DAY]

    def names(self, rows: NDArray[np.int64]) -> pl.Series:
        """Write the rows' stable ids."""
        return pl.Series(self._ids, dtype=pl.String).gather(rows)

    def find(self, ids: pl.Series, until: int) -> NDArray[np.int64]:
        """Look ids up among the arrivals before day `until`; unknown ones are a StrangerError."""
        self.cover(until)
        known = pl.DataFrame({"id": pl.Series(self._ids, dtype=pl.String)}).with_row_index("row")
        rows = ids.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")["row"]
        if rows.null_count():
            strangers = ids.filter(rows.is_null()).head(3).to_list()
            raise StrangerError(
                f"{rows.null_count()} ids are not of this world ({', '.join(map(repr, strangers))}, …): "
                "ask the judge of the world, seed and first day that wrote the rows"
            )
        return rows.cast(pl.Int64).to_numpy()
