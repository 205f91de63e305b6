"""The label: was what was shown watched? A rating stands for a watch that nobody saw being shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from pipelines.case_study import Label
from pipelines.cases.video_recommendation.features import WATCHED_SHARE

ATTRIBUTION = timedelta(hours=24)
CONTEXT = ("user_id", "video_id", "position", "explored", "device", "user_country", "user_language")


def _fold(tables: Mapping[str, ir.Table], as_of: datetime) -> ir.Table:
    """Yield a row an impression, and a row a rating: example_id, request_id, context, time, label."""
    return _impressions(tables).union(_ratings(tables))


def _impressions(tables: Mapping[str, ir.Table]) -> ir.Table:
    shown, done = tables["impressions"], tables["actions"]
    requests, users = tables["requests"], tables["users"]
    watched = done.filter((done["action"] == "watch") & (done["value"] >= WATCHED_SHARE))
    # A second watch of the same impression must not make a second row of it.
    first = watched.filter(watched["impression_id"].notnull()).group_by("impression_id").aggregate(
        watched_at=lambda rows: rows["action_time"].min()
    )  # fmt: skip
    asked = requests.select("request_id", "device")
    people = users.select("user_id", user_country=users["country"], user_language=users["language"])
    rows = (
        shown.left_join(first, "impression_id")
        .drop("impression_id_right")
        .left_join(asked, "request_id")
        .drop("request_id_right")
        .left_join(people, "user_id")
        .drop("user_id_right")
    )
    late = rows["impression_time"] + ibis.interval(hours=int(ATTRIBUTION.total_seconds() // 3600))
    in_time = (rows["watched_at"] >= rows["impression_time"]) & (rows["watched_at"] < late)
    return rows.select(
        "request_id",
        *CONTEXT,
        example_id=rows["impression_id"],
        time=rows["impression_time"],
        label=in_time.fill_null(False).cast("int64"),
    )


def _ratings(tables: Mapping[str, ir.Table]) -> ir.Table:
    done, users = tables["actions"], tables["users"]
    people = users.select("user_id", user_country=users["country"], user_language=users["language"])
    rated = done.filter((done["action"] == "rate") & done["impression_id"].isnull())
    rows = rated.left_join(people, "user_id").drop("user_id_right")
    return rows.select(
        user_id="user_id",
        video_id="video_id",
        request_id=ibis.null("string"),
        position=ibis.null("int32"),
        explored=ibis.null("boolean"),
        device=ibis.null("string"),
        user_country="user_country",
        user_language="user_language",
        example_id=rows["action_id"],
        time=rows["action_time"],
        label=ibis.literal(1, type="int64"),
    ).select("request_id", *CONTEXT, "example_id", "time", "label")


LABEL = Label(
    keys=("example_id",),
    time="time",
    reads=("requests", "impressions", "actions", "users"),
    fold=_fold,
)
