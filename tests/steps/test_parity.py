"""Parity reads the last day of a log, however long the log is, and misses no answer of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.case_study import Batch
from pipelines.steps.parity import _served
from pipelines.stores.schemas import SERVED

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
