"""Features online: what was built since the last time is written, and read back for requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from filelock import FileLock

from pipelines.case_study import CaseStudy, FeatureTable
from pipelines.settings import Platform
from pipelines.stores.declarations import polars_type
from pipelines.stores.feature_store import feature_columns, own_name, project_name, quiet
from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import FeatureStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def materialize(case: CaseStudy, ws: Workspace, store: FeatureStore, as_of: datetime) -> dict[str, datetime]:
    """Write each view's newest rows up to `as_of` to the online store; return how far each view reaches.

    Only snapshots that were built since the last time are written, and a moment before it is left alone:
    online stores let an older row overwrite a newer one.
    """
    reached: dict[str, datetime] = {}
    done_file = _note_file(case, ws, store.project)
    with FileLock(ws.online / ".materialize.lock"):
        done: dict[str, Any] = read_json(done_file) if done_file.exists() else {}
        for table in case.features:
            built = read_json(ws.features / "_daily" / table.name / "state.json")
            state = {key: built[key] for key in ("definition", "until", "rewinds")}
            before = done.get(table.name)
            if before is not None and not _still_there(table, ws, store, before):
                before = None
            end = as_of if before is None else max(as_of, datetime.fromisoformat(before["until"]))
            start = _unwritten(state, before)
            if start <= min(end, _midnight(state["until"])):
                with quiet(), _replacing(store, before is None or start <= _written(before)):
                    store.materialize(start, end, feature_views=[table.name])
            done[table.name] = {"until": end.isoformat(), "state": state}
            write_json(done_file, done)
            reached[table.name] = end
    return reached


def _note_file(case: CaseStudy, ws: Workspace, project: str) -> Path:
    """Name the file that says what stands online: one a store, for what one holds another may not."""
    store = "" if project == own_name(ws) else f"-{project}"
    return ws.online / f"materialized-{case.name}{store}.json"


def _unwritten(state: Mapping[str, Any], before: Mapping[str, Any] | None) -> datetime:
    """Find the first midnight whose snapshot, if there is one, is not online yet.

    `state` is that of the built snapshots, `before` what was noted when they were last written. Snapshots
    that were thrown away since then, and built again, are not online.
    """
    noted = before.get("state") if before is not None else None
    if before is None or noted is None or noted["definition"] != state["definition"]:
        return _EPOCH
    if state["rewinds"][: len(noted["rewinds"])] != noted["rewinds"]:
        return _EPOCH
    rewound = [_midnight(day) for day in state["rewinds"][len(noted["rewinds"]) :]]
    return min([_written(before) + timedelta(microseconds=1), *rewound])


def _written(before: Mapping[str, Any]) -> datetime:
    """Return the last midnight whose snapshot was written."""
    return min(_midnight(before["state"]["until"]), datetime.fromisoformat(before["until"]))


@contextmanager
def _replacing(store: FeatureStore, again: bool) -> Iterator[None]:
    """Let snapshots that were built `again` replace the rows that were written of them.

    Redis refuses a row that is not newer than its own, which else is right: a straggler changes nothing.
    """
    online = store.config.online_store
    refusing = again and getattr(online, "skip_dedup", None) is False
    if refusing:
        online.skip_dedup = True
    try:
        yield
    finally:
        if refusing:
            online.skip_dedup = False


def stands_online(case: CaseStudy, ws: Workspace, store: FeatureStore) -> bool:
    """Say whether what was noted as written can still be read. Raises what the store's driver raises."""
    path = _note_file(case, ws, store.project)
    done: dict[str, Any] = read_json(path) if path.exists() else {}
    return all(
        table.name in done and _still_there(table, ws, store, done[table.name]) for table in case.features
    )


def _still_there(table: FeatureTable, ws: Workspace, store: FeatureStore, before: Mapping[str, Any]) -> bool:
    """Ask for a row that was written: a store that was emptied since then has to be filled again."""
    last = _written(before)
    folders = sorted((ws.features / table.name).glob("date=*/part.parquet"), reverse=True)
    written = next((each for each in folders if _midnight(each.parent.name[5:]) <= last), None)
    if written is None:
        return True
    row, reader = pl.read_parquet(written, n_rows=1).row(0, named=True), ViewReader(store, table.name)
    if all(row[name] is None for name in reader.schema):
        return True
    found = reader.read([tuple(row[key] for key in reader.keys)])[0]
    return any(value is not None for value in found.values())


def _midnight(day: str | None) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) if day else _EPOCH


def online_rows(store: FeatureStore, service: str, keys: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Read the service's features of some entities as they stand online, in declared order."""
    found = store.get_online_features(store.get_feature_service(service), [dict(each) for each in keys])
    values = found.to_dict()
    names = feature_columns(store, service)
    return [{name: values[name][row] for name in names} for row in range(len(keys))]


class ViewReader:
    """Reads rows of one view as they stand online, key by key.

    It asks Feast's provider, which `get_online_features` asks too: what that does around it for any mixture
    of views and services takes longer than the reading.
    """

    def __init__(self, store: FeatureStore, view: str) -> None:
        from feast.infra.provider import get_provider

        self._config, self._view = store.config, store.get_feature_view(view)
        self._provider = get_provider(store.config)
        self._kinds = {each.name: each.dtype.to_value_type() for each in self._view.entity_columns}
        self.keys = tuple(self._kinds)
        self.schema = {each.name: polars_type(each.dtype) for each in self._view.features}

    def read(self, keys: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """Read the features of entities, a row each; null where one is not known."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values

        columns = zip(self._kinds.values(), zip(*keys, strict=True), strict=True)
        values = [python_values_to_proto_values(list(column), kind) for kind, column in columns]
        entities = [EntityKey(join_keys=self.keys, entity_values=each) for each in zip(*values, strict=True)]
        # Feast may append to the names it is given.
        found = self._provider.online_read(self._config, self._view, entities, list(self.schema))
        return [
            {name: feast_value_type_to_python_type(held[name]) for name in self.schema if name in held}
            for held in (row or {} for _, row in found)
        ]


def materialized(case: CaseStudy, ws: Workspace, platform: Platform) -> datetime | None:
    """Read up to which moment all views stand online; None before the first materialization."""
    path = _note_file(case, ws, project_name(ws, platform))
    done: dict[str, Any] = read_json(path) if path.exists() else {}
    if any(table.name not in done for table in case.features) or not done:
        return None
    return min(datetime.fromisoformat(done[table.name]["until"]) for table in case.features)


def online_row(store: FeatureStore, service: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Read the service's features of one entity as they stand online, in declared order."""
    return online_rows(store, service, [keys])[0]
