"""A training row holds what could be known at its own time: nothing that came later, and all that stood."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from contract_help import copied, everything, known_by, opened, training_rows, window
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.case_study import Table
from pipelines.flows.edge import Run
from pipelines.steps.features import build_features
from pipelines.steps.train import train
from pipelines.stores.feature_store import open_store
from pipelines.stores.files import read_json
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

SECOND = 1_000_000
DAY = 86_400 * SECOND
STRANGERS = 30


@settings(
    max_examples=3,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(hours=st.integers(0, 48), seed=st.integers(0, 2**31))
def test_rows_of_the_future_and_late_corrections_change_no_training_row(finished, hours, seed) -> None:
    """Rows that happen or arrive at a moment or later leave no trace in what is learned at that moment."""
    run: Run = finished.run
    start, end = window(run)
    moment = end - timedelta(hours=hours)
    with tempfile.TemporaryDirectory() as folder:
        before = known_by(run, moment, Path(folder) / "before")
        build_features(run.case, before, moment)
        after = copied(run, Path(folder) / "after", "lake", "features")
        disturb(run, after, moment, np.random.default_rng(seed))
        build_features(run.case, after, run.as_of)
        wanted = training_rows(opened(run, before, start, moment), run.case)
        found = training_rows(opened(run, after, start, moment), run.case)
    assert wanted.height > 0
    assert found.equals(wanted)


def test_a_model_is_made_of_what_was_known_at_the_end_of_its_window(finished, tmp_path: Path) -> None:
    """Train again where later rows never existed: the same model, digest by digest."""
    run: Run = finished.run
    _, end = window(run)
    before = known_by(run, end, tmp_path)
    build_features(run.case, before, run.as_of)
    again = train(run.case, before, run.as_of, run.params, run.project.platform, run.protocol)
    assert again.digest == read_json(run.workspace.model / "manifest.json")["digest"]


def test_features_are_those_of_a_brute_force_join(finished) -> None:
    """For a sample of training rows, look through all snapshots of each view for what stood at their time."""
    run: Run = finished.run
    start, end = window(run)
    dataset = opened(run, run.workspace, start, end)
    labels = dataset.labels()
    rows = labels.sample(min(200, labels.height), seed=1)
    found = dataset.historical(rows, run.case.label.time)
    store = open_store(run.case, run.workspace, run.project.platform)
    projections = store.get_feature_service(run.case.service).feature_view_projections
    keys = {table.name: table.keys for table in run.case.features}
    known = 0
    for projection in projections:
        names = [feature.name for feature in projection.features]
        ttl = store.get_feature_view(projection.name).ttl
        snapshots = pl.read_parquet(
            str(run.workspace.features / projection.name / "*" / "*.parquet"), hive_partitioning=False
        )
        history = snapshots.partition_by(keys[projection.name], as_dict=True)
        for row, features in zip(rows.iter_rows(named=True), found.select(names).iter_rows(), strict=True):
            key = tuple(row[name] for name in keys[projection.name])
            wanted = standing(history.get(key), row[run.case.label.time], ttl, names)
            assert features == wanted, f"{projection.name} of {key} at {row[run.case.label.time]}"
            known += any(value is not None for value in features)
    assert known > 0, "no training row has any feature: the tiny world's window is too short"


def standing(
    snapshots: pl.DataFrame | None, at: datetime, ttl: timedelta | None, names: list[str]
) -> tuple[object, ...]:
    """Return an entity's newest features at a moment, nulls where there are none or they have expired."""
    newest: dict[str, object] = {}
    for row in snapshots.iter_rows(named=True) if snapshots is not None else ():
        young = not ttl or row["event_timestamp"] >= at - ttl
        if row["event_timestamp"] <= at and row["created_timestamp"] <= at and young:
            newest = max(newest or row, row, key=lambda each: each["event_timestamp"])
    return tuple(newest.get(name) for name in names)


def disturb(run: Run, ws: Workspace, moment: datetime, rng: np.random.Generator) -> None:
    """Add rows of every table that happen, or arrive, at a moment or later; some of them on the moment."""
    with Lake(ws.lake, run.case.tables).writing() as writer:
        for name, rows in everything(run):
            table = run.case.table(name)
            some = rows.sample(
                min(STRANGERS, rows.height), with_replacement=False, seed=int(rng.integers(2**31))
            )
            writer.add(name, future(some, table, moment, rng))
            writer.add(name, late(some, table, moment, rng))
            writer.add(name, corrections(some, table, moment, rng))
        appended = writer.fold()
        assert all(rows.kept and rows.duplicate for rows in appended.values())
        writer.commit()


def future(rows: pl.DataFrame, table: Table, moment: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Make rows that happen at the moment or in the days after it."""
    later = delays(rows, moment, rng)
    return renamed(rows, table, "future").with_columns(later.alias(table.time), later.alias("arrived_at"))


def late(rows: pl.DataFrame, table: Table, moment: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Make rows that happened when others did, and arrive at the moment or after it."""
    return renamed(rows, table, "late").with_columns(delays(rows, moment, rng).alias("arrived_at"))


def corrections(rows: pl.DataFrame, table: Table, moment: datetime, rng: np.random.Generator) -> pl.DataFrame:
    """Make rows that say something else of what is known already, under the same keys."""
    said = [name for name in rows.columns if name not in (*table.key, table.time, "arrived_at")]
    others = rows.select(said)[rng.permutation(rows.height)].get_columns()
    return rows.with_columns(*others, delays(rows, moment, rng).alias("arrived_at"))


def delays(rows: pl.DataFrame, moment: datetime, rng: np.random.Generator) -> pl.Series:
    """Draw times from the moment on; every fifth stands on it."""
    micros = rng.integers(0, 5 * DAY, rows.height) * (np.arange(rows.height) % 5 > 0)
    start = pl.Series([moment] * rows.height, dtype=pl.Datetime("us", "UTC"))
    return start + pl.Series(micros, dtype=pl.Duration("us"))


def renamed(rows: pl.DataFrame, table: Table, mark: str) -> pl.DataFrame:
    """Give rows keys of their own, in the first key column that can hold one."""
    for key in table.key:
        if rows[key].dtype == pl.String:
            return rows.with_columns((pl.lit(f"{mark}-") + pl.col(key)).alias(key))
        if rows[key].dtype.is_integer():
            return rows.with_columns(pl.col(key) + rows[key].max() + 1 + len(mark))
    return rows.clear()
