"""A Feast offline store over Parquet files: point-in-time joins by Polars' as-of join, in entity order.

Feast finds it by its dotted name (`offline_store: {type: pipelines.stores.asof_store.AsofOfflineStore}`).
Its answers are those of Feast's DuckDB store, several times sooner, and every entity row comes back: in
its place, once, with nulls where there is nothing, or nothing within the view's ttl.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, FileSource, OnDemandFeatureView
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from pipelines.errors import DataError, UsageError

_TIME, _AT, _EVENT, _CREATED, _RANK, _FOUND = "_time", "_at", "_event", "_created", "_rank", "_found"
_MOMENT = timedelta(microseconds=1)  # what a Python datetime may have cut off


class AsofOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """There is nothing to set but the type."""

    type: Literal["pipelines.stores.asof_store.AsofOfflineStore"] = (
        "pipelines.stores.asof_store.AsofOfflineStore"
    )


class AsofOfflineStore(OfflineStore):  # type: ignore[misc]
    """Feast's offline store over the Parquet files of `FileSource`s; the steps write them, not Feast."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """Join each view's features to the entity rows as they stood at the rows' own times.

        Of the rows whose event timestamp is not after the entity's (and not more than the ttl before it),
        the newest counts; of equal ones, that created last. With `filter_by_created_timestamp`, a row does
        not exist before it was created. Rows, their order and their columns are kept.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise UsageError(
                "this offline store joins features to a pandas DataFrame of entities, not to SQL"
            )
        time = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        views = [
            _View.of(view, feature_refs, full_feature_names, filter_by_created_timestamp, config)
            for view in feature_views
        ]

        keys = sorted({column for view in views for column in view.keys.values()})
        missing = [name for name in keys if name not in entity_df.columns]
        if missing:
            raise DataError(f"the entity rows have no column '{missing[0]}': the asked views are keyed by it")

        def join() -> pl.DataFrame:
            entities = pl.from_pandas(entity_df)
            moments = entities.select(_utc(entities, time, _TIME)).to_series()
            order = moments.arg_sort()
            asked = entities.select(keys).with_columns(moments)[order]
            place = order.arg_sort()  # of each entity row within `asked`
            found = [view.join(asked, place) for view in views]
            return pl.concat([entities, *found], how="horizontal")

        ends = pd.to_datetime(entity_df[time].agg(["min", "max"]), utc=True)
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[column for column in entity_df.columns if column != time],
            min_event_timestamp=ends["min"].to_pydatetime(),
            max_event_timestamp=ends["max"].to_pydatetime(),
        )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        return AsofRetrievalJob(config, join, on_demand, full_feature_names, metadata)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Read each entity's newest row of [start_date, end_date]; of equal times, that created last."""
        stamps = [timestamp_field] + ([created_timestamp_column] if created_timestamp_column else [])
        rows = _between(_scan(data_source, config), timestamp_field, start_date, end_date)
        rows = rows.select(*join_key_columns, *feature_name_columns, *stamps)

        def newest() -> pl.DataFrame:
            ordered = rows.sort(stamps, maintain_order=True, nulls_last=False)
            return ordered.unique(join_key_columns, keep="last", maintain_order=True).collect()

        return AsofRetrievalJob(config, newest)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Read all rows of [start_date, end_date], either end open where it is None."""
        stamps = [timestamp_field] + ([created_timestamp_column] if created_timestamp_column else [])
        rows = _between(_scan(data_source, config), timestamp_field, start_date, end_date)
        rows = rows.select(*join_key_columns, *feature_name_columns, *stamps)
        return AsofRetrievalJob(config, rows.collect)


class AsofRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """A query that runs when its rows are asked for."""

    def __init__(
        self,
        config: RepoConfig,
        rows: Callable[[], pl.DataFrame],
        on_demand: Sequence[OnDemandFeatureView] = (),
        full_feature_names: bool = False,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        super().__init__()
        self._config, self._rows, self._metadata = config, rows, metadata
        self._on_demand, self._full_feature_names = list(on_demand), full_feature_names

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the rows to one Parquet file; raises SavedDatasetLocationAlreadyExists."""
        path = Path(_path(storage.to_data_source(), self._config))
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows().write_parquet(path)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._rows().to_arrow(compat_level=pl.CompatLevel.oldest())


@dataclass(frozen=True)
class _View:
    """What is asked of one feature view. `keys` map the view's columns to the entity rows' columns."""

    name: str
    rows: pl.LazyFrame
    keys: dict[str, str]
    features: dict[str, str]
    event: str
    created: str | None
    filtered: bool
    ttl: timedelta | None

    @classmethod
    def of(
        cls, view: FeatureView, refs: list[str], full_names: bool, filtered: bool, config: RepoConfig
    ) -> _View:
        """Read a view's declaration, its projection included."""
        prefix = f"{view.projection.name_to_use()}:"
        names = [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]
        shown = view.projection.name_alias or view.name
        created = view.batch_source.created_timestamp_column or None
        return cls(
            view.name,
            _scan(view.batch_source, config),
            dict(view.projection.join_key_map) or {each.name: each.name for each in view.entity_columns},
            {name: f"{shown}__{name}" if full_names else name for name in names},
            view.batch_source.timestamp_field,
            created,
            filtered and created is not None,
            view.ttl or None,
        )

    def join(self, asked: pl.DataFrame, place: pl.Series) -> pl.DataFrame:
        """Return the features that each row of `asked` (sorted by `_time`) sees, in the order of `place`."""
        rows = self._read(asked[_TIME])
        keys = [pl.col(column).cast(rows.schema[key]).alias(key) for key, column in self.keys.items()]
        seen = asked.select(*keys, _TIME).join_asof(
            self._timeline(rows), left_on=_TIME, right_on=_AT, by=list(self.keys), check_sortedness=False
        )
        found = pl.col(_FOUND)
        if self.ttl:
            found = pl.when(pl.col(_TIME) - pl.col(_EVENT) <= self.ttl).then(found)
        numbers = seen.select(found.gather(place)).to_series()
        return rows.select(pl.col(name).gather(numbers).alias(shown) for name, shown in self.features.items())

    def _read(self, times: pl.Series) -> pl.DataFrame:
        """Read the rows that any of the entities may see: keys, stamps in UTC, and the features."""
        rows, first, last = self.rows, times.min(), times.max()
        if isinstance(first, datetime) and isinstance(last, datetime):
            oldest = first - self.ttl if self.ttl else None
            rows = _between(rows, self.event, oldest, last + _MOMENT)
        stamps = {_EVENT: self.event} | ({_CREATED: self.created} if self.created else {})
        return rows.select(
            *self.keys, *(_utc(rows, each, name) for name, each in stamps.items()), *self.features
        ).collect()

    def _timeline(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Order the rows by the moment from which they are the newest of their entity (`_at`).

        That is when a row had happened and, if asked for, been created. A row that is created when a newer
        one can already be seen never counts, and is left out.
        """
        keys = list(self.keys)
        at = pl.max_horizontal(_EVENT, _CREATED) if self.filtered else pl.col(_EVENT)
        stamps = [_EVENT, _CREATED] if self.created else [_EVENT]
        needed = [*keys, *stamps] if self.filtered else [*keys, _EVENT]
        line = rows.select(*keys, *stamps, at.alias(_AT)).with_row_index(_FOUND).drop_nulls(needed)
        line = line.sort(stamps, maintain_order=True, nulls_last=False)
        if self.filtered and (line[_CREATED] > line[_EVENT]).any():
            line = line.with_row_index(_RANK).sort(_AT, maintain_order=True)
            line = line.filter(pl.col(_RANK) == pl.col(_RANK).cum_max().over(keys)).drop(_RANK)
        return line.select(*keys, _AT, _EVENT, _FOUND)


def _path(source: DataSource, config: RepoConfig) -> str:
    if not isinstance(source, FileSource):
        raise UsageError(f"source '{source.name}' is a {type(source).__name__}: this store reads FileSources")
    return str(FileSource.get_uri_for_file_path(config.repo_path, source.path))


def _scan(source: DataSource, config: RepoConfig) -> pl.LazyFrame:
    """Scan a source's files, its columns named as the field mapping says."""
    rows = pl.scan_parquet(_path(source, config), hive_partitioning=False)
    return rows.rename(dict(source.field_mapping), strict=False) if source.field_mapping else rows


def _between(rows: pl.LazyFrame, time: str, start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """Keep the rows of [start, end], both in UTC where they name no zone."""
    kind = rows.collect_schema()[time]
    if start is not None:
        rows = rows.filter(pl.col(time) >= _like(start, kind))
    return rows if end is None else rows.filter(pl.col(time) <= _like(end, kind))


def _like(moment: datetime, kind: pl.DataType) -> pl.Expr:
    """Write a moment as a column of time stamps has them, so that files can be skipped by their statistics."""
    utc = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    zone = getattr(kind, "time_zone", None)
    return pl.lit(utc).dt.convert_time_zone(zone) if zone else pl.lit(utc.replace(tzinfo=None))


def _utc(rows: pl.DataFrame | pl.LazyFrame, column: str, name: str) -> pl.Expr:
    """Read a column of time stamps (naive ones are UTC) as microseconds in UTC."""
    kind, moment = rows.collect_schema()[column], pl.col(column)
    if getattr(kind, "time_zone", None):
        moment = moment.dt.convert_time_zone("UTC")
    else:
        moment = moment.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return moment.dt.cast_time_unit("us").alias(name)
