"""The clock of a live workspace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.errors import UsageError
from pipelines.flows import clock
from pipelines.flows.clock import Clock
from pipelines.stores.workspace import Workspace

ORIGIN = datetime(2026, 3, 1, tzinfo=UTC)
WALL = datetime(2030, 5, 5, 12, 34, tzinfo=UTC)


def test_the_walls_clock_shows_the_present() -> None:
    assert Clock().now(WALL) == WALL
    assert Clock().today(WALL) == datetime(2030, 5, 5, tzinfo=UTC)


def test_a_day_passes_in_a_minute_at_speed_1440() -> None:
    found = Clock(origin=ORIGIN, since=WALL, speed=1440)
    assert found.now(WALL + timedelta(minutes=1)) == ORIGIN + timedelta(days=1)


def test_a_clock_without_speed_stands_still() -> None:
    assert Clock(origin=ORIGIN, since=WALL).now(WALL + timedelta(days=9)) == ORIGIN


def test_advancing_is_kept_in_the_workspace(ws: Workspace) -> None:
    clock.write(ws, clock.simulated(ORIGIN))
    clock.advance(ws, clock.span("1d12h"))
    assert clock.read(ws).now() == ORIGIN + timedelta(hours=36)
    assert clock.read(ws).today() == ORIGIN + timedelta(days=1)


def test_advancing_keeps_the_speed(ws: Workspace) -> None:
    clock.write(ws, clock.simulated(ORIGIN, speed=60))
    assert clock.advance(ws, timedelta(days=1)).speed == 60


def test_time_never_runs_backward(ws: Workspace) -> None:
    clock.write(ws, clock.simulated(ORIGIN))
    clock.advance_to(ws, ORIGIN - timedelta(days=3))
    assert clock.read(ws).now() == ORIGIN
    with pytest.raises(UsageError, match="forward"):
        clock.advance(ws, timedelta(days=-1))


def test_the_walls_clock_cannot_be_advanced(ws: Workspace) -> None:
    clock.write(ws, Clock())
    with pytest.raises(UsageError, match="cannot be advanced"):
        clock.advance(ws, timedelta(days=1))


@pytest.mark.parametrize(
    ("text", "hours"), [("2d", 48), ("36h", 36), ("90m", 1.5), ("1d12h", 36), ("0.5d", 12)]
)
def test_spans(text: str, hours: float) -> None:
    assert clock.span(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "2", "d", "2 d", "-1d", "2w", "1d and a bit"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="2d, 36h"):
        clock.span(text)


def test_a_workspace_without_clock_says_how_to_make_it(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="loop up"):
        clock.read(ws)
