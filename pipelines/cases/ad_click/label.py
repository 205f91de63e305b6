"""The label: was the ad clicked within an hour of being shown? And the context that stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from pipelines.case_study import Label
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT

ATTRIBUTION = timedelta(hours=1)
SHOWN = (
    "impression_id",
    "request_id",
    "user_id",
    "ad_id",
    "campaign_id",
    "category",
    "position",
    "affinity",
    "explored",
)
AD_CONTEXT = ("subcategory", "product", "bid")


def _fold(tables: Mapping[str, ir.Table], as_of: datetime) -> ir.Table:
    """Yield a row an impression: what was shown, context of request and ad, time, label."""
    shown, done = tables["impressions"], tables["actions"]
    clicks = done.filter((done["action"] == "click") & done["impression_id"].notnull())
    # A second click on the same impression must not make a second row of it.
    first = clicks.group_by("impression_id").aggregate(clicked_at=clicks["action_time"].min())
    asked = tables["requests"].select("request_id", *PAGE_CONTEXT, *USER_CONTEXT)
    ads = tables["ads"].select("ad_id", *AD_CONTEXT)
    rows = (
        shown.left_join(first, "impression_id")
        .drop("impression_id_right")
        .left_join(asked, "request_id")
        .drop("request_id_right")
        .left_join(ads, "ad_id")
        .drop("ad_id_right")
    )
    late = rows["impression_time"] + ibis.interval(hours=int(ATTRIBUTION.total_seconds() // 3600))
    in_time = (rows["clicked_at"] >= rows["impression_time"]) & (rows["clicked_at"] < late)
    return rows.select(
        *SHOWN,
        *PAGE_CONTEXT,
        *USER_CONTEXT,
        *AD_CONTEXT,
        time=rows["impression_time"],
        label=in_time.fill_null(False).cast("int64"),
    )


LABEL = Label(
    keys=("impression_id",),
    time="time",
    reads=("requests", "impressions", "actions", "ads"),
    fold=_fold,
)
