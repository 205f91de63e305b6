"""Every feature table and label fold says on Spark what it says on DuckDB, value by value."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl
import pytest
from contract_help import opened, window
from polars.testing import assert_frame_equal

from pipelines.flows.edge import Run
from pipelines.stores.dataset import WorkspaceDataset
from pipelines.stores.declarations import snapshot_files
from pipelines.stores.engine import connect, dated, scan, to_polars
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import polars_schema

if shutil.which("java") is None or importlib.util.find_spec("pyspark") is None:
    pytest.skip("Spark needs Java 17 and `pip install ml-loops[spark]`", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Spark:
    """A local Spark with two threads, and Ibis over it."""

    def __init__(self, scratch: Path) -> None:
        from pyspark.sql import SparkSession

        options = {
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "2",
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "2g",
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
            "spark.local.dir": str(scratch / "local"),
        }
        builder = SparkSession.builder.master("local[2]").appName("contract")
        for key, value in options.items():
            builder = builder.config(key, value)
        self.session = builder.getOrCreate()
        self.ibis: Any = ibis.pyspark.connect(self.session)

    def read(self, name: str, files: Sequence[Path]) -> ir.Table:
        """Read Parquet files as a view."""
        self.session.read.parquet(*map(str, files)).createOrReplaceTempView(name)
        return self.ibis.table(name)

    def table(self, run: Run, name: str) -> ir.Table:
        """Read a table of the lake; typed, and without rows, where it has none."""
        schema = polars_schema(run.case.table(name).schema)
        files = Lake(run.workspace.lake, run.case.tables).files(name)
        if not files:
            empty = self.session.createDataFrame([], _spark_schema(schema))
            empty.createOrReplaceTempView(name)
            return self.ibis.table(name)
        return self.read(name, files).select(schema.names())

    def run(self, expression: ir.Table) -> pl.DataFrame:
        """Run an expression; Ibis' own way would go through pandas, and lose nulls."""
        found = pl.from_arrow(self.session.sql(self.ibis.compile(expression)).toArrow())
        assert isinstance(found, pl.DataFrame)
        return found


def _spark_schema(schema: Mapping[str, Any]) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(
        pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    )


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    opened = Spark(tmp_path_factory.mktemp("spark"))
    yield opened
    opened.session.stop()


def same(found: pl.DataFrame, wanted: pl.DataFrame, keys: Sequence[str]) -> None:
    """Hold rows in any order to each other, exactly; types may be as wide as each engine likes."""
    assert set(found.columns) == set(wanted.columns)
    found = found.select(wanted.columns).cast(dict(wanted.schema))
    assert wanted.height > 0
    assert_frame_equal(found.sort(keys), wanted.sort(keys), check_exact=True)


def test_daily_partials_are_equal(finished, spark: Spark) -> None:
    run: Run = finished.run
    for feature in run.case.features:
        tables = {name: dated(spark.table(run, name), run.case.table(name).time) for name in feature.reads}
        files = run.workspace.features / "_daily" / feature.name / "*" / "*.parquet"
        wanted = pl.read_parquet(files, hive_partitioning=False)
        until = wanted["day"].max()
        found = spark.run(feature.daily(tables)).filter(pl.col("day") <= until)
        same(found, wanted, [*feature.keys, "day", "known"])


def test_snapshots_are_equal(finished, spark: Spark) -> None:
    run: Run = finished.run
    for feature in run.case.features:
        partials = spark.read(
            "partials", sorted((run.workspace.features / "_daily" / feature.name).glob("*/*.parquet"))
        )
        snapshots = sorted((run.workspace.features / feature.name).glob("*/*.parquet"))
        due = spark.read("snapshots", snapshots)
        due = due.select(*feature.keys, at=due["event_timestamp"].date())
        wanted = pl.read_parquet(snapshots, hive_partitioning=False)
        wanted = wanted.with_columns(at=pl.col("event_timestamp").dt.date())
        wanted = wanted.drop("event_timestamp", "created_timestamp")
        same(spark.run(feature.roll(due, partials)), wanted, [*feature.keys, "at"])


def test_labels_are_equal(finished, spark: Spark) -> None:
    run: Run = finished.run
    label, lake = run.case.label, Lake(run.workspace.lake, run.case.tables)
    with connect() as backend:
        tables = {name: scan(backend, run.case.table(name), lake.files(name)) for name in label.reads}
        wanted = to_polars(label.fold(tables, run.as_of), backend)
    found = spark.run(label.fold({name: spark.table(run, name) for name in label.reads}, run.as_of))
    same(found, wanted, [*label.keys, label.time])


def test_feasts_spark_store_gives_the_same_training_set(finished, spark: Spark, tmp_path: Path) -> None:
    """Feast's historical retrieval, on its Spark store, over the same snapshots."""
    from feast import FeatureStore, RepoConfig
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

    from pipelines.stores.declarations import declarations
    from pipelines.stores.feature_store import historical

    run: Run = finished.run
    dataset = opened(run, run.workspace, *window(run))
    assert isinstance(dataset, WorkspaceDataset)
    rows = dataset.labels().drop("label")
    rows = rows.sample(min(rows.height, 2000), seed=1)
    declared = declarations(run.case, run.workspace)
    for view in declared.views.values():
        view.batch_source = SparkSource(
            name=f"spark_{view.name}",
            path=snapshot_files(run.workspace, view.name),
            file_format="parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
    store = FeatureStore(
        config=RepoConfig(
            project="spark",
            provider="local",
            registry={"registry_type": "file", "path": str(tmp_path / "registry.db")},
            offline_store={"type": "spark"},
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    store.apply([*declared.entities, *declared.views.values(), declared.service])
    wanted = dataset.historical(rows, run.case.label.time)
    found = historical(store, run.case.service, rows, run.case.label.time)
    assert_frame_equal(found.cast(dict(wanted.schema)), wanted, check_exact=True)
    assert any(wanted[name].null_count() < wanted.height for name in wanted.columns[rows.width :])
