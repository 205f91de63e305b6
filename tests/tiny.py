"""Tiny valid tables of video recommendation, for tests that need some rows and do not care which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from pipelines.case_study import Batch, CaseStudy, Framing
from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.stores.schemas import polars_schema

START = datetime(2026, 1, 1, tzinfo=UTC)


def tiny_tables(
    days: int = 3, requests_a_day: int = 4, slate: int = 3, users: int = 5, videos: int = 8, seed: int = 0
) -> dict[str, pl.DataFrame]:
    """Make consistent rows of all five tables, `days` days from START; the same seed, the same rows.

    Every third impression is clicked a minute later; an action arrives two hours after it happened.
    """
    rng = np.random.default_rng(seed)
    requests = days * requests_a_day
    second = timedelta(seconds=1)
    asked = [START + (number + 0.5) * timedelta(days=1) / requests_a_day for number in range(requests)]
    asker = [f"u{user}" for user in rng.integers(0, users, requests)]
    shown = [(request, place) for request in range(requests) for place in range(slate)]
    item = [f"v{video}" for request in range(requests) for video in rng.permutation(videos)[:slate]]
    clicked = [number for number in range(len(shown)) if number % 3 == 0]
    users_at = [START - timedelta(days=10) + number * timedelta(hours=1) for number in range(users)]
    videos_at = [START - timedelta(days=9) + number * timedelta(hours=2) for number in range(videos)]
    click_at = [asked[shown[number][0]] + timedelta(minutes=1) for number in clicked]
    return {
        "users": typed("users", {
            "user_id": [f"u{number}" for number in range(users)],
            "registered_at": users_at,
            "country": [["NL", "FR", None][number % 3] for number in range(users)],
            "language": ["en"] * users,
            "arrived_at": users_at,
        }),
        "videos": typed("videos", {
            "video_id": [f"v{number}" for number in range(videos)],
            "published_at": videos_at,
            "title": [f"Video {number}" for number in range(videos)],
            "creator_id": [f"c{number % 3}" for number in range(videos)],
            "genres": [["Drama", "Comedy"][: 1 + number % 2] for number in range(videos)],
            "language": ["en"] * videos,
            "duration_seconds": [60.0 + number for number in range(videos)],
            "arrived_at": videos_at,
        }),
        "requests": typed("requests", {
            "request_id": [f"r{number}" for number in range(requests)],
            "request_time": asked,
            "policy": ["logging"] * requests,
            "model_version": [None] * requests,
            "user_id": asker,
            "device": ["phone"] * requests,
            "arrived_at": [each + second for each in asked],
        }),
        "impressions": typed("impressions", {
            "impression_id": [f"r{request}-{place}" for request, place in shown],
            "request_id": [f"r{request}" for request, _ in shown],
            "impression_time": [asked[request] for request, _ in shown],
            "position": [place + 1 for _, place in shown],
            "propensity": [0.1 + 0.1 * place for _, place in shown],
            "user_id": [asker[request] for request, _ in shown],
            "video_id": item,
            "explored": [request % 10 == 0 for request, _ in shown],
            "arrived_at": [asked[request] + second for request, _ in shown],
        }),
        "actions": typed("actions", {
            "action_id": [f"a{number}" for number in clicked],
            "impression_id": [f"r{shown[number][0]}-{shown[number][1]}" for number in clicked],
            "action": ["click"] * len(clicked),
            "value": [1.0] * len(clicked),
            "action_time": click_at,
            "user_id": [asker[shown[number][0]] for number in clicked],
            "video_id": [item[number] for number in clicked],
            "arrived_at": [each + timedelta(hours=2) for each in click_at],
        }),
    }  # fmt: skip


def tiny_batches(**sizes: int) -> list[Batch]:
    """Make the same rows as the batches of a source."""
    return [Batch(name, rows, origin=f"{name}.csv") for name, rows in tiny_tables(**sizes).items()]


def typed(table: str, columns: dict[str, list[object]]) -> pl.DataFrame:
    """Make a frame with a table's schema; a column that may be absent is null."""
    declared = next(each for each in TABLES if each.name == table).schema
    schema, optional = polars_schema(declared), declared.to_schema().columns
    height = len(next(iter(columns.values())))
    values = {name: columns.get(name, [None] * height) for name in schema if not optional[name].required}
    return pl.DataFrame(
        {name: pl.Series(name, (columns | values)[name], dtype=dtype) for name, dtype in schema.items()}
    )


def tiny_case() -> CaseStudy:
    """Make a case that has tables and nothing else: enough for what only moves rows."""
    absent: Any = None
    framing = Framing("", "", "", timedelta(days=1), "")
    rest = dict.fromkeys(("service", "label", "params", "fit", "load", "predictions"), absent)
    return CaseStudy("tiny", framing, TABLES, sources=(), features=(), heuristics={}, protocols={}, **rest)
