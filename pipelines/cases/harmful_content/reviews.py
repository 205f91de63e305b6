"""What is told of posts in the simulated world, as rows: reports, votes, verdicts, appeals and their outcomes.

`base` has a row a post told of: `stem` (of the action's id), `impression_id`, and what else a row carries.
Times are world times (microseconds), harms flags of shape (n, 4).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.harmful_content.tables import HARMS
from pipelines.world.delays import instants
from pipelines.world.streams import SECOND

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

HOUR = 3_600 * SECOND
VOTE, APPEAL, RULING = (1, 36), (1, 12), (6, 24)
"""Hours, drawn evenly: from a decision to each of three votes, from the verdict to an appeal, and to its outcome."""
ATTRIBUTION = 96.0
"""Hours after a decision within which the last word counts."""


def reports(base: pl.DataFrame, time: Rows, harm: Rows, number: pl.Series) -> pl.DataFrame:
    """Write reports: a reporter names a harm, not always the right one; `number` counts them for each post."""
    rows = _actions(base, "report", time, harm[:, None] == np.arange(len(HARMS)))
    return rows.with_columns(pl.concat_str("action_id", pl.lit("-"), number.cast(pl.String)))


def review(base: pl.DataFrame, voted: Rows, votes: Flags) -> pl.DataFrame:
    """Write three votes, (3, n) and (3, n, 4), and the verdict, which is the majority's."""
    each = [_actions(base, "vote", voted[n], votes[n], f"-{n + 1}") for n in range(3)]
    return pl.concat([*each, _actions(base, "verdict", ruled(voted), votes.sum(axis=0) >= 2)])


def appeals(base: pl.DataFrame, asked: Rows, closed: Rows, upheld: Flags) -> pl.DataFrame:
    """Write appeals and their outcomes: the harms that a senior reviewer found as well."""
    return pl.concat([_actions(base, "appeal", asked, None), _actions(base, "outcome", closed, upheld)])


def ruled(voted: Rows) -> Rows:
    """Tell when the verdict falls: a second after the last vote."""
    last: Rows = voted.max(axis=0) + SECOND
    return last


@cache
def outcome_in_time(slow: float) -> float:
    """Compute P(an appeal's outcome comes within the attribution window), all delays `slow` times as long."""
    asked, closed = (np.linspace(low, high, 401)[1::2] for low, high in (APPEAL, RULING))
    left = ATTRIBUTION / slow - asked[:, None] - closed
    in_time: Floats = np.clip((left - VOTE[0]) / (VOTE[1] - VOTE[0]), 0, 1) ** 3
    return float(in_time.mean())


def _actions(
    base: pl.DataFrame, action: str, time: Rows, harms: Flags | None, suffix: str = ""
) -> pl.DataFrame:
    found = pl.lit(None, pl.List(pl.String)) if harms is None else _listed(harms)
    return base.select(
        pl.format(f"{{}}-{action}{suffix}", "stem").alias("action_id"),
        "impression_id",
        pl.lit(action).alias("action"),
        pl.lit(None, pl.Float64).alias("value"),
        instants(time).alias("action_time"),
        pl.exclude("stem", "impression_id"),
        found.alias("harms"),
    )


def _listed(harms: Flags) -> pl.Expr:
    """Write flags (n, 4) as lists of names."""
    columns = [pl.when(pl.Series(harms[:, k])).then(pl.lit(name)) for k, name in enumerate(HARMS)]
    return pl.concat_list(columns).list.drop_nulls()
