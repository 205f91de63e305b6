"""The same days come out however they are asked for, and a stored world says when it is not the one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from world_help import SMALL, START, Log, draw

from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.cases.video_recommendation.world import WORLD, VideoWorld
from pipelines.errors import UsageError
from pipelines.world.state import midnight, read_clock

LATE = {"delivery": {"late_share": 0.2}}


def _same(left: Log, right: Log) -> None:
    assert sorted(left) == sorted(right)
    for table, rows in left.items():
        assert_frame_equal(rows, right[table])


def test_days_one_by_one_are_the_days_at_once(tmp_path: Path) -> None:
    at_once = draw(tmp_path / "a", days=5, **LATE)
    singly = [draw(tmp_path / "b", days=1, start=START + timedelta(days=day), **LATE) for day in range(5)]
    joined = {table: pl.concat([day[table] for day in singly if table in day]) for table in at_once}
    _same(at_once, joined)
    for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_seeds_differ(tmp_path: Path) -> None:
    one, other = draw(tmp_path / "a", days=1), draw(tmp_path / "b", days=1, seed=4)
    assert not one["requests"].equals(other["requests"])


def test_rows_do_not_follow_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys, hashlib, polars as pl; from pathlib import Path; from world_help import draw\n"
        "log = draw(Path(sys.argv[1]), days=2)\n"
        "print(hashlib.sha256(''.join(t + log[t].write_json() for t in sorted(log)).encode()).hexdigest())"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    here = draw(tmp_path / "here", days=2)
    text = "".join(table + here[table].write_json() for table in sorted(here))
    assert digests == {hashlib.sha256(text.encode()).hexdigest() + "\n"}


def test_rows_fit_the_tables(tmp_path: Path) -> None:
    log = draw(tmp_path, delivery={"malformed_share": 0})
    for table in TABLES:
        rows = log[table.name]
        assert_frame_equal(table.schema.validate(rows, lazy=True), rows)
        again = rows.filter(rows.select(table.key).is_duplicated())
        assert again.height < 0.02 * rows.height
        fields = [name for name in rows.columns if name != "arrived_at"]
        assert again.select(fields).unique().height == again.select(table.key).unique().height


def test_rows_come_on_the_day_they_arrive(tmp_path: Path) -> None:
    late = 0
    for batch in WORLD.rows(VideoWorld.model_validate({**SMALL, **LATE}), 3, START, 4, tmp_path):
        day = pl.lit(batch.origin.removeprefix("world/")).str.to_datetime(time_zone="UTC")
        arrived = batch.rows["arrived_at"]
        assert arrived.is_sorted()
        assert batch.rows.select((pl.col("arrived_at") < day + pl.duration(days=1)).all()).item()
        if batch.table not in ("users", "videos"):
            assert batch.rows.select((pl.col("arrived_at") >= day).all()).item()
        if batch.table == "actions":
            late += batch.rows.filter(pl.col("action_time") < day).height
    assert late > 50


def test_some_rows_are_spoiled_and_some_come_twice(tmp_path: Path) -> None:
    log = draw(tmp_path, delivery={"malformed_share": 0.05, "duplicate_share": 0.05})
    for table in ("impressions", "actions"):
        rows = log[table]
        assert 0.03 < rows["user_id"].null_count() / rows.height < 0.07
        assert 0.03 < 1 - rows[f"{table.removesuffix('s')}_id"].n_unique() / rows.height < 0.07


def test_a_killed_run_is_repeated(tmp_path: Path) -> None:
    batches = WORLD.rows(VideoWorld.model_validate(SMALL), 3, START, 3, tmp_path / "state")
    next(batches)
    batches.close()
    assert read_clock(tmp_path / "state") is None
    _same(draw(tmp_path / "state", days=3), draw(tmp_path / "other", days=3))
    clock = read_clock(tmp_path / "state")
    assert clock is not None
    assert (clock.origin, clock.next_day) == (START, START + timedelta(days=3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": START}, "goes on at 2026-01-06"),
        ({"seed": 9}, "another seed"),
        ({"users": 301}, "other params"),
        ({"scenario": {"name": "concept", "day": 0}}, "other params"),
    ],
)
def test_another_world_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    draw(tmp_path, days=1)
    with pytest.raises(UsageError, match=words):
        draw(tmp_path, **{"days": 1, "start": START + timedelta(days=1), **changes})  # type: ignore[arg-type]


def test_a_scenario_may_be_put_in_before_its_day(tmp_path: Path) -> None:
    draw(tmp_path / "a", days=2)
    planned = {"scenario": {"name": "concept", "day": 2}}
    late = draw(tmp_path / "a", days=2, start=START + timedelta(days=2), **planned)
    whole = draw(tmp_path / "b", days=4, **planned)
    after = START + timedelta(days=2)
    assert_frame_equal(late["requests"], whole["requests"].filter(pl.col("arrived_at") >= after))


def test_midnights() -> None:
    assert midnight(0).isoformat() == "1970-01-01T00:00:00+00:00"
