"""The lake: each key once, in its own date, whatever the batching and the order."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tiny import START, tiny_tables, typed

from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.errors import LoopError, UsageError
from pipelines.stores.engine import connect, scan, to_polars
from pipelines.stores.lake import Appended, Lake
from pipelines.stores.schemas import polars_schema

DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", TABLES)


def action(number: int, time: datetime, arrived: datetime, value: float = 1.0) -> dict[str, object]:
    return {
        "action_id": f"a{number}",
        "impression_id": None,
        "action": "click",
        "value": value,
        "action_time": time,
        "user_id": "u",
        "video_id": "v",
        "arrived_at": arrived,
    }


def actions(*rows: dict[str, object]) -> pl.DataFrame:
    return typed("actions", {name: [row[name] for row in rows] for name in rows[0]})


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_an_empty_table_is_typed(lake: Lake, table: str) -> None:
    found = lake.scan(table, START, START + DAY, START).collect()
    assert found.height == 0
    assert found.schema == polars_schema(lake.tables[table].schema)


def test_rows_come_back_as_they_went_in(lake: Lake) -> None:
    for name, rows in tiny_tables().items():
        assert lake.append(name, rows) == Appended(rows.height, 0)
        key = lake.tables[name].key
        assert_frame_equal(lake.scan(name).sort(key).collect(), rows.sort(key))
        assert lake.rows(name) == rows.height


def test_rows_stand_in_the_utc_date_of_their_own_time(lake: Lake) -> None:
    late = START + 9 * DAY
    lake.append("actions", actions(action(1, START, START), action(2, START + DAY, START + DAY)))
    lake.append("actions", actions(action(3, START + timedelta(hours=23, minutes=59), late)))
    assert lake.dates("actions") == [date(2026, 1, 1), date(2026, 1, 2)]
    first = pl.concat(pl.read_parquet(file) for file in lake.files("actions", START, START + DAY))
    assert sorted(first["action_id"]) == ["a1", "a3"]


def test_bounds_are_half_open_and_arrival_counts(lake: Lake) -> None:
    lake.append("actions", actions(*(action(n, START + n * DAY, START + (n + 1) * DAY) for n in range(5))))

    def found(*bounds: datetime | None) -> list[str]:
        return sorted(lake.scan("actions", *bounds).collect()["action_id"])

    assert found(START + DAY, START + 3 * DAY) == ["a1", "a2"]
    assert found(START + DAY, None) == ["a1", "a2", "a3", "a4"]
    assert found(None, START + DAY) == ["a0"]
    assert found(None, None, START + 2 * DAY) == ["a0"]
    assert found(START + timedelta(hours=1), START + DAY + timedelta(seconds=1)) == ["a1"]


def test_undated_rows_belong_to_every_range_without_a_start(lake: Lake) -> None:
    videos = tiny_tables()["videos"].with_columns(
        published_at=pl.when(pl.col("video_id") != "v0").then("published_at")
    )
    lake.append("videos", videos)
    assert (lake.root / "videos" / "date=undated").is_dir()
    assert lake.scan("videos", end=START).collect().height == 8
    assert lake.scan("videos", end=START - 100 * DAY).collect()["video_id"].to_list() == ["v0"]
    assert "v0" not in lake.scan("videos", start=START - 100 * DAY).collect()["video_id"]


def test_a_key_stands_once_even_under_another_date(lake: Lake) -> None:
    lake.append("actions", actions(action(1, START, START)))
    again = actions(action(1, START + 3 * DAY, START + 3 * DAY), action(2, START, START))
    assert lake.append("actions", again) == Appended(1, 1)
    assert lake.scan("actions").sort("action_id").collect()["action_time"].to_list() == [START, START]


def test_of_new_rows_with_one_key_the_first_to_arrive_stays(lake: Lake) -> None:
    rows = actions(
        action(1, START + 2 * DAY, START + 2 * DAY, 3.0),
        action(1, START + DAY, START + DAY, 2.0),
        action(1, START + 3 * DAY, START + 3 * DAY, 4.0),
    )
    assert lake.append("actions", rows) == Appended(1, 2)
    assert lake.scan("actions").collect()["value"].to_list() == [2.0]


def test_what_was_kept_is_never_rewritten(lake: Lake) -> None:
    lake.append("actions", actions(action(1, START, START)))
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in lake.files("actions")}
    lake.append("actions", actions(action(2, START, START + DAY)))
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before} == before
    assert len(lake.files("actions")) == 2


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    rows = tiny_tables(days=2, requests_a_day=40)["impressions"]
    kept = []
    for number, seed in enumerate((None, 1, 2)):
        lake = Lake(tmp_path / str(number) / "lake", TABLES)
        shuffled = rows if seed is None else rows.sample(fraction=1.0, shuffle=True, seed=seed)
        with lake.writing() as writer:
            for piece in shuffled.iter_slices(rows.height if seed is None else 17):
                writer.add("impressions", piece)
            writer.fold()
            writer.commit()
        kept.append({file.relative_to(lake.root): file.read_bytes() for file in lake.files("impressions")})
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize(
    ("start", "end", "arrived"),
    [
        (None, None, None),
        (START + DAY, START + 2 * DAY, None),
        (START + timedelta(hours=5), START + timedelta(hours=40), None),
        (None, START + timedelta(hours=30), None),
        (START, None, START + timedelta(hours=50)),
        (None, None, START + timedelta(hours=29)),
    ],
)
def test_digest_is_that_of_the_rows_that_scan_yields(
    tmp_path: Path, start: datetime | None, end: datetime | None, arrived: datetime | None
) -> None:
    whole, part = Lake(tmp_path / "whole" / "lake", TABLES), Lake(tmp_path / "part" / "lake", TABLES)
    for name, rows in tiny_tables(requests_a_day=10).items():
        for piece in rows.iter_slices(-(-rows.height // 2)):
            whole.append(name, piece)
        part.append(name, whole.scan(name, start, end, arrived).collect())
    assert whole.digest(start, end, arrived) == part.digest()
    assert (whole.digest(start, end, arrived) == whole.digest()) == (
        (start, end, arrived) == (None, None, None)
    )


def test_digest_sees_every_change(tmp_path: Path) -> None:
    def digest(number: int, **changes: pl.Expr) -> str:
        lake = Lake(tmp_path / str(number) / "lake", TABLES)
        for name, rows in tiny_tables().items():
            lake.append(name, rows.with_columns(**changes) if name == "videos" else rows)
        return lake.digest()

    changes = [
        {},
        {"title": pl.lit(None, pl.String)},
        {"title": pl.lit("")},
        {"genres": pl.col("genres").list.reverse()},
        {"genres": pl.lit(None, pl.List(pl.String))},
        {"duration_seconds": pl.col("duration_seconds") + 1e-12},
        {"arrived_at": pl.col("arrived_at") + timedelta(microseconds=1)},
    ]
    digests = [digest(number, **change) for number, change in enumerate(changes)]
    assert len(set(digests)) == len(changes)


def test_an_unknown_table_names_the_nearest(lake: Lake) -> None:
    with pytest.raises(UsageError, match="did you mean 'impressions'"):
        lake.scan("impresions")


def test_a_second_writer_is_told_so_and_readers_go_on(lake: Lake) -> None:
    lake.append("actions", actions(action(1, START, START)))
    other = Lake(lake.root, TABLES)
    with lake.writing() as writer:
        writer.add("actions", actions(action(2, START, START)))
        writer.fold()
        with pytest.raises(LoopError, match="another process is writing"):
            other.append("actions", actions(action(3, START, START)))
        assert other.rows("actions") == 1
        writer.commit()
        assert other.rows("actions") == 2


def test_nothing_is_kept_without_commit(lake: Lake) -> None:
    lake.append("actions", actions(action(1, START, START)))
    before = lake.digest()
    with pytest.raises(ZeroDivisionError), lake.writing() as writer:
        writer.add("actions", actions(action(2, START, START)))
        writer.fold()
        raise ZeroDivisionError
    assert lake.digest() == before
    assert {path.name for path in lake.root.parent.iterdir()} == {"lake", ".lake.lock"}


rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([1.0, 2.0]),
    ),
    min_size=1,
    max_size=25,
)


def pieces(rows: list[dict[str, object]], rng: random.Random) -> Iterator[list[dict[str, object]]]:
    """Cut rows into batches at random."""
    while rows:
        size = rng.randint(1, len(rows))
        yield rows[:size]
        rows = rows[size:]


@settings(max_examples=12)
@given(drawn=rows_strategy, rng=st.randoms(use_true_random=False))
def test_any_batching_and_order_folds_alike(
    drawn: list[tuple[int, int, int, float]], rng: random.Random
) -> None:
    rows = [action(key, START + day * DAY, START + late * DAY, value) for key, day, late, value in drawn]
    first: dict[str, datetime] = {}
    for row in rows:
        key, arrived = str(row["action_id"]), row["arrived_at"]
        assert isinstance(arrived, datetime)
        first[key] = min(first.get(key, arrived), arrived)
    digests = set()
    for _ in range(2):
        shuffled = rng.sample(rows, len(rows))
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(Path(folder) / "lake", TABLES)
            with lake.writing() as writer:
                for piece in pieces(shuffled, rng):
                    writer.add("actions", actions(*piece))
                appended = writer.fold()["actions"]
                foretold = writer.digest()
                writer.commit()
            assert lake.digest() == foretold
            found = lake.scan("actions").collect()
            digests.add(lake.digest())
        assert appended == Appended(len(first), len(rows) - len(first))
        assert dict(zip(found["action_id"], found["arrived_at"], strict=True)) == first
    assert len(digests) == 1


@settings(max_examples=8)
@given(drawn=rows_strategy, rng=st.randoms(use_true_random=False))
def test_separate_appends_in_order_of_arrival_make_the_same_lake_as_one(
    drawn: list[tuple[int, int, int, float]], rng: random.Random
) -> None:
    rows = [
        action(key, START + day * DAY, START + late * DAY + number * timedelta(seconds=1), value)
        for number, (key, day, late, value) in enumerate(drawn)
    ]
    with tempfile.TemporaryDirectory() as folder:
        once, often = Lake(Path(folder) / "a" / "lake", TABLES), Lake(Path(folder) / "b" / "lake", TABLES)
        once.append("actions", actions(*rows))
        ordered = sorted(rows, key=lambda row: str(row["arrived_at"]))
        for piece in pieces(ordered, rng):
            often.append("actions", actions(*piece))
        assert once.digest() == often.digest()


def test_files_from_before_a_column_was_declared_hold_nulls_there_and_hash_as_they_did(lake: Lake) -> None:
    rows = tiny_tables()["requests"]
    lake.append("requests", rows.head(6))
    for file in lake.files("requests"):
        pl.read_parquet(file).drop("arm").write_parquet(file)
    before = lake.digest(arrived_before=START + 30 * DAY)
    assert before == lake.digest(), "the hash of a row without the column is the one in its file's name"
    assert lake.append("requests", rows) == Appended(rows.height - 6, 6)
    table = lake.tables["requests"]
    assert_frame_equal(lake.scan("requests").sort("request_id").collect(), rows.sort("request_id"))
    with connect() as backend:
        for files in (lake.files("requests"), lake.files("requests")[:1]):
            assert to_polars(scan(backend, table, files), backend)["arm"].is_null().all()
    assert lake.digest(arrived_before=START + 30 * DAY) == lake.digest()


def test_an_arm_is_part_of_a_rows_hash(lake: Lake, tmp_path: Path) -> None:
    rows = tiny_tables()["impressions"]
    lake.append("impressions", rows)
    other = Lake(tmp_path / "other", TABLES)
    other.append("impressions", rows.with_columns(arm=pl.lit("treatment")))
    assert lake.digest() != other.digest()
