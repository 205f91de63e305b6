"""The features, as feature_repo/ declares them. Replace: what is counted, and of whom.

A view for each entity: how often it was shown and clicked lately, and its click rate, shrunk towards a prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ibis
import ibis.expr.types as ir

from pipelines.case_study import FeatureTable
from pipelines.learning.rollups import rate, total, visible

PRIOR_RATE, PRIOR_STRENGTH = 0.1, 20.0
WINDOWS = (7, 28)
ENTITIES = ("user", "item")
"""What each view's features begin with."""


def _daily(key: str) -> Callable[[Mapping[str, ir.Table]], ir.Table]:
    def daily(tables: Mapping[str, ir.Table]) -> ir.Table:
        shown, clicked = tables["impressions"], tables["actions"]
        one, none = ibis.literal(1, type="int64"), ibis.literal(0, type="int64")
        rows = shown.select(key, "day", "known", impressions=one, clicks=none).union(
            clicked.select(key, "day", "known", impressions=none, clicks=one)
        )
        return rows.group_by(key, "day", "known").aggregate(
            impressions=rows["impressions"].sum().cast("int64"), clicks=rows["clicks"].sum().cast("int64")
        )

    return daily


def _roll(name: str, key: str) -> Callable[[ir.Table, ir.Table], ir.Table]:
    def roll(due: ir.Table, partials: ir.Table) -> ir.Table:
        pairs = visible(due, partials, (key,), max(WINDOWS))
        features: dict[str, ir.Value] = {}
        for days in WINDOWS:
            impressions, clicks = total(pairs, "impressions", days), total(pairs, "clicks", days)
            features[f"{name}_impressions_{days}d"] = impressions
            features[f"{name}_clicks_{days}d"] = clicks
            features[f"{name}_click_rate_{days}d"] = rate(clicks, impressions, PRIOR_RATE, PRIOR_STRENGTH)
        return pairs.group_by(key, "at").aggregate(**features)

    return roll


def _table(view: str, name: str, key: str) -> FeatureTable:
    return FeatureTable(view, (key,), ("impressions", "actions"), WINDOWS, _daily(key), _roll(name, key))


FEATURES = (
    _table("example_case_user", "user", "user_id"),
    _table("example_case_item", "item", "item_id"),
)
