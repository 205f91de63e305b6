"""A small system, served for real: its items and model are its own; all else is the platform's.

The model turns the items' order by a number, so that a test sees which version answers. Feast stays out:
features of a request's own come from a dictionary that can be switched off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandera.polars as pa
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from starlette.testclient import TestClient
from tiny import tiny_case, tiny_tables

from pipelines.case_study import Answer, Card, FeatureTable, Fitted, Serving, Stock
from pipelines.cases.video_recommendation.tables import VideoRequests
from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.serving.ladder import Ladder
from pipelines.serving.own import StoreDownError
from pipelines.serving.service import Service
from pipelines.serving.tokens import Tokens
from pipelines.settings import Answers, Platform, SqliteLog, UtcDatetime
from pipelines.stores.action_log import ActionLog, open_action_log
from pipelines.stores.files import write_json
from pipelines.stores.lake import Lake
from pipelines.stores.models import save_model
from pipelines.stores.registry import Registry, Version
from pipelines.stores.run_log import RunContent
from pipelines.stores.schemas import Utc
from pipelines.stores.workspace import Workspace

NAME = "shop"
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
PLACES, VIDEOS = 3, 8
KEY = b"k" * 32
LIFE = timedelta(days=30)


class Ask(BaseModel):
    """What a caller sends: a field of every type that a request may have."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=128)
    device: str | None = Field(default=None, max_length=32)
    visits: int | None = None
    budget: float | None = None
    new: bool | None = None
    since: UtcDatetime | None = None


class Asks(VideoRequests):
    """What was asked, as the log keeps it."""

    visits: pl.Int64 = pa.Field(nullable=True)
    budget: float = pa.Field(nullable=True)
    new: bool = pa.Field(nullable=True)
    since: Utc = pa.Field(nullable=True)


@dataclass(frozen=True)
class Turned:
    """A model: all items, beginning with number `turn`."""

    turn: int

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        return np.full(rows.height, float(self.turn))

    def save(self, folder: Path) -> None:
        (folder / "turned.json").write_text(json.dumps({"turn": self.turn}))


@dataclass(frozen=True)
class Answers_:  # noqa: N801  # the settings' Answers is another
    """A model over the stock's items; a negative turn breaks, as a model may that meets rows it does not know."""

    turn: int
    pool: pl.DataFrame

    def answer(self, asked: pl.DataFrame) -> Answer:
        if self.turn < 0:
            raise ValueError("no such column")
        assert "seen" in asked.columns, "features come with every request, null where they could not be read"
        ranked = np.tile((np.arange(self.pool.height) + self.turn) % self.pool.height, (asked.height, 1))
        return Answer(self.pool, ranked, -np.arange(ranked.size, dtype=float).reshape(ranked.shape))


def load(folder: Path) -> Turned:
    """Load what `Turned.save` wrote."""
    return Turned(**json.loads((folder / "turned.json").read_text()))


def ready(model: Turned, stock: Stock) -> Answers_:
    if model.turn == UNFIT:
        raise KeyError("a feature that the stock does not hold")
    return Answers_(model.turn, stock.table("videos").select("video_id").sort("video_id"))


def fallback(stock: Stock) -> Answers_:
    return ready(Turned(0), stock)


UNFIT = 99
"""A turn that cannot be made ready."""
SERVING = Serving(Ask, ("click", "watch", "like"), PLACES, (), (), ("videos",), ready, fallback)
FEATURE = FeatureTable("seen", ("user_id",), ("impressions",), (1,), lambda _: None, lambda *_: None)  # type: ignore[arg-type, return-value]
TABLES = tuple(replace(each, schema=Asks) if each.name == "requests" else each for each in tiny_case().tables)
CASE = replace(tiny_case(), name=NAME, tables=TABLES, features=(FEATURE,), load=load, serving=SERVING)


@dataclass
class Own:
    """The features of a request's own: how often a user was seen. `down` tells that the store is gone."""

    seen: Mapping[str, int] = field(default_factory=lambda: {"u0": 7})
    down: bool = False
    schema: Mapping[str, pl.DataType] = field(default_factory=lambda: {"seen": pl.Int64()})

    def read(self, asked: pl.DataFrame) -> pl.DataFrame:
        if self.down:
            raise StoreDownError("the online store cannot be read: gone from /secret/place")
        values = [self.seen.get(user) for user in asked["user_id"]]
        return asked.with_columns(seen=pl.Series(values, dtype=pl.Int64))

    def blank(self, asked: pl.DataFrame) -> pl.DataFrame:
        return asked.with_columns(seen=pl.lit(None, pl.Int64))


@dataclass
class Shop:
    """The system at work: its parts, and a clock that a test moves."""

    ws: Workspace
    registry: Registry
    log: ActionLog
    own: Own
    service: Service
    now: datetime = NOON

    @contextmanager
    def client(self, keys: Mapping[str, str] | None = None, refresh: float = 60.0) -> Iterator[TestClient]:
        """Put it on HTTP, in process."""
        app = make_app({NAME: self.service}, Keys(keys or {}), refresh_seconds=refresh)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    def publish(self, turn: int) -> Version:
        """Train a model elsewhere, and let the champion's alias move to it."""
        version = register(self.registry, self.ws.root.parents[1] / f"trained-{turn}", turn)
        self.registry.crown(version)
        return version

    def logged(self, table: str) -> pl.DataFrame:
        """Read a table's rows from the log."""
        found = [batch.rows for _, batch in self.log.read() if batch.table == table]
        return pl.concat(found) if found else pl.DataFrame()


def open_shop(root: Path, store: Registry, explore: float = 0.0) -> Shop:
    """Fill a workspace with a few items, and serve from it; in the store it has a name of its own, and no champion."""
    ws = Workspace(root / "live" / NAME)
    Lake(ws.lake, CASE.tables).append("videos", tiny_tables(videos=VIDEOS)["videos"])
    materialized(ws, NOON)
    registry = Registry(store.tracking_uri, store.artifact_root, f"{NAME}-{uuid4().hex}")
    registry.__dict__["client"] = store.client  # a client of its own would take a third of a second
    return assemble(ws, registry, explore)


def assemble(ws: Workspace, registry: Registry, explore: float = 0.0) -> Shop:
    """Start the service over what stands in the workspace."""
    log, own = open_action_log(SqliteLog(), ws), Own()
    ladder = Ladder(CASE, SERVING, ws, Platform(), registry)
    tokens, options, rng = Tokens([KEY], LIFE), Answers(explore=explore), np.random.default_rng(7)
    made: list[Shop] = []
    service = Service(
        CASE,
        SERVING,
        ladder,
        own,
        log,
        tokens,
        options,
        lambda: made[0].now,
        rng,  # type: ignore[arg-type]
    )
    made.append(Shop(ws, registry, log, own, service))
    return made[0]


def materialized(ws: Workspace, until: datetime) -> None:
    """Say up to when features stand online."""
    ws.online.mkdir(parents=True, exist_ok=True)
    write_json(ws.online / f"materialized-{NAME}.json", {"seen": {"until": until.isoformat()}})


def register(registry: Registry, folder: Path, turn: int) -> Version:
    """Save a model, and register it as promotion does."""
    nothing = folder.parent / "no-artifacts"
    nothing.mkdir(parents=True, exist_ok=True)
    rows = pl.DataFrame({"seen": [1.0, 2.0]})
    save_model(CASE, Fitted(Turned(turn), Card(), rows), folder, {"data": str(turn)})
    content = RunContent(
        key=str(turn), name=f"turn {turn}", at=0, framing="", card="", experiment_tags={}, params={},
        metrics={}, curves={}, tags={}, data=(), artifacts=nothing,
    )  # fmt: skip
    return registry.log_run(content, folder, {})[1]


def shown(decision: Mapping[str, Any]) -> Sequence[str]:
    """Tell which items an answer shows, in order."""
    return [place["item"]["video_id"] for place in decision["places"]]


def order(turn: int) -> list[str]:
    """Tell which items the model of a turn shows."""
    return [f"v{(place + turn) % VIDEOS}" for place in range(PLACES)]


def click(token: str, action_id: str = "a1", **more: Any) -> dict[str, Any]:
    """Make an action."""
    return {"action_id": action_id, "token": token, "action": "click", **more}
