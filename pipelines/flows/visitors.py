"""Simulated users of a live system: they ask the real server over HTTP, and send back what they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import LoopError, UsageError
from pipelines.flows import clock
from pipelines.flows.edge import Run
from pipelines.flows.timelapse.day import Mail
from pipelines.stores.action_log import open_action_log

if TYPE_CHECKING:
    import httpx

_TICK = 0.1  # seconds between two volleys
_MOST = 1000  # actions a batch
_IDENTITY = ("impression_id", "request")


@dataclass
class Visited:
    """What was asked, acknowledged and refused so far, and the simulated moment."""

    requests: int = 0
    actions: int = 0
    refused: int = 0
    moment: datetime | None = None


async def visit(
    run: Run, client: httpx.AsyncClient, rate: float, requests: int, tell: Callable[[Visited], None]
) -> Visited:
    """Send `requests` requests at about `rate` a second; simulated time passes with them.

    People ask in the order of the world's own days, which begin where the workspace's clock stands. They act on what
    they were shown: at once, or hours later, as simulated time comes to it; what is left over is kept for next time.
    Raises UsageError where the clock is the wall's or the data are real, LoopError where the server refuses.
    """
    if not clock.read(run.workspace).simulated:
        raise UsageError(f"{run.workspace.root} runs by the wall's clock: its users are real ones")
    if not run.simulated:
        raise UsageError(f"{run.workspace.root} grew from real data: its users are real ones")
    users = run.world.users(run.world_params, run.params.seed, run.world_start)
    mail, done = Mail(run.workspace.root / "users.parquet"), Visited()
    volley = max(1, round(rate * _TICK))
    try:
        for day, asked in _days(run, users):
            for first, rows in _volleys(asked, volley, clock.read(run.workspace).now()):
                began = time.monotonic()
                rows = rows.head(requests - done.requests)
                moment = rows["time"].max()
                assert isinstance(moment, datetime)
                clock.advance_to(run.workspace, moment)
                shown = await _ask(client, run.case.name, first, rows)
                actions = users.act(day, shown.drop("token"))
                mail.add(actions.join(shown.select("impression_id", "token"), on="impression_id", how="left"))
                await _send(client, run.case.name, mail.due(moment), done)
                done.requests, done.moment = done.requests + rows.height, moment
                tell(done)
                if done.requests >= requests:
                    return done
                await asyncio.sleep(max(0.0, rows.height / rate - (time.monotonic() - began)))
    finally:
        mail.save()
    raise AssertionError("days never end")


def _days(run: Run, users: Any) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """Yield each day with what is asked on it; its newcomers are in the log by then."""
    day = clock.read(run.workspace).today()
    while True:
        with open_action_log(run.project.platform.action_log, run.workspace) as log:
            for table, rows in users.newcomers(day).items():
                log.append(table, rows)
        yield day, users.ask(day)
        day += timedelta(days=1)
        clock.advance_to(run.workspace, day)


def _volleys(asked: pl.DataFrame, size: int, now: datetime) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (first row, rows) of what is asked after `now`, so many at a time."""
    passed = asked.filter(pl.col("time") <= now).height
    for first in range(passed, asked.height, size):
        yield first, asked.slice(first, size)


async def _ask(client: httpx.AsyncClient, case: str, first: int, rows: pl.DataFrame) -> pl.DataFrame:
    """Ask all at once, and lay out what was shown, a row a place."""
    bodies = rows.drop("time").to_dicts()
    replies = await asyncio.gather(*(_post(client, f"/v1/{case}/decide", body) for body in bodies))
    shown = [
        {
            "request": first + number,
            "impression_id": place["impression_id"],
            "impression_time": datetime.fromisoformat(reply["time"]),
            "position": place["position"],
            "token": place["token"],
            **place["item"],
        }
        for number, reply in enumerate(replies)
        for place in reply["places"]
    ]
    times = {"impression_time": pl.Datetime("us", "UTC")}
    return pl.DataFrame(shown, schema_overrides=times, infer_schema_length=None)


async def _send(client: httpx.AsyncClient, case: str, actions: list[dict[str, Any]], done: Visited) -> None:
    for at in range(0, len(actions), _MOST):
        batch = [
            {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in action.items()
                if name not in _IDENTITY
            }
            for action in actions[at : at + _MOST]
        ]
        reply = await _post(client, f"/v1/{case}/actions", {"actions": batch})
        done.actions += reply["accepted"]
        done.refused += len(reply["refused"])


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    import httpx

    try:
        reply = await client.post(path, json=body)
    except httpx.HTTPError as error:
        raise LoopError(
            f"{client.base_url} cannot be reached ({type(error).__name__}): start it with `loop serve`, or name "
            "its port with --port"
        ) from error
    if reply.status_code != 200:
        raise LoopError(
            f"{client.base_url}{path.lstrip('/')} answered {reply.status_code}: {reply.text[:500]}"
        )
    found: dict[str, Any] = reply.json()
    return found
