"""The clock of a live workspace: the wall's, or a simulated one that moves as it is told.

Steps are handed their moment; only the edge reads this clock. Training looks at whole days, so the
flows work as of the last midnight (`today`), and two runs on one day are named alike.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from pipelines.errors import UsageError
from pipelines.settings import Frozen, UtcDatetime, parse
from pipelines.stores.files import write_json
from pipelines.stores.workspace import Workspace

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Clock(Frozen):
    """A clock's setting. The wall's has no `origin`.

    A simulated one showed `origin` when the wall's showed `since`, and passes `speed` seconds for each
    of the wall's: 1440 lets a day pass in a minute, 0 stands still until it is advanced.
    """

    origin: UtcDatetime | None = None
    since: UtcDatetime | None = None
    speed: float = Field(default=0.0, ge=0)

    @property
    def simulated(self) -> bool:
        return self.origin is not None

    def now(self, wall: datetime | None = None) -> datetime:
        """Read the clock; `wall` stands for the present where given."""
        wall = wall or datetime.now(UTC)
        if self.origin is None:
            return wall
        return self.origin + self.speed * (wall - (self.since or wall))

    def today(self, wall: datetime | None = None) -> datetime:
        """Return the midnight (UTC) at which the present day began."""
        return self.now(wall).replace(hour=0, minute=0, second=0, microsecond=0)


def simulated(origin: datetime, speed: float = 0.0) -> Clock:
    """Make a clock that shows `origin` now."""
    return Clock(origin=origin, since=datetime.now(UTC), speed=speed)


def read(workspace: Workspace) -> Clock:
    """Read a live workspace's clock."""
    path = _path(workspace)
    if not path.is_file():
        raise UsageError(f"{workspace.root} has no clock: `loop up` (or the build flow) makes the workspace")
    return _parsed(path.read_bytes(), str(path))


@lru_cache(maxsize=16)
def _parsed(content: bytes, origin: str) -> Clock:
    """Read what a file says: each request asks, and it hardly ever says something new."""
    return parse(Clock, json.loads(content), origin)


def write(workspace: Workspace, clock: Clock) -> None:
    """Set a live workspace's clock."""
    write_json(_path(workspace), clock.model_dump(mode="json"))


def advance(workspace: Workspace, span: timedelta) -> Clock:
    """Let `span` pass at once on a simulated clock."""
    clock = read(workspace)
    if not clock.simulated:
        raise UsageError(f"{_path(workspace)}: the wall's clock cannot be advanced; only a simulated one can")
    if span < timedelta(0):
        raise UsageError("time runs forward only: the span to advance by must be positive")
    moved = simulated(clock.now() + span, clock.speed)
    write(workspace, moved)
    return moved


def advance_to(workspace: Workspace, moment: datetime) -> Clock:
    """Let time pass until `moment`; a simulated clock that is further already stays."""
    return advance(workspace, max(moment - read(workspace).now(), timedelta(0)))


def follow_wall(workspace: Workspace) -> Clock:
    """Let a live workspace go by the wall's clock from now on; UsageError where it is ahead of it."""
    now, wall = read(workspace).now(), datetime.now(UTC)
    if now > wall:
        raise UsageError(
            f"{_path(workspace)}: the simulated clock shows {now:%Y-%m-%d %H:%M} UTC, which has not come yet: rows of "
            "the future would be there; seed the workspace from data of the past"
        )
    write(workspace, Clock())
    return read(workspace)


def run_at(workspace: Workspace, speed: float) -> Clock:
    """Let a simulated clock pass `speed` seconds for each of the wall's from now on; 0 lets it stand still."""
    clock = read(workspace)
    if not clock.simulated:
        raise UsageError(
            f"{_path(workspace)}: the wall's clock runs as it does; only a simulated one has a speed"
        )
    if not 0 <= speed < float("inf"):
        raise UsageError(f"a clock cannot run at {speed} seconds a second: 1440 lets a day pass in a minute")
    write(workspace, simulated(clock.now(), speed))
    return read(workspace)


def span(text: str) -> timedelta:
    """Read a span of time such as `2d`, `36h`, `90m` or `1d12h`."""
    if not re.fullmatch(r"(\d+(\.\d+)?[dhms])+", text):
        raise UsageError(f"'{text}' is no span of time: write one such as 2d, 36h, 90m or 1d12h")
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    return sum((timedelta(**{_UNITS[unit]: float(amount)}) for amount, unit in parts), timedelta(0))


def _path(workspace: Workspace) -> Path:
    return workspace.root / "clock.json"
