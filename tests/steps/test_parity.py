"""Parity reads the last day of a log, however long the log is, and misses no answer of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import served_stub

from pipelines.case_study import Batch
from pipelines.settings import Platform
from pipelines.steps.parity import BEING_WRITTEN, Parity, _compare, _served
from pipelines.stores import feature_store, online_features
from pipelines.stores.schemas import SERVED
from pipelines.stores.workspace import Workspace

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Log:
    """A log of batches; it counts what is read."""

    batches: list[Batch]
    read_batches: int = field(default=0)

    @property
    def end(self) -> int:
        return len(self.batches)

    def append(self, table: str, rows: pl.DataFrame) -> int:
        raise NotImplementedError

    def read(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        for offset, batch in enumerate(self.batches[after:], start=after + 1):
            self.read_batches += 1
            yield offset, batch


def served(hour: float) -> Batch:
    return Batch(SERVED, pl.DataFrame({"request_time": [START + hour * HOUR]}), "log")


def other() -> Batch:
    return Batch("actions", pl.DataFrame({"action_time": [START]}), "log")


@pytest.mark.parametrize("share", [0, 1, 9])
@pytest.mark.parametrize("since", [-100.0, 0.0, 500.5, 1999.0, 3000.0])
def test_every_answer_since_a_moment_is_found(share: int, since: float) -> None:
    log = Log([each for hour in range(2000) for each in (served(hour), *[other()] * share)])
    found = _served(log, START + since * HOUR, START + 5000 * HOUR)
    expected = [START + hour * HOUR for hour in range(2000) if hour >= since]
    assert (found["request_time"].to_list() if found.width else []) == expected


def test_answers_that_came_out_of_order_are_found() -> None:
    hours = [float(hour) for hour in range(2000)]
    hours[1000], hours[1001] = 1000.9, 1000.2
    found = _served(Log([served(hour) for hour in hours]), START + 1000.5 * HOUR, START + 1001 * HOUR)
    assert found["request_time"].to_list() == [START + 1000.9 * HOUR]


def test_a_long_log_is_not_read_through() -> None:
    log = Log([served(hour) for hour in range(5000)])
    _served(log, START + 4990 * HOUR, START + 5000 * HOUR)
    assert log.read_batches < 150


def test_an_empty_log_holds_nothing() -> None:
    assert _served(Log([]), START, START + HOUR).is_empty()


OLD, NEW = START, START + 24 * HOUR


def answered(*minutes: float, seen: list[int], days: list[int], of: datetime = OLD) -> pl.DataFrame:
    """Answer so many minutes before newer features are taken up, with two features of a user."""
    time = [NEW + HOUR - minute * HOUR / 60 for minute in minutes]
    numbers = [f"{of:%d}-{minute}" for minute in minutes]
    told = {
        "request_id": numbers,
        "request_time": time,
        "features_as_of": [of] * len(time),
        "user_id": ["u"] * len(time),
    }
    return pl.DataFrame({**told, "seen": seen, "days": days})


def compared(monkeypatch: pytest.MonkeyPatch, rows: pl.DataFrame, online: datetime = NEW) -> Parity:
    """Compare with features that are (1, 1) as of the old moment, and (2, 2) as of the new one."""

    def historical(store: Any, service: str, asked: pl.DataFrame, *_: Any) -> pl.DataFrame:
        value = 1 + (asked["features_as_of"] == NEW).cast(pl.Int64)
        return asked.with_columns(seen=value, days=value)

    monkeypatch.setattr(feature_store, "open_store", lambda *_: None)
    monkeypatch.setattr(feature_store, "historical", historical)
    monkeypatch.setattr(online_features, "materialized", lambda *_: online)
    case = replace(served_stub.CASE, serving=replace(served_stub.SERVING, own=("seen",)))
    told = Parity(START, NEW + HOUR, rows.height, 0)
    return _compare(case, Workspace(Path("live/shop")), Platform(), rows, told)


def test_what_is_being_written_may_be_old_or_new_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = answered(9, 5, 1, 0.5, seen=[1, 2, 2, 3], days=[1, 1, 2, 1])
    rows = pl.concat([rows, answered(0, seen=[2], days=[2], of=NEW)])
    found = compared(monkeypatch, rows)
    assert found.excused == {BEING_WRITTEN: 2}
    assert (found.requests, found.values, dict(found.differences)) == (3, 6, {"seen": 1})
    assert found.examples[0]["served"] == "3" and found.examples[0]["request_id"] == "01-0.5"


def test_features_of_the_future_are_excused_at_no_other_time(monkeypatch: pytest.MonkeyPatch) -> None:
    early = answered(11, 300, seen=[2, 2], days=[1, 2])
    taken_up = answered(0, seen=[2], days=[2], of=NEW)
    assert dict(compared(monkeypatch, pl.concat([early, taken_up])).differences) == {"seen": 2, "days": 1}
    late = answered(0, seen=[1], days=[2], of=NEW)
    assert dict(compared(monkeypatch, pl.concat([taken_up, late])).differences) == {"seen": 1}


@pytest.mark.parametrize(("online", "equal"), [(NEW, True), (OLD, False)])
def test_what_nobody_was_answered_with_yet_may_be_there(
    monkeypatch: pytest.MonkeyPatch, online: datetime, equal: bool
) -> None:
    assert compared(monkeypatch, answered(3, 2, seen=[1, 2], days=[1, 1]), online).equal is equal
