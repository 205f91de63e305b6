"""The features of harmful content: what is known of an author, from reports, reviews and appeals.

Rates are shrunk towards a prior, so that one bad review does not make a bad author. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from pipelines.case_study import FeatureTable
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.learning.rollups import rate, seconds, total, visible

WINDOWS = (7, 28)
PRIOR_RATE, PRIOR_STRENGTH = 0.1, 3.0
_COUNTS = ("posts", "reports", "reviews", "harmful", "appeals", "overturned", *HARMS)


def _counts(tables: Mapping[str, ir.Table]) -> ir.Table:
    """Lay posts and actions under one another as rows of counters (int64)."""
    posts, done = tables["requests"], tables["actions"]
    posts = posts.filter(posts["author_id"].notnull())
    done = done.filter(done["author_id"].notnull())
    verdict, some = done["action"] == "verdict", done["harms"].length().fill_null(0) > 0
    outcome = done["action"] == "outcome"
    flags = {
        "reports": done["action"] == "report",
        "reviews": verdict,
        "harmful": verdict & some,
        "appeals": outcome,
        "overturned": outcome & ~some,
        **{harm: verdict & done["harms"].contains(harm) for harm in HARMS},
    }
    written = posts.select(
        "author_id", "day", "known",
        **{name: ibis.literal(int(name == "posts"), type="int64") for name in _COUNTS},
    )  # fmt: skip
    came = done.select(
        "author_id", "day", "known",
        posts=ibis.literal(0, type="int64"),
        **{name: flag.fill_null(False).cast("int64") for name, flag in flags.items()},
    )  # fmt: skip
    return written.union(came.select(written.columns))


def _history_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    rows = _counts(tables)
    sums = {name: rows[name].sum().cast("int64") for name in _COUNTS}
    return rows.group_by("author_id", "day", "known").aggregate(**sums)


def _history_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    pairs = visible(due, partials, ["author_id"], max(WINDOWS))
    features: dict[str, ir.Value] = {}
    for days in WINDOWS:
        for name in ("posts", "reports", "reviews", "harmful"):
            features[f"author_{name}_{days}d"] = total(pairs, name, days)
    reviews = total(pairs, "reviews", 28)
    features["author_harm_rate_28d"] = rate(total(pairs, "harmful", 28), reviews, PRIOR_RATE, PRIOR_STRENGTH)
    for harm in HARMS:
        features[f"author_{harm}_28d"] = total(pairs, harm, 28)
    features["author_overturned_28d"] = total(pairs, "overturned", 28)
    return pairs.group_by("author_id", "at").aggregate(**features)


def _profile_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    authors = tables["authors"]
    registered = seconds(authors["registered_at"])
    return authors.select(
        "author_id", "day", "known", author_country=authors["country"], author_since=registered
    )


def _profile_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    return visible(due, partials, ["author_id"]).select("author_id", "at", "author_country", "author_since")


FEATURES = (
    FeatureTable(
        "author_record", ("author_id",), ("requests", "actions"), WINDOWS, _history_daily, _history_roll
    ),
    FeatureTable("author_profile", ("author_id",), ("authors",), (), _profile_daily, _profile_roll),
)
