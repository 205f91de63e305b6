"""Live workspaces: seeded once and whole, then fed by the action log."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import stub_case
from log_help import file_log
from plant_help import A_DAY, Plant

from pipelines.case_study import Batch
from pipelines.cli.data import _present
from pipelines.errors import DataError, LoopError, UsageError
from pipelines.flows import clock
from pipelines.flows.edge import bind
from pipelines.flows.feed import feed
from pipelines.flows.live import advance_world, bind_live, is_seeded, seed_live, turn
from pipelines.flows.overview import quarantined
from pipelines.flows.real import midnight_after_last
from pipelines.flows.serve import _require_whole
from pipelines.flows.work import take_in
from pipelines.steps.ingest import ingest
from pipelines.stores.action_log import ActionLog
from pipelines.stores.files import folder_digest
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

AS_OF, DAY = datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=1)


def test_seeding_copies_the_run_once_and_starts_the_clock(built: Plant) -> None:
    assert seed_live(built.project, "breakdown")
    ws = Workspace(built.live)
    assert clock.read(ws).now() == AS_OF
    assert folder_digest(ws.lake) == folder_digest(built.project.root / "runs" / "breakdown" / "lake")
    (ws.root / "mine").write_text("kept")
    assert not seed_live(built.project, "breakdown")
    assert (ws.root / "mine").read_text() == "kept"


def test_without_a_run_there_is_nothing_to_seed(plant: Plant) -> None:
    with pytest.raises(UsageError, match="make demo"):
        seed_live(plant.project, "breakdown")
    assert not plant.live.exists()


def test_a_half_seeded_workspace_is_refused(built: Plant) -> None:
    (built.live / "lake").mkdir(parents=True)
    for use in (seed_live, bind_live):
        with pytest.raises(LoopError, match="not seeded as a whole"):
            use(built.project, "breakdown")


def test_a_log_that_came_back_shorter_is_not_served(built: Plant) -> None:
    """What it gains would stand where rows were read already, and never be read."""
    seed_live(built.project, "breakdown")
    advance_world(built.project, "breakdown", 2)
    run = bind_live(built.project, "breakdown")
    take_in(run, clock.read(run.workspace).now())
    with file_log(run.workspace) as log:
        _require_whole(log, run)
    for path in (run.workspace.log).glob("actions.db*"):
        path.unlink()
    with file_log(run.workspace) as log:
        log.append("readings", stub_case.readings(a_day=1).head(1))
        with pytest.raises(DataError, match=r"ends at offset 1, but was read up to \d+ before"):
            _require_whole(log, run)


def test_seeding_that_is_killed_leaves_nothing(built: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.copytree

    def killed(source, target, *options, **named):  # type: ignore[no-untyped-def]
        if str(source).endswith("model"):
            raise KeyboardInterrupt
        return real(source, target, *options, **named)

    monkeypatch.setattr(shutil, "copytree", killed)
    with pytest.raises(KeyboardInterrupt):
        seed_live(built.project, "breakdown")
    monkeypatch.undo()
    assert not is_seeded(Workspace(built.live))
    assert not any(built.live.iterdir())


def test_the_world_goes_on_where_the_run_ended(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    assert advance_world(built.project, "breakdown", 2) == AS_OF + timedelta(days=2)
    assert advance_world(built.project, "breakdown", 1) == AS_OF + timedelta(days=3)
    batches = [batch for _, batch in file_log(Workspace(built.live)).read()]
    assert [batch.rows.height for batch in batches] == [A_DAY] * 3
    assert [batch.rows["read_at"].min() for batch in batches] == [
        AS_OF + timedelta(days=day) for day in range(3)
    ]
    assert bind_live(built.project, "breakdown").as_of == AS_OF + timedelta(days=3)


def test_days_written_twice_fold_into_one(built: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill after the rows and before the world's state: the same days come again."""
    seed_live(built.project, "breakdown")
    append = ActionLog.append

    def killed(self, table, rows):  # type: ignore[no-untyped-def]
        append(self, table, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(ActionLog, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        advance_world(built.project, "breakdown", 1)
    monkeypatch.setattr(ActionLog, "append", append)
    assert clock.read(Workspace(built.live)).now() == AS_OF
    advance_world(built.project, "breakdown", 1)

    from pipelines.steps.ingest import ingest_log

    run = bind_live(built.project, "breakdown")
    total = ingest_log(run.case, run.workspace, file_log(run.workspace), as_of=run.as_of).total
    assert (total.read, total.kept, total.duplicate) == (2 * A_DAY, A_DAY, A_DAY)


@pytest.mark.parametrize("days", [0, -1])
def test_a_world_advances_by_whole_days(built: Plant, days: int) -> None:
    seed_live(built.project, "breakdown")
    with pytest.raises(UsageError, match="whole days"):
        advance_world(built.project, "breakdown", days)


def test_a_workspace_without_a_world_cannot_advance(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    shutil.rmtree(built.live / "world")
    with pytest.raises(UsageError, match="holds no world"):
        advance_world(built.project, "breakdown", 1)


def test_flows_of_one_workspace_take_turns(plant: Plant) -> None:
    ws = Workspace(plant.live)
    with (
        turn(ws),
        pytest.raises(LoopError, match="another flow"),
        turn(ws, patience=0.1),
    ):
        pass
    with turn(ws, patience=0.1):
        (ws.root.parent / "mine").touch()


def test_the_wall_s_clock_takes_over_but_never_turns_back(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    ws = Workspace(built.live)
    assert abs(clock.follow_wall(ws).now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert not clock.read(ws).simulated and clock.follow_wall(ws) == clock.read(ws)
    with pytest.raises(UsageError, match="wall's clock"):
        clock.run_at(ws, 60.0)
    clock.write(ws, clock.simulated(datetime.now(UTC) + timedelta(days=1)))
    with pytest.raises(UsageError, match="has not come yet"):
        clock.follow_wall(ws)


def test_a_simulated_clock_can_be_let_run(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    ws = Workspace(built.live)
    running = clock.run_at(ws, 1440.0)
    wall = running.since
    assert wall is not None
    assert running.now(wall + timedelta(minutes=1)) == AS_OF + timedelta(days=1)
    with pytest.raises(UsageError, match="a day pass in a minute"):
        clock.run_at(ws, -1.0)


def test_what_is_not_live_yet_is_asleep(plant: Plant) -> None:
    from pipelines.flows.live import asleep

    assert "does not exist yet" in str(asleep(plant.project, "breakdown"))
    (plant.live / "lake").mkdir(parents=True)
    assert asleep(plant.project, "breakdown") is None, "what is there by half is an error, not a quiet day"


def test_real_users_are_not_advanced_by_a_world(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    ws = Workspace(built.live)
    clock.follow_wall(ws)
    before = folder_digest(ws.root)
    with pytest.raises(UsageError, match="no world advances it"):
        advance_world(built.project, "breakdown", 1)
    assert folder_digest(ws.root) == before


def test_rows_are_replayed_as_of_the_newest_that_were_taken_in(built: Plant) -> None:
    """A source's rows may have come long after the simulated present, and a live system's since midnight."""
    run = bind(built.project, "breakdown")
    assert _present(run, live=False) == AS_OF
    late = stub_case.readings(a_day=1).head(1).with_columns(reading_id=pl.lit("late"))
    ingest(
        run.case, run.workspace, [Batch("readings", late, "late.csv")], source="x", as_of=AS_OF + 200 * DAY
    )
    assert _present(run, live=False) == AS_OF + 200 * DAY
    seed_live(built.project, "breakdown")
    live = bind_live(built.project, "breakdown")
    clock.advance(live.workspace, timedelta(hours=7))
    assert _present(bind_live(built.project, "breakdown"), live=True) == AS_OF + timedelta(hours=7)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_of_a_file_enter_a_live_system_once_and_are_known_from_then_on(
    built: Plant, suffix: str
) -> None:
    seed_live(built.project, "breakdown")
    ws = Workspace(built.live)
    clock.advance(ws, timedelta(hours=7))
    rows = stub_case.readings(a_day=1, days=3).with_columns(reading_id=pl.format("new-{}", "reading_id"))
    file = built.project.root / f"late.{suffix}"
    (rows.write_csv if suffix == "csv" else rows.write_parquet)(file)
    if suffix == "csv":
        file.write_text(file.read_text() + "2026-02-01,r,2026-02-01T00:00:00Z,0.5,a,1,more\n")
    total = feed(built.project, "breakdown", "readings", file).total
    assert (total.kept, total.quarantined) == (3, int(suffix == "csv"))
    again = feed(built.project, "breakdown", "readings", file).total
    assert (again.kept, again.duplicate) == (0, 3)
    assert quarantined(ws) == int(suffix == "csv"), "once, however often it was read"
    lake = Lake(ws.lake, bind(built.project, "breakdown").case.tables)
    new = lake.scan("readings").filter(pl.col("reading_id").str.starts_with("new-")).collect()
    assert new["arrived_at"].unique().to_list() == [AS_OF + timedelta(hours=7)]


def test_what_cannot_be_fed_is_told_and_changes_nothing(built: Plant) -> None:
    file = built.project.root / "rows.csv"
    file.write_text("reading_id,heat\nr,1\n")
    with pytest.raises(UsageError, match=r"loop up|loop seed"):
        feed(built.project, "breakdown", "readings", file)
    seed_live(built.project, "breakdown")
    digest = folder_digest(Workspace(built.live).lake)
    with pytest.raises(DataError, match="readings has no column"):
        feed(built.project, "breakdown", "readings", file)
    with pytest.raises(DataError, match="there is no file"):
        feed(built.project, "breakdown", "readings", file.with_name("gone.csv"))
    assert folder_digest(Workspace(built.live).lake) == digest


def test_rows_of_today_wait_for_its_end(plant: Plant) -> None:
    run, today = bind(plant.project, "breakdown"), datetime.now(UTC)
    rows = stub_case.readings(a_day=1, days=2).with_columns(
        pl.lit(today).dt.cast_time_unit("us").alias("arrived_at")
    )
    ingest(run.case, run.workspace, [Batch("readings", rows, "x.csv")], source="x", as_of=today + DAY)
    assert midnight_after_last(run) <= datetime.now(UTC), "a clock that goes by the wall can begin there"


def test_a_source_of_which_no_row_can_be_used_is_told(plant: Plant) -> None:
    run = bind(plant.project, "breakdown")
    with pytest.raises(DataError, match="no row of readings could be used: `loop quarantine list breakdown"):
        midnight_after_last(run)
