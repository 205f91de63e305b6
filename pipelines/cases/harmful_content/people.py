"""The people of the world of posts, as a served system meets them: authors, readers and reviewers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.harmful_content.population import Due, Posts
from pipelines.cases.harmful_content.reviews import (
    APPEAL,
    HOUR,
    RULING,
    VOTE,
    appeals,
    reports,
    review,
    ruled,
)
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.world.numbers import sigmoid
from pipelines.world.state import world_day
from pipelines.world.streams import Dice, Purpose
from pipelines.world.users import on_the_day

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

REVIEW_COST, WRONG_REMOVAL_COST = 0.1, 0.5
"""What a review, and the removal of a harmless post, cost: in harms found. So posts are best reviewed where more
than every tenth is harmful, and best removed where more than four in five are."""
_VOTES, _VOTED, _APPEAL, _SENIOR, _DICE = slice(0, 12), slice(12, 15), slice(15, 18), slice(18, 22), 22


class Posters:
    """Users (see case_study.py) whose posts are decided on, hours after they were posted.

    Readers go on reporting what stays up. What is reviewed gets votes, a verdict, and perhaps an appeal with
    its outcome. The author of a removed post may appeal too: then a senior reviewer alone says what it holds.
    """

    def __init__(self, world: Posts) -> None:
        self._world = world

    def newcomers(self, day: datetime, first: bool = False) -> Mapping[str, pl.DataFrame]:
        """Write the rows of the authors who arrive on the day."""
        return on_the_day(self._world.introduce(world_day(day), first), day)

    def ask(self, day: datetime) -> pl.DataFrame:
        """Write the posts that are decided on in the day, with the reports that had come in by then."""
        return self._world.due(world_day(day)).asked

    def act(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Draw what is done about the decisions, in order of time."""
        number, rows = world_day(day), shown.unique("request", keep="first").sort("request")
        due, request = self._world.due(number), rows["request"].to_numpy()
        dice = Dice(self._world.seed, number, Purpose.REACTIONS).throw(_DICE, request)
        base = rows.select("impression_id", stem="impression_id")
        decided, decision = rows["impression_time"].dt.epoch("us").to_numpy(), rows["decision"].to_numpy()
        review, removed = (np.flatnonzero(decision == word) for word in ("review", "remove"))
        parts = [
            _reported(due, base, request, decided, decision != "remove"),
            _reviewed(due, base[review], request[review], decided[review], dice[review]),
            _removed(due, base[removed], request[removed], decided[removed], dice[removed]),
        ]
        return pl.concat(parts).sort("action_time", "action_id")

    def worth(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Tell what the decisions are worth: the harms that are found, less what finding them costs.

        A review earns the harms that it is expected to find, less REVIEW_COST; a removal the same harms, less
        WRONG_REMOVAL_COST where there are none; letting a post through earns nothing.
        """
        due, rows = self._world.due(world_day(day)), shown.unique("request", keep="first").sort("request")
        found = due.chance.sum(axis=1)
        earned = {
            "allow": 0 * found,
            "review": found - REVIEW_COST,
            "remove": found - WRONG_REMOVAL_COST * due.harmless,
        }
        request = rows["request"].to_numpy()
        reward = [earned[decision][at] for decision, at in zip(rows["decision"], request, strict=True)]
        best = np.max(list(earned.values()), axis=0)[request]
        return rows.select("request", reward=pl.Series(reward, dtype=pl.Float64), best=pl.Series(best))


def _reported(
    due: Due, base: pl.DataFrame, request: Rows, decided: Rows, up: NDArray[np.bool_]
) -> pl.DataFrame:
    """Write the reports on what stays up, from the decision on."""
    place = pl.DataFrame({"request": request, "place": np.arange(len(request)), "decided": decided})
    later = due.later.join(place.filter(pl.Series(up)), on="request", maintain_order="left")
    later = later.filter(pl.col("time") >= pl.col("decided"))
    number = later.select(pl.int_range(pl.len()).over("request")).to_series()
    return reports(base[later["place"]], later["time"].to_numpy(), later["harm"].to_numpy(), number)


def _reviewed(due: Due, base: pl.DataFrame, request: Rows, decided: Rows, dice: Floats) -> pl.DataFrame:
    """Draw votes, the verdict, and the appeals against it."""
    severity, slow = due.severity[request], due.slow[request]
    votes = dice[:, _VOTES].reshape(-1, 3, len(HARMS)).transpose(1, 0, 2) < sigmoid(severity)
    voted = decided + _hours(VOTE, dice[:, _VOTED].T, slow)
    verdict = votes.sum(axis=0) >= 2
    told = review(base, voted, votes)
    return pl.concat([told, _appealed(due, base, request, ruled(voted), dice, verdict)])


def _removed(due: Due, base: pl.DataFrame, request: Rows, decided: Rows, dice: Floats) -> pl.DataFrame:
    """Draw the appeals against removals without a verdict."""
    everything = np.ones((len(request), len(HARMS)), dtype=bool)
    return _appealed(due, base, request, decided, dice, everything)


def _appealed(
    due: Due, base: pl.DataFrame, request: Rows, since: Rows, dice: Floats, accused: NDArray[np.bool_]
) -> pl.DataFrame:
    """Draw the appeals against harms of which posts stand accused, (n, 4), and what is upheld."""
    severity, slow = due.severity[request], due.slow[request]
    whether, asking, ruling = dice[:, _APPEAL].T
    appeal = np.flatnonzero(accused.any(axis=1) & (whether < due.appeal[request]))
    asked = since + _hours(APPEAL, asking, slow)
    closed = asked + _hours(RULING, ruling, slow)
    upheld = accused & (dice[:, _SENIOR] < sigmoid(2 * severity))
    return appeals(base[appeal], asked[appeal], closed[appeal], upheld[appeal])


def _hours(between: tuple[int, int], dice: Floats, slow: Floats) -> Rows:
    """Read a span of hours off dice, in microseconds."""
    low, high = between
    return ((low + (high - low) * dice) * slow * HOUR).astype(np.int64)
