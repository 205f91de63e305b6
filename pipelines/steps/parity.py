"""Parity: what answers were given with, beside what training would be given for the same moments.

Training and serving read the same features by different ways: the point-in-time join of the offline
store, and the online store as it stood. Where the two differ, a model is used on what it never learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, EventLog
from pipelines.errors import UsageError
from pipelines.settings import Platform
from pipelines.stores.schemas import SERVED
from pipelines.stores.workspace import Workspace

STORE_DOWN = "the online store was down: answered without features"
BEING_WRITTEN = "newer features were being written: each value is of the old ones or of the new"
_WRITING = timedelta(minutes=10)
"""How long before newer features are taken up their writing may have begun."""
_SHOWN = 5
_LATE = timedelta(hours=1)
_STRETCH = 64  # entries of the log that are read rather than divided further


@dataclass(frozen=True)
class Parity:
    """What was compared: requests, single values, differences by feature, and what explains the rest.

    `excused` counts the requests that were answered knowingly without features, or while newer ones were written.
    """

    start: datetime
    end: datetime
    requests: int
    values: int
    differences: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    excused: Mapping[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Say whether every value that was served is what training would be given."""
        return not self.differences

    def summary(self) -> str:
        """Say it in a line."""
        if not self.requests and not self.excused:
            since = f"{self.start:%Y-%m-%d %H:%M} UTC"
            return f"parity: nothing was answered since {since}: look further back with --days"
        if self.equal:
            found = f"{self.values:,} values of {self.requests:,} requests are what training would be given"
        else:
            counts = ", ".join(f"{name} {count:,}" for name, count in self.differences.items())
            found = f"{self.requests:,} requests differ from what training would be given in: {counts}"
        left_out = "".join(f"; {count:,} left out: {why}" for why, count in self.excused.items())
        return f"parity: {found}{left_out}"

    def to_json(self) -> dict[str, Any]:
        """Turn it into JSON's types."""
        return asdict(self) | {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "equal": self.equal,
        }


def parity(
    case: CaseStudy, ws: Workspace, log: EventLog, platform: Platform, end: datetime, days: int
) -> Parity:
    """Compare the features of the requests answered in the `days` before `end` (UTC).

    Each request is held to the moment up to which features stood online when it was answered; one that was answered
    while newer ones were being written, to either.
    """
    if case.serving is None:
        raise UsageError(f"{case.name} does not say how it answers requests: there is nothing to compare")
    start = end - timedelta(days=days)
    served = _served(log, start, end)
    if served.is_empty():
        return Parity(start, end, 0, 0)
    down = served.filter(~pl.col("features_read"))
    excused = {STORE_DOWN: down.height} if down.height else {}
    rows = served.filter("features_read")
    if rows.is_empty():
        return Parity(start, end, 0, 0, excused=excused)
    return _compare(case, ws, platform, rows, Parity(start, end, rows.height, 0, excused=excused))


def _served(log: EventLog, start: datetime, end: datetime) -> pl.DataFrame:
    """Read what answers were given with."""
    time = pl.col("request_time")
    parts = [
        batch.rows.filter((time >= start) & (time < end))
        for _, batch in log.read(_before(log, start - _LATE))
        if batch.table == SERVED
    ]
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()


def _before(log: EventLog, moment: datetime) -> int:
    """Find an offset that all answers from a moment on stand behind: a log grows for years, its last day does not.

    Answers stand in the order of their time, but for a commit or a clock that is late.
    """
    first, last = 0, log.end
    while last - first > _STRETCH:
        middle = (first + last) // 2
        answered = next((batch.rows for _, batch in log.read(middle) if batch.table == SERVED), None)
        if answered is None or answered.filter(pl.col("request_time") >= moment).height:
            last = middle
        else:
            first = middle
    return first


def _compare(case: CaseStudy, ws: Workspace, platform: Platform, rows: pl.DataFrame, told: Parity) -> Parity:
    from pipelines.stores.feature_store import historical, open_store
    from pipelines.stores.online_features import materialized

    assert case.serving is not None
    store, own = open_store(case, ws, platform), case.serving.own
    keys = sorted({key for table in case.features if table.name in own for key in table.keys})
    asked = rows.select("request_id", "features_as_of", *keys)
    expected = historical(store, case.service, asked, "features_as_of", own)
    differing = _differing(rows, expected.drop(asked.columns))
    newer = _newer(rows, materialized(case, ws, platform), told.end)
    unsure = _anywhere(differing) & newer.is_not_null()
    if unsure.any():
        # Value by value: one view may have been written already, and another not.
        then = asked.with_columns(features_as_of=newer).filter(unsure)
        again = historical(store, case.service, then, "features_as_of", own).drop(asked.columns)
        left = _differing(rows.filter(unsure), again)
        left = left.select(left[name] & differing.filter(unsure)[name] for name in left.columns)
        explained = unsure.arg_true().filter(~_anywhere(left))
        kept = ~pl.int_range(rows.height, eager=True).is_in(explained.implode())
        rows, expected, differing = rows.filter(kept), expected.filter(kept), differing.filter(kept)
        if len(explained):
            told = replace(told, excused={**told.excused, BEING_WRITTEN: len(explained)})
    return _told(rows, expected, differing, told)


def _differing(rows: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Say of each value whether it differs from what is expected of it."""
    return pl.DataFrame(
        {each.name: ~rows[each.name].cast(each.dtype).eq_missing(each) for each in expected.get_columns()}
    )


def _anywhere(differing: pl.DataFrame) -> pl.Series:
    """Say of each row whether any of its values differs."""
    return differing.with_columns(_=pl.lit(False)).select(pl.any_horizontal(pl.all())).to_series()


def _newer(rows: pl.DataFrame, online: datetime | None, end: datetime) -> pl.Series:
    """Return, of answers given shortly before newer features were taken up, up to when those reach; else null.

    `online` is what stands there at `end`, whether anybody was answered with it or not.
    """
    time = pl.col("request_time")
    first = rows.group_by("features_as_of").agg(taken_up=time.min())
    if online is not None and online not in first["features_as_of"]:
        unseen = {"features_as_of": [online], "taken_up": [end]}
        first = pl.concat([first, pl.DataFrame(unseen, schema=first.schema)])
    following = first.sort("features_as_of").with_columns(
        newer=pl.col("features_as_of").shift(-1), switched=pl.col("taken_up").shift(-1)
    )
    found = rows.select("features_as_of", "request_time").join(
        following, on="features_as_of", how="left", maintain_order="left"
    )
    near = time >= pl.col("switched") - _WRITING
    return found.select(pl.when(near).then(pl.col("newer")).alias("newer")).to_series()


def _told(rows: pl.DataFrame, expected: pl.DataFrame, differing: pl.DataFrame, told: Parity) -> Parity:
    differences: dict[str, int] = {}
    examples: list[Mapping[str, Any]] = []
    for column in differing.get_columns():
        if not column.any():
            continue
        name, place = column.name, int(column.arg_true()[0])
        differences[name] = int(column.sum())
        row = {"request_id": rows["request_id"][place], "feature": name}
        examples.append({**row, "served": str(rows[name][place]), "expected": str(expected[name][place])})
    values = rows.height * differing.width
    return replace(
        told, requests=rows.height, values=values, differences=differences, examples=tuple(examples[:_SHOWN])
    )
