"""A Feast compute engine that takes materialized rows to their online store column by column.

Feast's own walks a graph of nodes and asks of each single value what it is: most of the time that writing
features online takes. What is written, and by which online store, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from feast import FeatureView, Field
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

_FIELDS = {
    ValueType.BOOL: "bool_val",
    ValueType.BYTES: "bytes_val",
    ValueType.DOUBLE: "double_val",
    ValueType.FLOAT: "float_val",
    ValueType.INT32: "int32_val",
    ValueType.INT64: "int64_val",
    ValueType.STRING: "string_val",
}


class BulkComputeEngineConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """There is nothing to set but the type."""

    type: Literal["pipelines.stores.bulk_engine.BulkComputeEngine"] = (
        "pipelines.stores.bulk_engine.BulkComputeEngine"
    )


class BulkComputeEngine(LocalComputeEngine):  # type: ignore[misc]
    """Feast's local engine; views that are plain columns of a source are materialized in bulk."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **options: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        if type(view) is not FeatureView or view.batch_source.field_mapping or view.offline:
            return super()._materialize_one(registry, task, **options)
        name = f"{view.name}-{task.start_time}-{task.end_time}"
        try:
            self._write(view, task)
        except Exception as error:  # Feast raises what its job tells
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(name, MaterializationJobStatus.SUCCEEDED)

    def _write(self, view: FeatureView, task: MaterializationTask) -> None:
        source, settings = view.batch_source, self.repo_config.materialization_config
        job = self.offline_store.pull_latest_from_table_or_query(
            config=self.repo_config,
            data_source=source,
            join_key_columns=[column.name for column in view.entity_columns],
            feature_name_columns=[field.name for field in view.features],
            timestamp_field=source.timestamp_field,
            created_timestamp_column=source.created_timestamp_column,
            start_date=task.start_time,
            end_date=task.end_time,
        )
        rows = job.to_arrow()
        for batch in rows.to_batches(max_chunksize=settings.online_write_batch_size):
            self.online_store.online_write_batch(self.repo_config, view, _protos(view, batch), None)


def _protos(view: FeatureView, rows: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Turn rows into what online stores take: entity key, values by feature, event and creation time."""
    names = [column.name for column in view.entity_columns]
    keys = zip(*(_values(rows, column) for column in view.entity_columns), strict=True)
    features = [field.name for field in view.features]
    values = zip(*(_values(rows, field) for field in view.features), strict=True)
    event, created = view.batch_source.timestamp_field, view.batch_source.created_timestamp_column
    events = _moments(rows, event)
    return list(
        zip(
            (EntityKey(join_keys=names, entity_values=key) for key in keys),
            (dict(zip(features, each, strict=True)) for each in values),
            events,
            _moments(rows, created) if created else [None] * len(events),
            strict=True,
        )
    )


def _values(rows: pa.RecordBatch, field: Field) -> Sequence[Any]:
    """Turn a column into Feast's values: null, and a float's NaN, into the empty one."""
    kind = field.dtype.to_value_type()
    name = _FIELDS.get(kind)
    if name is None:
        values = rows.column(field.name).to_numpy(zero_copy_only=False)
        return list(python_values_to_proto_values(values, kind))
    column = pl.Series(rows.column(field.name))
    column = column.fill_nan(None) if column.dtype.is_float() else column
    return [Value() if value is None else Value(**{name: value}) for value in column.to_list()]


def _moments(rows: pa.RecordBatch, name: str) -> list[Any]:
    """Read a column of time stamps, as Feast does: in UTC, and without a zone where there is none."""
    return pl.Series(rows.column(name)).to_list()
