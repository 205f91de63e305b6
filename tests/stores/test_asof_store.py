"""The as-of store answers, through Feast, what a plain loop over all rows answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, UsageError
from pipelines.stores.feast_import import import_feast

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TTL = 3
ASOF = "pipelines.stores.asof_store.AsofOfflineStore"
STAMP = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Row:
    """A feature row; hours after START."""

    k: str | None
    j: int | None
    event: int | None
    created: int | None
    value: int


@dataclass(frozen=True)
class Asked:
    """An entity row; `quarter` hours after START, four to the hour."""

    k: str | None
    j: int | None
    quarter: int


KEYS = st.sampled_from(["a", "b", "c", None])
NUMBERS = st.sampled_from([1, 2, None])
HOURS = st.integers(0, 12)
MAYBE = st.one_of(HOURS, HOURS, HOURS, st.none())
ROWS = st.lists(st.tuples(KEYS, NUMBERS, MAYBE, MAYBE), max_size=20)
ASKED = st.lists(st.builds(Asked, KEYS, NUMBERS, st.integers(-4, 60)), min_size=1, max_size=14)


def views(folder: Path) -> list[Any]:
    """Declare views over one folder: for ever, expiring, of two keys, without a created timestamp."""
    import_feast()
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64

    k = Entity(name="k", join_keys=["k"], value_type=ValueType.STRING)
    j = Entity(name="j", join_keys=["j"], value_type=ValueType.INT64)

    def view(name: str, entities: list[Any], hours: int, created: str) -> Any:
        return FeatureView(
            name=name,
            entities=entities,
            ttl=hours * HOUR,
            schema=[Field(name="value", dtype=Int64)],
            source=FileSource(
                name=name,
                path=str(folder / "*" / "*.parquet"),
                timestamp_field="happened",
                created_timestamp_column=created,
            ),
        )

    return [
        k,
        j,
        view("forever", [k], 0, "created"),
        view("short", [k], TTL, "created"),
        view("pair", [k, j], TTL, "created"),
        view("uncreated", [k], 0, ""),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def store(folder: Path) -> Any:
    """A Feast store over the folder, the files of which the tests write."""
    write(folder, [])
    declared = views(folder)
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(
        config=RepoConfig(
            project="asof",
            provider="local",
            repo_path=folder,
            registry={"registry_type": "file", "path": str(folder / "registry.db")},
            offline_store={"type": ASOF},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
        )
    )
    with redirect_stdout(StringIO()):
        store.apply(declared)
    return store


def write(folder: Path, rows: list[Row]) -> None:
    """Write the rows to two files, half of them each."""
    kinds = {"k": pl.String, "j": pl.Int32, "happened": STAMP, "created": STAMP, "value": pl.Int64}
    columns = [
        {"k": r.k, "j": r.j, "happened": at(r.event), "created": at(r.created), "value": r.value}
        for r in rows
    ]
    frame = pl.DataFrame(columns, schema=kinds, orient="row")
    half = len(rows) // 2
    for name, part in (("a", frame[:half]), ("b", frame[half:])):
        (folder / name).mkdir(exist_ok=True)
        part.write_parquet(folder / name / "part.parquet")


def at(hours: int | None) -> datetime | None:
    return None if hours is None else START + hours * HOUR


def numbered(drawn: list[tuple[Any, ...]]) -> list[Row]:
    return [Row(*each, value=number) for number, each in enumerate(drawn)]


def entities(asked: list[Asked]) -> pd.DataFrame:
    times = pd.to_datetime([START + each.quarter * HOUR / 4 for each in asked], utc=True)
    return pd.DataFrame(
        {
            "event_timestamp": times,
            "j": pd.array([each.j for each in asked], dtype="Int64"),
            "n": range(len(asked)),
            "k": pd.Series([each.k for each in asked], dtype=object),
        }
    )


def seen(rows: list[Row], asked: Asked, view: str, filtered: bool) -> int | None:
    """Find by hand the value that a view shows."""
    time = asked.quarter / 4
    best: tuple[Any, ...] | None = None
    for place, row in enumerate(rows):
        if asked.k is None or row.k != asked.k or row.event is None or row.event > time:
            continue
        if view == "pair" and (asked.j is None or row.j != asked.j):
            continue
        created = row.created if view != "uncreated" else -99
        if filtered and (created is None or created > time):
            continue
        if view in ("short", "pair") and time - row.event > TTL:
            continue
        rank = (row.event, -99 if created is None else created, place)
        if best is None or rank > best[0]:
            best = (rank, row.value)
    return best[1] if best else None


REFS = [f"{view}:value" for view in ("forever", "short", "pair", "uncreated")]


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(ROWS.map(numbered), ASKED, st.booleans())
@example([Row("a", 1, 1, 5, 0), Row("a", 1, 3, 3, 1)], [Asked("a", 1, 24)], True)  # corrected too late
def test_every_row_sees_what_a_plain_loop_sees(
    folder: Path, store: Any, rows: list[Row], asked: list[Asked], filtered: bool
) -> None:
    write(folder, rows)
    frame = entities(asked)
    job = store.get_historical_features(
        frame.copy(), REFS, full_feature_names=True, filter_by_created_timestamp=filtered
    )
    found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    assert found["n"].to_list() == list(range(len(asked)))
    assert found["k"].to_list() == [each.k for each in asked]
    for ref in REFS:
        view = ref.split(":")[0]
        wanted = [seen(rows, each, view, filtered) for each in asked]
        assert found[f"{view}__value"].to_list() == wanted, view


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(ROWS.map(numbered), HOURS, HOURS)
def test_the_latest_and_all_rows_of_a_span_are_those_of_a_plain_loop(
    folder: Path, store: Any, rows: list[Row], start: int, length: int
) -> None:
    write(folder, rows)
    view, provider = store.get_feature_view("pair"), store._get_provider()
    columns = (view.batch_source, ["k", "j"], ["value"], "happened", "created")
    span = (at(start), at(start + length))
    inside = [r for r in rows if r.event is not None and start <= r.event <= start + length]
    every = provider.offline_store.pull_all_from_table_or_query(store.config, *columns, *span)
    assert sorted(every.to_arrow()["value"].to_pylist()) == [r.value for r in inside]
    newest: dict[Any, tuple[Any, ...]] = {}
    for row in inside:
        rank = (row.event, -99 if row.created is None else row.created, row.value)
        newest[row.k, row.j] = max(newest.get((row.k, row.j), ()), rank)
    latest = provider.offline_store.pull_latest_from_table_or_query(store.config, *columns, *span)
    assert sorted(latest.to_arrow()["value"].to_pylist()) == sorted(rank[2] for rank in newest.values())


ONE = [Row("a", 1, 1, 1, 10), Row("b", 2, 1, 1, 20)]


@pytest.fixture
def written(folder: Path) -> Iterator[None]:
    write(folder, ONE)
    yield


def test_a_renamed_view_joins_by_another_column(written: None, store: Any) -> None:
    view = store.get_feature_view("forever")
    mine, other = view.with_name("mine"), view.with_name("other")
    other = other.with_join_key_map({"k": "friend"})
    from feast import FeatureService

    with redirect_stdout(StringIO()):
        store.apply([FeatureService(name="both", features=[mine, other])])
    frame = entities([Asked("a", 1, 8), Asked("b", 1, 8)]).assign(friend=["b", None])
    job = store.get_historical_features(frame, store.get_feature_service("both"), full_feature_names=True)
    found = job.to_df()
    assert found["mine__value"].to_list() == [10, 20]
    assert found["other__value"].fillna(-1).to_list() == [20, -1]


def test_naive_and_other_zones_times_are_the_same_moments(written: None, store: Any) -> None:
    frame = entities([Asked("a", 1, 4), Asked("a", 1, 3)])
    for times in (
        frame["event_timestamp"].dt.tz_convert("Asia/Tokyo"),
        frame["event_timestamp"].dt.tz_localize(None),
        frame["event_timestamp"].astype("datetime64[ns, UTC]"),
    ):
        job = store.get_historical_features(frame.assign(event_timestamp=times), ["forever:value"])
        assert job.to_df()["value"].fillna(-1).to_list() == [10, -1]


def test_a_saved_data_set_is_read_back_and_not_overwritten(written: None, store: Any, tmp_path: Path) -> None:
    from feast.errors import SavedDatasetLocationAlreadyExists
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    def save() -> Any:
        job = store.get_historical_features(entities([Asked("a", 1, 8), Asked("b", 2, 9)]), ["pair:value"])
        storage = SavedDatasetFileStorage(str(tmp_path / "saved" / "set.parquet"))
        return store.create_saved_dataset(job, "saved", storage)

    save()
    assert sorted(store.get_saved_dataset("saved").to_df()["value"]) == [10, 20]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        save()


def test_what_cannot_be_joined_is_named(written: None, store: Any) -> None:
    frame = entities([Asked("a", 1, 8)])
    with pytest.raises(DataError, match="'j'"):
        store.get_historical_features(frame.drop(columns="j"), ["pair:value"])
    with pytest.raises(UsageError, match="not to SQL"):
        store.get_historical_features("SELECT 1", ["pair:value"])
