"""Windows over daily partials, written once in Ibis for DuckDB and Spark alike.

Partials must merge: an entity has one row a day for rows that arrived in time, and further rows for
those that came late. So that the same rows give the same bytes whatever the number of threads,
partials are integers, extremes or sorted lists, never sums of floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir


def visible(due: ir.Table, partials: ir.Table, keys: Sequence[str], days: int | None = None) -> ir.Table:
    """Pair each due (`keys`, `at`) with the partials it may see, at most `days` back.

    `age` is 1 for the day before `at`. A due row that sees none is kept, with nulls.
    """
    seen = [due[key] == partials[key] for key in keys] + [partials["known"] <= due["at"]]
    if days is not None:
        seen.append(partials["day"] >= (due["at"] - ibis.interval(days=days)).cast("date"))
    values = [column for column in partials.columns if column not in (*keys, "known")]
    pairs = due.left_join(partials, seen, rname="{name}_partial")
    kept = pairs.select(*keys, "at", *values)
    return kept.mutate(age=kept["at"].delta(kept["day"], unit="day"))


def seconds(moment: ir.TimestampValue) -> ir.IntegerValue:
    """Count whole Unix seconds. Asked for them directly, DuckDB rounds to the nearest, Spark down."""
    return moment.truncate("s").epoch_seconds().cast("int64")


def total(pairs: ir.Table, column: str, days: int) -> ir.IntegerValue:
    """Sum an integer partial over the last `days` days; 0 where there was none."""
    return pairs[column].sum(where=pairs["age"] <= days).fill_null(0).cast("int64")


def rate(part: ir.IntegerValue, whole: ir.IntegerValue, prior: float, strength: float) -> ir.FloatingValue:
    """Divide two counts, shrunk towards `prior` as if `strength` trials had been seen before."""
    return (part.cast("float64") + prior * strength) / (whole.cast("float64") + strength)


def newest_cut(due: ir.Table, partials: ir.Table, keys: Sequence[str], depth: int) -> ir.Table:
    """Add `cut` to `due`: no day before it can be among the `depth` newest that `at` may see.

    It is the `depth`-th newest day whose rows arrived in time, all of which `at` sees; so a long
    history costs each due row `depth` days, not all of them. Null where there are fewer days.
    """
    punctual = partials.filter(
        partials["known"] == (partials["day"] + ibis.interval(days=1)).cast("date")
    ).select(*keys, "day")
    steps = _steps(punctual, keys, depth)
    timeline = steps.union(due.select(*keys, "at", cut=ibis.null("date"), asked=ibis.literal(1, type="int8")))
    so_far = ibis.window(group_by=list(keys), order_by=["at", "asked"], preceding=None, following=0)
    filled = timeline.mutate(cut=timeline["cut"].max().over(so_far))
    return filled.filter(filled["asked"] == 1).drop("asked")


def _steps(punctual: ir.Table, keys: Sequence[str], depth: int) -> ir.Table:
    by_day = ibis.window(group_by=list(keys), order_by="day")
    lagged = punctual.mutate(cut=punctual["day"].lag(depth - 1).over(by_day))
    return lagged.select(
        *keys,
        at=(lagged["day"] + ibis.interval(days=1)).cast("date"),
        cut=lagged["cut"],
        asked=ibis.literal(0, type="int8"),
    )
