"""Ingest: the manifest balances, twice is once, and bad input leaves the last good state."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from log_help import file_log
from machine_help import mounted
from tiny import START, tiny_batches, tiny_tables

from pipelines.case_study import Batch, CaseStudy, Observed
from pipelines.errors import DataError, LoopError, UsageError
from pipelines.steps.ingest import Manifest, Rows, ingest, ingest_log, manifests
from pipelines.steps.quarantine import show_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.quarantine import Quarantine
from pipelines.stores.schemas import REFUSED, REFUSED_SCHEMA, SERVED
from pipelines.stores.workspace import Workspace

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def read(case: CaseStudy, ws: Workspace, batches: list[Batch], **options: Any) -> Manifest:
    return ingest(case, ws, batches, **{"source": "tiny", "as_of": AS_OF, **options})


def changed(table: str, **columns: Any) -> Batch:
    return Batch(table, tiny_tables()[table].with_columns(**columns), origin=f"{table}.csv")


def at(row: int, wrong: Any, column: str) -> pl.Expr:
    """Put a wrong value in one row of a column."""
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(wrong)).otherwise(pl.col(column))


def balanced(manifest: Manifest) -> bool:
    counts = [*manifest.tables.values(), manifest.total]
    return all(rows.read == rows.kept + rows.duplicate + rows.quarantined for rows in counts)


def test_everything_is_read_once_and_written_down(case: CaseStudy, ws: Workspace) -> None:
    manifest = read(case, ws, tiny_batches(), observed=Observed())
    assert manifest.total == Rows(read=73, kept=73)
    assert manifest.digest == Lake(ws.lake, case.tables).digest()
    [written] = manifests(ws)
    assert written["total"] == asdict(manifest.total)
    assert written["source"] == "tiny"
    assert written["as_of"] == AS_OF.isoformat()
    assert written["observed"]["propensities"] is True


def test_twice_is_once(case: CaseStudy, ws: Workspace) -> None:
    first = read(case, ws, tiny_batches())
    files = sorted(ws.lake.glob("*/date=*/*"))
    second = read(case, ws, tiny_batches())
    assert second.total == Rows(read=73, duplicate=73)
    assert second.digest == first.digest
    assert sorted(ws.lake.glob("*/date=*/*")) == files


def test_two_workspaces_agree_whatever_the_batches(case: CaseStudy, tmp_path: Path) -> None:
    one, other = Workspace(tmp_path / "runs" / "a"), Workspace(tmp_path / "live" / "a")
    whole = read(case, one, tiny_batches())
    pieces = [
        replace(batch, rows=rows) for batch in reversed(tiny_batches()) for rows in batch.rows.iter_slices(4)
    ]
    assert read(case, other, pieces).digest == whole.digest


def test_bad_rows_go_to_quarantine_with_field_and_reason(case: CaseStudy, ws: Workspace) -> None:
    bad = changed(
        "impressions",
        propensity=at(3, 7.0, "propensity"),
        position=at(4, 0, "position"),
        request_id=at(3, None, "request_id"),
    )
    manifest = read(case, ws, [replace(bad, first_row=100)])
    assert manifest.tables["impressions"] == Rows(read=36, kept=34, quarantined=2)
    assert balanced(manifest)
    shown = {entry["row_number"]: entry for entry in show_quarantine(ws)}
    assert shown.keys() == {103, 104}
    assert {problem["field"]: problem["reason"] for problem in shown[103]["problems"]} == {
        "propensity": "'7.0' fails less_than_or_equal_to(1)",
        "request_id": "is null",
    }
    assert shown[103]["origin"] == "impressions.csv"
    assert shown[103]["row"]["propensity"] == 7.0


def test_quarantine_holds_a_row_once_however_often_it_is_read(case: CaseStudy, ws: Workspace) -> None:
    bad = changed("impressions", propensity=at(3, 7.0, "propensity"))
    read(case, ws, [bad])
    kept = {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")}
    again = read(case, ws, [bad])
    assert again.total == Rows(read=36, duplicate=35, quarantined=1)
    assert {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")} == kept
    assert len(show_quarantine(ws)) == 1


def test_values_are_read_as_the_schema_types_them(case: CaseStudy, ws: Workspace) -> None:
    text = changed("impressions", position=pl.col("position").cast(pl.String), explored=pl.lit("True"))
    number = changed("videos", duration_seconds=pl.lit(12, pl.Int64), title=pl.lit(7, pl.Int64))
    assert read(case, ws, [text, number]).total.quarantined == 0
    lake = Lake(ws.lake, case.tables)
    assert lake.scan("impressions").collect()["position"].sort().to_list() == [1] * 12 + [2] * 12 + [3] * 12
    assert lake.scan("videos").collect()["title"].unique().to_list() == ["7"]


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("position", ["1", "x", "2"], "'x' cannot be read as Int32"),
        ("position", [1.0, 1.5, 2.0], "1.5 cannot be read as Int32"),
        ("position", [1, 2**40, 2], "1099511627776 cannot be read as Int32"),
        ("impression_id", ["a", "", "b"], "fails str_length(1, None)"),
        ("impression_id", ["a", None, "b"], "is null, but rows are told apart by it"),
        ("propensity", [0.1, float("inf"), 0.2], "inf cannot be read as Float64"),
        ("propensity", ["0.1", "-Infinity", "0.2"], "cannot be read as Float64"),
        ("impression_time", pl.Series([0, 10**17, 1], dtype=pl.Datetime("ms", "UTC")), "cannot be read as"),
        ("explored", ["true", "perhaps", "false"], "'perhaps' cannot be read as Boolean"),
        (
            "impression_time",
            ["2026-01-01T00:00:00Z", "soon", "2026-01-02 00:00:00.5+02:00"],
            "'soon' cannot be",
        ),
    ],
)
def test_a_wrong_value_spoils_its_row_alone(
    case: CaseStudy, ws: Workspace, column: str, values: list[Any], reason: str
) -> None:
    rows = tiny_tables()["impressions"].head(3).with_columns(pl.Series(column, values))
    assert read(case, ws, [Batch("impressions", rows, "impressions.csv")]).total.quarantined == 1
    [entry] = show_quarantine(ws)
    assert entry["row_number"] == 2
    [problem] = entry["problems"]
    assert problem["field"] == column
    assert reason in problem["reason"]


def test_nan_is_a_missing_value(case: CaseStudy, ws: Workspace) -> None:
    assert read(case, ws, [changed("actions", value=pl.lit(float("nan")))]).total.quarantined == 0
    assert Lake(ws.lake, case.tables).scan("actions").collect()["value"].null_count() == 12


def test_nan_in_text_is_one_too(case: CaseStudy, ws: Workspace) -> None:
    assert read(case, ws, [changed("actions", value=pl.lit("NaN"))]).total.quarantined == 0
    values = Lake(ws.lake, case.tables).scan("actions").collect()["value"]
    assert values.null_count() == 12 and not values.is_nan().any()


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (lambda: changed("actions", wach=pl.lit(1)), "actions.csv.*'wach'"),
        (
            lambda: replace(changed("actions"), rows=tiny_tables()["actions"].drop("user_id")),
            "actions.csv.*no column 'user_id'",
        ),
        (lambda: changed("actions", value=pl.col("action_time")), "actions.csv.*'value'.*Float64"),
        (
            lambda: changed("actions", action_time=pl.lit(1356998400)),
            "actions.csv.*'action_time'.*from_epoch",
        ),
        (lambda: changed("actions", user_id=pl.lit(5.0)), "actions.csv.*'user_id'.*String"),
        (lambda: changed("impressions", position=pl.lit("first")), "'position'.*none of 36 values.*'first'"),
        (lambda: replace(changed("actions"), table="acions"), "no table 'acions'.*did you mean 'actions'"),
    ],
)
def test_wrong_columns_refuse_the_whole_file(case: CaseStudy, ws: Workspace, batch: Any, words: str) -> None:
    before = read(case, ws, tiny_batches(requests_a_day=2)).digest
    with pytest.raises(DataError, match=words):
        read(case, ws, [*tiny_batches(), batch()])
    assert Lake(ws.lake, case.tables).digest() == before
    assert not ws.quarantine.exists()


@pytest.mark.parametrize(
    "naive",
    [
        pl.col("action_time").dt.replace_time_zone(None),
        pl.col("action_time").dt.date(),
        pl.col("action_time").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.col("action_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.f"),
    ],
)
def test_naive_times_need_a_zone(case: CaseStudy, ws: Workspace, naive: pl.Expr) -> None:
    batch = changed("actions", action_time=naive)
    with pytest.raises(DataError, match=r"'action_time'.*without a time zone.*zone="):
        read(case, ws, [batch])
    assert not (ws.lake / "actions").exists()
    manifest = read(case, ws, [batch], zone="Asia/Tokyo")
    assert manifest.zone == manifests(ws)[0]["zone"] == "Asia/Tokyo"
    first = Lake(ws.lake, case.tables).scan("actions").collect()["action_time"].min()
    assert isinstance(first, datetime)
    local = batch.rows["action_time"].cast(pl.String).sort()[0]
    assert first == datetime.fromisoformat(local).replace(tzinfo=UTC) - timedelta(hours=9)


def test_an_hour_that_never_was_is_quarantined(case: CaseStudy, ws: Workspace) -> None:
    times = pl.Series("action_time", [datetime(2026, 3, 29, 1, 30), datetime(2026, 3, 29, 2, 30)])  # noqa: DTZ001
    rows = tiny_tables()["actions"].head(2).with_columns(times)
    manifest = read(case, ws, [Batch("actions", rows, "actions.csv")], zone="Europe/Paris")
    assert manifest.total == Rows(read=2, kept=1, quarantined=1)


def test_an_unknown_zone_is_named(case: CaseStudy, ws: Workspace) -> None:
    with pytest.raises(UsageError, match="unknown time zone 'Mars/Olympus'"):
        read(case, ws, tiny_batches(), zone="Mars/Olympus")


def test_late_and_disordered_rows_land_in_their_own_date(case: CaseStudy, ws: Workspace) -> None:
    rows = tiny_tables()["actions"].with_columns(arrived_at=pl.lit(AS_OF - DAY))
    read(case, ws, [Batch("actions", rows.reverse(), "actions.csv")])
    assert Lake(ws.lake, case.tables).dates("actions") == [date(2026, 1, day) for day in (1, 2, 3)]


def test_rows_that_arrive_after_as_of_are_left_for_later(case: CaseStudy, ws: Workspace) -> None:
    early = read(case, ws, tiny_batches(), as_of=START + DAY)
    assert 0 < early.total.later < 73
    assert early.total.read + early.total.later == 73
    seen = Lake(ws.lake, case.tables).scan("actions").collect()["arrived_at"].max()
    assert isinstance(seen, datetime)
    assert seen <= START + DAY
    assert read(case, ws, tiny_batches()).total.kept == early.total.later


@pytest.mark.parametrize(
    ("batches", "as_of", "words"),
    [
        ([], AS_OF, "source 'tiny' has no rows"),
        ([Batch("actions", tiny_tables()["actions"].clear(), "actions.csv")], AS_OF, "has no rows"),
        (tiny_batches(), START - 300 * DAY, "all 73 rows of source 'tiny' arrive after"),
    ],
)
def test_an_empty_input_is_told(
    case: CaseStudy, ws: Workspace, batches: list[Batch], as_of: datetime, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read(case, ws, batches, as_of=as_of)
    assert manifests(ws) == []


def test_an_empty_day_among_others_is_a_warning(
    case: CaseStudy, ws: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    empty = Batch("actions", tiny_tables()["actions"].clear(), "day2.csv")
    manifest = read(case, ws, [*tiny_batches()[:4], empty])
    assert manifest.tables["actions"] == Rows()
    assert "no rows for actions" in caplog.text


def test_a_file_that_breaks_off_is_named(case: CaseStudy, ws: Workspace, tmp_path: Path) -> None:
    torn = tmp_path / "actions.parquet"
    tiny_tables()["actions"].write_parquet(torn)
    torn.write_bytes(torn.read_bytes()[:200])

    def batches() -> Iterator[Batch]:
        yield from tiny_batches()[:2]
        yield Batch("actions", pl.read_parquet(torn), "actions.parquet")

    with pytest.raises(DataError, match=r"source 'tiny' cannot be read after row 8 of videos.csv"):
        ingest(case, ws, batches(), source="tiny", as_of=AS_OF)
    assert Lake(ws.lake, case.tables).rows("users") == 0


def test_what_a_source_does_not_observe_it_may_not_state(case: CaseStudy, ws: Workspace) -> None:
    with pytest.raises(DataError, match="'propensity' has values, but tiny does not observe it"):
        read(case, ws, tiny_batches(), observed=Observed(propensities=False))
    honest = changed("impressions", propensity=pl.lit(None, pl.Float64))
    assert read(case, ws, [honest], observed=Observed(propensities=False)).total.kept == 36


def test_a_naive_as_of_is_refused(case: CaseStudy, ws: Workspace) -> None:
    with pytest.raises(UsageError, match="has no time zone"):
        read(case, ws, tiny_batches(), as_of=datetime(2026, 1, 1))  # noqa: DTZ001


# --- the log --------------------------------------------------------------------------------------


def test_the_log_is_read_once_by_watermark(case: CaseStudy, ws: Workspace) -> None:
    log = file_log(ws)
    for batch in tiny_batches():
        log.append(batch.table, batch.rows)
    first = ingest_log(case, ws, log, as_of=AS_OF)
    assert first.total == Rows(read=73, kept=73)
    idle = ingest_log(case, ws, log, as_of=AS_OF)
    assert (idle.total, idle.number, idle.digest) == (Rows(), 0, first.digest)
    log.append("actions", tiny_tables(days=4)["actions"])
    assert ingest_log(case, ws, log, as_of=AS_OF).total == Rows(read=16, kept=4, duplicate=12)
    assert len(manifests(ws)) == 2


def test_what_was_refused_at_the_door_is_quarantined_and_what_was_served_is_passed_over(
    case: CaseStudy, ws: Workspace
) -> None:
    log = file_log(ws)
    columns = {"table": "actions", "field": "token", "reason": "forged", "row": '{"action_id": "a1"}'}
    refused = pl.DataFrame([{"arrived_at": START + day * DAY, **columns} for day in (0, 400)])
    log.append(SERVED, pl.DataFrame({"request_id": ["r1"]}))
    log.append(REFUSED, refused.cast(dict(REFUSED_SCHEMA)))
    manifest = ingest_log(case, ws, log, as_of=AS_OF)
    assert manifest.total == Rows(read=1, quarantined=1, later=1)
    assert manifest.summary().endswith(f"1 quarantined; 1 arrive after {AS_OF:%Y-%m-%d %H:%M} and wait")
    (entry,) = Quarantine(ws.quarantine, ws.lake.name).entries("actions")
    assert (entry.row, list(entry.problems)) == (
        {"action_id": "a1"},
        [{"field": "token", "reason": "forged"}],
    )
    assert ingest_log(case, ws, log, as_of=AS_OF + DAY).total.read == 0
    assert ingest_log(case, ws, log, as_of=START + 401 * DAY).total == Rows(read=1, quarantined=1)


def test_days_read_one_by_one_from_the_log_come_to_the_whole(case: CaseStudy, tmp_path: Path) -> None:
    live, runs = Workspace(tmp_path / "live" / "x"), Workspace(tmp_path / "runs" / "x")
    log = file_log(live)
    read_rows = 0
    for day in range(1, 7):
        if day in (1, 3):
            for batch in tiny_batches(days=6):
                log.append(batch.table, batch.rows.gather_every(2, offset=day // 2))
        manifest = ingest_log(case, live, log, as_of=START + day * DAY)
        assert balanced(manifest)
        read_rows += manifest.total.read
    last = ingest_log(case, live, log, as_of=AS_OF)
    whole = read(case, runs, tiny_batches(days=6))
    assert read_rows + last.total.read == whole.total.read
    assert last.digest == whole.digest


def test_time_does_not_run_backwards_for_the_log(case: CaseStudy, ws: Workspace) -> None:
    log = file_log(ws)
    log.append("actions", tiny_tables()["actions"])
    ingest_log(case, ws, log, as_of=START + DAY)
    log.append("users", tiny_tables()["users"])
    assert ingest_log(case, ws, log, as_of=START).total == Rows()
    assert ingest_log(case, ws, log, as_of=AS_OF).total.kept == 5 + 8


# --- a bad machine --------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_good_state(
    case: CaseStudy, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(case, ws, tiny_batches())
    with monkeypatch.context() as patch:

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(LoopError, match=r"is full.*last good state.*free some space"):
            read(case, ws, tiny_batches(days=5))
    assert Lake(ws.lake, case.tables).digest() == before.digest
    assert {path.name for path in ws.root.iterdir()} == {"lake", ".lake.lock"}
    assert read(case, ws, tiny_batches(days=5)).total.kept > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 3) as disk:
        yield disk


def test_a_disk_that_really_fills_up(case: CaseStudy, small_disk: Path) -> None:
    ws = Workspace(small_disk / "live" / "x")
    before = read(case, ws, tiny_batches())
    with pytest.raises(LoopError, match="is full"):
        read(case, ws, tiny_batches(days=30, requests_a_day=1500))
    assert Lake(ws.lake, case.tables).digest() == before.digest
    assert read(case, ws, tiny_batches(days=4)).total.kept > 0


def test_a_second_process_is_told_so(case: CaseStudy, ws: Workspace) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pipelines.stores.workspace import Workspace\n"
            "from pipelines.stores.transaction import transaction\n"
            "ws = Workspace(Path(sys.argv[1]))\n"
            "with ws.lock(), transaction(ws.root, 'lake'):\n print('held', flush=True); sys.stdin.read()",
            str(ws.root),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LoopError, match="another process is writing"):
            read(case, ws, tiny_batches())
        with pytest.raises(LoopError, match="another process is working in"), ws.lock():
            pass
    finally:
        holder.stdin.close()
        holder.wait(10)
    with ws.lock():
        assert read(case, ws, tiny_batches()).total.kept == 73
