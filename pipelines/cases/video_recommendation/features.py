"""The features of video recommendation: what users did lately, and what became of videos.

A watch is an action 'watch' with at least half of the video seen, or a rating: sources of ratings
show no impressions and no watches. Rates are shrunk towards a prior, so that one lucky impression
does not make a hit. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from pipelines.case_study import FeatureTable
from pipelines.learning.rollups import newest_cut, rate, seconds, total, visible

HISTORY = 50
WATCHED_SHARE = 0.5
PRIOR_RATE, PRIOR_STRENGTH = 0.1, 20.0
USER_WINDOWS = (1, 7, 28)
VIDEO_WINDOWS = (1, 7, 28, 90, 365)
WATCHERS_DAYS = 28
_COUNTS = ("impressions", "clicks", "watches", "likes", "valued", "value_milli")


def _is_watch(actions: ir.Table) -> ir.BooleanValue:
    seen = (actions["action"] == "watch") & (actions["value"] >= WATCHED_SHARE)
    return (seen | (actions["action"] == "rate")).fill_null(False)


def _counts(tables: Mapping[str, ir.Table], key: str, other: str) -> ir.Table:
    """Lay impressions and actions under one another as rows of counters (int64)."""
    shown, done = tables["impressions"], tables["actions"]
    valued = done["action"].isin(["watch", "rate"]) & done["value"].notnull()
    number = {
        "clicks": done["action"] == "click",
        "watches": _is_watch(done),
        "likes": done["action"] == "like",
        "valued": valued,
    }
    impressions = shown.select(
        key, "day", "known", time=seconds(shown["impression_time"]),
        watcher=ibis.null("string"),
        **{name: ibis.literal(int(name == "impressions"), type="int64") for name in _COUNTS},
    )  # fmt: skip
    actions = done.select(
        key, "day", "known", time=seconds(done["action_time"]),
        watcher=ibis.ifelse(number["watches"], done[other], ibis.null("string")),
        impressions=ibis.literal(0, type="int64"),
        **{name: flag.fill_null(False).cast("int64") for name, flag in number.items()},
        value_milli=ibis.ifelse(valued, (done["value"] * 1000).round().cast("int64"), 0).cast("int64"),
    )  # fmt: skip
    return impressions.union(actions.select(impressions.columns))


def _summed(rows: ir.Table) -> dict[str, ir.Value]:
    return {name: rows[name].sum().cast("int64") for name in _COUNTS}


def _user_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    rows = _counts(tables, "user_id", "video_id")
    return rows.group_by("user_id", "day", "known").aggregate(**_summed(rows), last=rows["time"].max())


def _user_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    pairs = visible(due, partials, ["user_id"], max(USER_WINDOWS))
    features: dict[str, ir.Value] = {}
    for days in USER_WINDOWS:
        impressions, watches = total(pairs, "impressions", days), total(pairs, "watches", days)
        features[f"user_impressions_{days}d"] = impressions
        features[f"user_watches_{days}d"] = watches
        features[f"user_watch_rate_{days}d"] = rate(watches, impressions, PRIOR_RATE, PRIOR_STRENGTH)
    features["user_clicks_7d"] = total(pairs, "clicks", 7)
    features["user_likes_28d"] = total(pairs, "likes", 28)
    features["user_mean_value_28d"] = _mean_value(pairs, 28)
    features["user_days_active_28d"] = pairs["day"].nunique().cast("int64")
    features["user_last_active"] = pairs["last"].max()
    return pairs.group_by("user_id", "at").aggregate(**features)


def _mean_value(pairs: ir.Table, days: int) -> ir.FloatingValue:
    """Mean share watched or mean rating; null where nothing was watched or rated."""
    valued = total(pairs, "valued", days)
    return total(pairs, "value_milli", days).cast("float64") / 1000.0 / valued.nullif(0).cast("float64")


def _video_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    rows = _counts(tables, "video_id", "user_id")
    daily = rows.group_by("video_id", "day", "known").aggregate(
        **_summed(rows),
        first=rows["time"].min(),
        watchers=rows["watcher"].collect(where=rows["watcher"].notnull(), distinct=True).sort(),
    )
    # Of no watchers DuckDB makes null, and Spark an empty list.
    return daily.mutate(watchers=ibis.ifelse(daily["watchers"].length() > 0, daily["watchers"], ibis.null()))


def _video_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    pairs = visible(due, partials, ["video_id"], max(VIDEO_WINDOWS))
    features: dict[str, ir.Value] = {}
    for days in VIDEO_WINDOWS:
        features[f"video_watches_{days}d"] = total(pairs, "watches", days)
    for days in (1, 7, 28):
        impressions, watches = total(pairs, "impressions", days), total(pairs, "watches", days)
        features[f"video_impressions_{days}d"] = impressions
        features[f"video_watch_rate_{days}d"] = rate(watches, impressions, PRIOR_RATE, PRIOR_STRENGTH)
    features["video_likes_28d"] = total(pairs, "likes", 28)
    features["video_mean_value_28d"] = _mean_value(pairs, 28)
    features["video_mean_value_365d"] = _mean_value(pairs, 365)
    recent = pairs["watchers"].collect(where=(pairs["age"] <= WATCHERS_DAYS) & pairs["watchers"].notnull())
    features["video_watchers_28d"] = recent.flatten().unique().length().fill_null(0).cast("int64")
    features["video_first_seen"] = pairs["first"].min()
    return pairs.group_by("video_id", "at").aggregate(**features)


def _history_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    done = tables["actions"]
    watched = done.filter(_is_watch(done))
    # Neither engine orders an aggregated list alike; both sort structs field by field. The first
    # field is the negated time, so that the newest come first; the id makes ties definite.
    event = ibis.struct(
        {
            "before": -seconds(watched["action_time"]),
            "video_id": watched["video_id"],
            "value": watched["value"],
        }
    )
    rows = watched.mutate(event=event)
    listed = rows.group_by("user_id", "day", "known").aggregate(events=rows["event"].collect())
    return listed.mutate(events=listed["events"].sort()[:HISTORY])


def _history_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    bounded = newest_cut(due, partials, ["user_id"], HISTORY)
    seen = [
        bounded["user_id"] == partials["user_id"],
        partials["known"] <= bounded["at"],
        (partials["day"] >= bounded["cut"]) | bounded["cut"].isnull(),
    ]
    pairs = bounded.inner_join(partials, seen, rname="{name}_partial").select("user_id", "at", "events")
    listed = pairs.group_by("user_id", "at").aggregate(events=pairs["events"].collect().flatten())
    rows = listed.mutate(events=listed["events"].sort()[:HISTORY])
    return rows.select(
        "user_id",
        "at",
        recent_videos=rows["events"].map(lambda event: event["video_id"]),
        recent_values=rows["events"].map(lambda event: event["value"]),
        recent_times=rows["events"].map(lambda event: -event["before"]),
    )


def _profile_daily(tables: Mapping[str, ir.Table]) -> ir.Table:
    videos = tables["videos"]
    return videos.select(
        "video_id", "day", "known", "duration_seconds", "genres", "creator_id", "language",
        published_at=seconds(videos["published_at"]),
    )  # fmt: skip


def _profile_roll(due: ir.Table, partials: ir.Table) -> ir.Table:
    pairs = visible(due, partials, ["video_id"])
    columns = ("published_at", "duration_seconds", "genres", "creator_id", "language")
    return pairs.select("video_id", "at", *columns)


_EVENTS = ("impressions", "actions")

FEATURES = (
    FeatureTable("user_activity", ("user_id",), _EVENTS, USER_WINDOWS, _user_daily, _user_roll),
    FeatureTable("user_history", ("user_id",), ("actions",), (), _history_daily, _history_roll),
    FeatureTable("video_popularity", ("video_id",), _EVENTS, VIDEO_WINDOWS, _video_daily, _video_roll),
    FeatureTable("video_profile", ("video_id",), ("videos",), (), _profile_daily, _profile_roll),
)
