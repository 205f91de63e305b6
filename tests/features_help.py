"""Small lakes of video events, and the features computed from them by plain Python loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, FeatureTable, Framing, Label
from pipelines.cases.video_recommendation.features import FEATURES
from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Event:
    """An impression, or an action on a video; `late` is how long after it happened it arrived."""

    kind: str
    user: str
    video: str
    time: datetime
    late: timedelta = timedelta(0)
    value: float | None = None

    @property
    def arrived(self) -> datetime:
        return self.time + self.late

    @property
    def watched(self) -> bool:
        return self.kind == "rate" or (self.kind == "watch" and (self.value or 0) >= 0.5)


def watch_label(tables: Mapping[str, Any], as_of: datetime) -> Any:
    """Say for each impression whether its user watched its video within the attribution window."""
    shown, done = tables["impressions"], tables["actions"]
    watched = done.filter((done["action"] == "watch") & (done["value"] >= 0.5))
    watched = watched.select("impression_id", watch_time="action_time").distinct()
    pairs = shown.left_join(watched, "impression_id")
    return pairs.group_by("impression_id", "user_id", "video_id", "impression_time").aggregate(
        label=pairs["watch_time"].notnull().cast("int64").max()
    )


def video_case(features: Sequence[FeatureTable] = FEATURES, attribution: timedelta = DAY) -> CaseStudy:
    """Make video recommendation without its models."""
    absent: Any = None
    rest = dict.fromkeys(("params", "fit", "load", "predictions"), absent)
    return CaseStudy(
        name="video_recommendation",
        framing=Framing("", "", "", attribution, ""),
        tables=TABLES,
        sources=(),
        features=tuple(features),
        service="video_recommendation_v1",
        label=Label(("impression_id",), "impression_time", ("impressions", "actions"), watch_label),
        heuristics={},
        protocols={},
        **rest,
    )


def append(ws: Workspace, events: Sequence[Event], first: int = 0) -> None:
    """Put events into the lake; ids count from `first`."""
    lake = Lake(ws.lake, TABLES)
    shown = [(first + n, each) for n, each in enumerate(events) if each.kind == "impression"]
    done = [(first + n, each) for n, each in enumerate(events) if each.kind != "impression"]
    if shown:
        lake.append("impressions", frame("impressions", [
            {"impression_id": f"i{n}", "request_id": "r", "impression_time": each.time, "position": 1,
             "user_id": each.user, "video_id": each.video, "arrived_at": each.arrived}
            for n, each in shown
        ]))  # fmt: skip
    if done:
        lake.append("actions", frame("actions", [
            {"action_id": f"a{n}", "action": each.kind, "value": each.value, "action_time": each.time,
             "user_id": each.user, "video_id": each.video, "arrived_at": each.arrived}
            for n, each in done
        ]))  # fmt: skip


def frame(table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Make a frame with a table's schema; columns that are not given are null."""
    schema = polars_schema(next(each for each in TABLES if each.name == table).schema)
    return pl.DataFrame(
        {name: pl.Series([row.get(name) for row in rows], dtype=dtype) for name, dtype in schema.items()}
    )


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def expected(events: Sequence[Event], view: str, entity: str, at: datetime) -> dict[str, Any] | None:
    """Compute an entity's features at a midnight from what had happened and arrived before it."""
    key = "user" if view.startswith("user") else "video"
    seen = [e for e in events if getattr(e, key) == entity and e.time < at and e.arrived < at]
    if view == "user_history":
        return _history(seen)
    if not seen:
        return None
    prefix, last = ("user", 28) if key == "user" else ("video", 365)
    windows = (1, 7, 28) if key == "user" else (1, 7, 28, 90, 365)
    found: dict[str, Any] = {}
    for days in windows:
        inside = within(seen, at, days)
        shown = sum(e.kind == "impression" for e in inside)
        watched = sum(e.watched for e in inside)
        found[f"{prefix}_watches_{days}d"] = watched
        if days <= 28:
            found[f"{prefix}_impressions_{days}d"] = shown
            found[f"{prefix}_watch_rate_{days}d"] = (watched + 2.0) / (shown + 20.0)
    found[f"{prefix}_likes_28d"] = sum(e.kind == "like" for e in within(seen, at, 28))
    for days in (28,) if key == "user" else (28, 365):
        found[f"{prefix}_mean_value_{days}d"] = _mean_value(within(seen, at, days))
    reach = within(seen, at, last)
    seconds = [int(e.time.timestamp()) for e in reach]
    if key == "user":
        found["user_clicks_7d"] = sum(e.kind == "click" for e in within(seen, at, 7))
        found["user_days_active_28d"] = len({e.time.date() for e in reach})
        found["user_last_active"] = max(seconds, default=None)
    else:
        found["video_watchers_28d"] = len({e.user for e in within(seen, at, 28) if e.watched})
        found["video_first_seen"] = min(seconds, default=None)
    return found


def within(events: Sequence[Event], at: datetime, days: int) -> list[Event]:
    """Keep the events of the `days` days before a midnight."""
    return [event for event in events if event.time >= at - days * DAY]


def _mean_value(events: Sequence[Event]) -> float | None:
    values = [
        round((e.value or 0) * 1000) for e in events if e.kind in ("watch", "rate") and e.value is not None
    ]
    return sum(values) / 1000.0 / len(values) if values else None


def _history(seen: Sequence[Event]) -> dict[str, Any] | None:
    watched = [event for event in seen if event.watched]
    newest = sorted(watched, key=lambda e: (-int(e.time.timestamp()), e.video, e.value))[:50]
    if not newest:
        return None
    return {
        "recent_videos": [event.video for event in newest],
        "recent_values": [event.value for event in newest],
        "recent_times": [int(event.time.timestamp()) for event in newest],
    }
