"""A day of service: people ask, the service answers from what it knows, they act, and their actions are collected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from pipelines.case_study import Users
from pipelines.errors import LoopError
from pipelines.flows import clock
from pipelines.serving.ladder import BEFORE, CHAMPION
from pipelines.serving.service import Decision, Service
from pipelines.stores.files import write_aside
from pipelines.stores.workspace import Workspace

BLOCK = timedelta(hours=1)
_BATCH = 500


@dataclass(frozen=True)
class Served:
    """A day as it went: `reward` and `best` are expected sums over its requests, `by` counts who answered.

    On the first day of a new champion, `own` and `before` are what its choices, and those of the champion before it,
    would each have earned alone.
    """

    requests: int
    reward: float
    best: float
    actions: int
    by: Mapping[str, int]
    versions: Mapping[str, int]
    own: float | None = None
    before: float | None = None


class Mail:
    """Actions that people have not sent yet: kept between days, for a watch may end on the next one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = pl.read_parquet(path) if path.is_file() else None

    def add(self, actions: pl.DataFrame) -> None:
        """Put actions in the bag; each is sent once its `action_time` has come."""
        if actions.height:
            bags = [actions] if self._waiting is None else [self._waiting, actions]
            self._waiting = pl.concat(bags, how="diagonal")

    def due(self, until: datetime) -> list[dict[str, Any]]:
        """Take out what is sent by `until`, in order of time."""
        if self._waiting is None:
            return []
        sent = pl.col("action_time") <= until
        found = self._waiting.filter(sent).sort("action_time", "action_id")
        self._waiting = self._waiting.filter(~sent)
        return found.to_dicts()

    def save(self) -> None:
        """Keep what was not sent."""
        if self._waiting is not None:
            with write_aside(self._path) as aside:
                self._waiting.write_parquet(aside)


def live_day(
    workspace: Workspace, service: Service, users: Users, day: datetime, mail: Mail, *, compare: bool = False
) -> Served:
    """Let a day pass, an hour at a time: what is asked within it is answered at its end.

    With `compare` the champion is held to the one before it. The workspace's clock stands at the next midnight
    afterwards.
    """
    asked = users.ask(day)
    request = service.serving.request
    seen: list[pl.DataFrame] = []
    by: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    collected = 0
    rivals: dict[str, list[pl.DataFrame]] = {policy: [] for policy in ((CHAMPION, BEFORE) if compare else ())}
    for moment, first, rows in _blocks(asked, day):
        clock.advance_to(workspace, moment)
        for at in range(0, rows.height, _BATCH):
            batch = rows.slice(at, _BATCH)
            requests = _requests(request, batch)
            for policy, imagined in rivals.items():
                imagined += _imagined(service, policy, requests, first + at)
            answers = service.decide(requests)
            shown = lay_out(answers, first + at)
            by.update(answer.policy for answer in answers)
            versions.update(answer.model_version or "none" for answer in answers)
            seen.append(shown.drop("token"))
            actions = users.act(day, shown.drop("token"))
            mail.add(actions.join(shown.select("impression_id", "token"), on="impression_id", how="left"))
        collected += _collect(service, mail.due(moment))
    worth = users.worth(day, pl.concat(seen)) if seen else pl.DataFrame({"reward": [0.0], "best": [0.0]})
    reward, best = (math.fsum(worth[name]) for name in ("reward", "best"))
    whole = len({len(each) for each in rivals.values()}) == 1 and all(rivals.values())  # each answered all
    alone = [math.fsum(users.worth(day, pl.concat(each))["reward"]) for each in rivals.values() if whole]
    return Served(asked.height, reward, best, collected, dict(by), dict(versions), *alone)


def _imagined(
    service: Service, policy: str, requests: Sequence[BaseModel], first: int
) -> Iterator[pl.DataFrame]:
    """Lay out what one of those who can answer would show, where it can, as `Users.worth` reads it."""
    answer = service.imagine(policy, requests) if requests else None
    if answer is None:
        return
    ranked = answer.ranked[:, : service.serving.places]
    request, place = np.nonzero(ranked >= 0)
    told = pl.DataFrame({"request": request + first, "position": place + 1})
    nobody = told.with_columns(
        impression_id=pl.lit(None, pl.String), impression_time=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    yield nobody.hstack(answer.pool[ranked[request, place]])


def lay_out(answers: list[Decision], first: int) -> pl.DataFrame:
    """Lay out what was shown, a row a place, as `Users.act` reads it; `first` is the first answer's request."""
    rows = [
        {
            "request": first + number,
            "impression_id": place.impression_id,
            "impression_time": answer.time,
            "position": place.position,
            "token": place.token,
            **place.item,
        }
        for number, answer in enumerate(answers)
        for place in answer.places
    ]
    times = {"impression_time": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema_overrides=times, infer_schema_length=None)


def _blocks(asked: pl.DataFrame, day: datetime) -> Iterator[tuple[datetime, int, pl.DataFrame]]:
    """Yield (its end, its first row, its rows) for each hour of the day."""
    first = 0
    for hour in range(timedelta(days=1) // BLOCK):
        end = day + (hour + 1) * BLOCK
        rows = asked[first:].filter(pl.col("time") < end)
        yield end, first, rows
        first += rows.height


def _requests(model: type[BaseModel], rows: pl.DataFrame) -> list[BaseModel]:
    return [model.model_validate(row) for row in rows.drop("time").iter_rows(named=True)]


def _collect(service: Service, actions: list[dict[str, Any]]) -> int:
    """Send actions; one that is refused is a fault of the world or the service, and is not passed over."""
    if not actions:
        return 0
    for action in actions:
        action.pop("impression_id")
    found = service.collect(actions)
    if found.refused:
        raise LoopError(f"the service refused an action of its own users: {dict(found.refused[0])}")
    return found.accepted
