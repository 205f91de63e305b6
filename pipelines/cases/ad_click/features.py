"""The features of ad click prediction: how often users, ads and campaigns were shown and clicked lately.

Rates are shrunk towards a prior, so that one lucky impression does not make a good ad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ibis
import ibis.expr.types as ir

from pipelines.case_study import FeatureTable
from pipelines.learning.rollups import rate, total, visible

PRIOR_RATE, PRIOR_STRENGTH = 0.05, 20.0
WINDOWS = (1, 7, 28)
RATES = (7, 28)
NAMES = ("user", "ad", "campaign", "interest")
"""What each view's features begin with; an interest is a user's in a category of ads."""

_Daily = Callable[[Mapping[str, ir.Table]], ir.Table]


def _daily(keys: tuple[str, ...]) -> _Daily:
    def daily(tables: Mapping[str, ir.Table]) -> ir.Table:
        shown, clicked = (
            tables["impressions"],
            tables["actions"].filter(tables["actions"]["action"] == "click"),
        )
        one, none = ibis.literal(1, type="int64"), ibis.literal(0, type="int64")
        rows = shown.select(*keys, "day", "known", impressions=one, clicks=none).union(
            clicked.select(*keys, "day", "known", impressions=none, clicks=one)
        )
        named = rows.filter([rows[key].notnull() for key in keys])
        return named.group_by(*keys, "day", "known").aggregate(
            impressions=named["impressions"].sum().cast("int64"), clicks=named["clicks"].sum().cast("int64")
        )

    return daily


def _roll(name: str, keys: tuple[str, ...]) -> Callable[[ir.Table, ir.Table], ir.Table]:
    def roll(due: ir.Table, partials: ir.Table) -> ir.Table:
        pairs = visible(due, partials, keys, max(WINDOWS))
        features: dict[str, ir.Value] = {}
        for days in WINDOWS:
            impressions, clicks = total(pairs, "impressions", days), total(pairs, "clicks", days)
            features[f"{name}_impressions_{days}d"] = impressions
            features[f"{name}_clicks_{days}d"] = clicks
            if days in RATES:
                features[f"{name}_click_rate_{days}d"] = rate(clicks, impressions, PRIOR_RATE, PRIOR_STRENGTH)
        return pairs.group_by(*keys, "at").aggregate(**features)

    return roll


def _table(view: str, name: str, keys: tuple[str, ...]) -> FeatureTable:
    return FeatureTable(view, keys, ("impressions", "actions"), WINDOWS, _daily(keys), _roll(name, keys))


FEATURES = (
    _table("ad_user_clicks", "user", ("user_id",)),
    _table("ad_clicks", "ad", ("ad_id",)),
    _table("ad_campaign_clicks", "campaign", ("campaign_id",)),
    _table("ad_interest_clicks", "interest", ("user_id", "category")),
)
