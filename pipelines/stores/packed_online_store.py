"""A Feast online store in a SQLite file that keeps an entity's features of a view together, in one row.

Feast's own keeps a row a feature, and writes each by a statement of its own: most of the time that a day's
features took to go online, and as many more rows to read for an answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.repo_config import RepoConfig

from pipelines.stores.sql import identifier

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Found = tuple[datetime | None, dict[str, Value] | None]
_PARAMETERS = 10_000  # in one query; SQLite's limit is 32,766


class PackedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Where the file lies: Feast's `path`."""

    type: Literal["pipelines.stores.packed_online_store.PackedSqliteOnlineStore"] = (
        "pipelines.stores.packed_online_store.PackedSqliteOnlineStore"
    )


class PackedSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """Feast's file and connection, with tables of our own beside those that Feast's store may have made there.

    A row is written whole: what it held before is gone. There are no vectors, and no search of documents.
    """

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make the tables of views that are new, and drop those of views that are gone."""
        with self._get_conn(config) as connection:
            for view in tables_to_keep:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {_table(config, view)}"
                    " (entity BLOB PRIMARY KEY, happened INTEGER NOT NULL, features BLOB NOT NULL) WITHOUT ROWID"
                )
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_table(config, view)}")

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows in one transaction; each replaces what stands under its key."""
        with self._get_conn(config) as connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO {_table(config, table)} (entity, happened, features) VALUES (?, ?, ?)",
                (
                    (_key(entity, config), _microseconds(happened), Map(val=values).SerializeToString())
                    for entity, values, happened, _ in data
                ),
            )
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """Read the rows of entities, in their order; (None, None) for one that is not there."""
        keys = [_key(entity, config) for entity in entity_keys]
        found = dict(_rows(self._get_conn(config), _table(config, table), list(dict.fromkeys(keys))))
        return [found.get(key, (None, None)) for key in keys]


def _rows(connection: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Found]]:
    for start in range(0, len(keys), _PARAMETERS):
        some = keys[start : start + _PARAMETERS]
        query = (
            f"SELECT entity, happened, features FROM {table} WHERE entity IN ({', '.join('?' * len(some))})"
        )
        for key, happened, features in connection.execute(query, some):
            moment = datetime.fromtimestamp(happened // 1_000_000, UTC).replace(
                microsecond=happened % 1_000_000
            )
            yield key, (moment, dict(Map.FromString(features).val))


def _table(config: RepoConfig, view: FeatureView) -> str:
    name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return identifier(f"{name}_packed")


def _key(entity: EntityKey, config: RepoConfig) -> bytes:
    key: bytes = serialize_entity_key(entity, config.entity_key_serialization_version)
    return key


def _microseconds(moment: datetime) -> int:
    """Count since 1970; a moment without a zone is UTC, as everywhere in Feast."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp()) * 1_000_000 + aware.microsecond
