"""Feast over a workspace: the same views and service for training, serving and checks.

Declarations live in feature_repo/. Here they are read for one case and one workspace, held against
what the case really computed, and used for point-in-time joins; online_features.py writes and reads online.
Feast is imported late: it takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import polars as pl
from filelock import FileLock

from pipelines.case_study import CaseStudy
from pipelines.errors import DataError, LoopError
from pipelines.settings import Platform
from pipelines.stores.declarations import REPOSITORY, check, declarations, polars_type
from pipelines.stores.feast_import import import_feast
from pipelines.stores.files import folder_digest, read_json, write_aside, write_json
from pipelines.stores.postgres import is_postgres, making_tables, place
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import FeatureStore

_EVENT = "event_timestamp"
_ROW, _AT = "_row", "_at"


def open_store(case: CaseStudy, ws: Workspace, platform: Platform) -> FeatureStore:
    """Open the case's views over the workspace's snapshots; registry and online store as configured.

    Raises DataError where snapshots are missing, or differ from the declared views.
    """
    import_feast()
    from feast import FeatureStore, RepoConfig

    declared = declarations(case, ws)
    check(case, ws, declared)
    ws.online.mkdir(parents=True, exist_ok=True)
    options = _options(platform, ws)
    with _reaching(options["registry"]), FileLock(ws.online / ".apply.lock"):
        with quiet():
            config = RepoConfig(
                project=project_name(ws, platform),
                provider="local",
                repo_path=ws.online,
                entity_key_serialization_version=3,
                materialization={"pull_latest_features": True, "online_write_batch_size": 10_000},
                batch_engine="pipelines.stores.bulk_engine.BulkComputeEngine",
                **options,
            )
            store = FeatureStore(config=config)
        mark = {
            "declared": folder_digest(REPOSITORY, "*.py"),
            "features": str(ws.features),
            "options": _digest(options),
        }
        mark_file = ws.online / f"applied-{case.name}.json"
        if not mark_file.exists() or read_json(mark_file) != mark or not _applied(store, case.service):
            with quiet():
                store.apply([*declared.entities, *declared.views.values(), declared.service])
            write_json(mark_file, mark)
    return store


def _options(platform: Platform, ws: Workspace) -> dict[str, Any]:
    """Fill the profile's options in, and add what serving asks of any registry.

    A service keeps the declarations that it started with: no request waits for the registry, or fails
    because it is gone. Views are read while another process writes their rows, which a shared registry
    must be told.
    """
    options: dict[str, Any] = _filled(platform.feast.model_dump(), ws)
    options["registry"] |= {"cache_ttl_seconds": 0}
    if options["registry"].get("registry_type") == "sql":
        options["registry"]["serve_features_while_materializing"] = True
    return options


def project_name(ws: Workspace, platform: Platform) -> str:
    """Name a workspace to Feast. Where stores are shared, an id of its own keeps checkouts apart."""
    name = own_name(ws)
    stores = (platform.feast.registry, platform.feast.online_store)
    if all("{workspace}" in str(options) for options in stores):
        return name
    path = ws.online / "id"
    if not path.exists():
        ws.online.mkdir(parents=True, exist_ok=True)
        with FileLock(ws.online / ".id.lock"):
            if not path.exists():
                with write_aside(path) as aside:
                    aside.write_text(secrets.token_hex(4))
    return f"{name}_{path.read_text()}"


def own_name(ws: Workspace) -> str:
    """Name a workspace to Feast where its stores are files of its own."""
    return re.sub(r"\W", "_", f"{ws.origin}_{ws.name}").strip("_")


def _digest(options: Mapping[str, Any]) -> str:
    """Hash options, which may hold a password."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _applied(store: FeatureStore, service: str) -> bool:
    """Say whether the registry knows the service: a shared one may have been made anew."""
    from feast.errors import FeastObjectNotFoundException

    try:
        store.get_feature_service(service, allow_cache=True)
    except FeastObjectNotFoundException:
        return False
    return True


@contextmanager
def _reaching(registry: Mapping[str, Any]) -> Iterator[None]:
    """Turn an outage of the registry's database into an error that says what to do."""
    from sqlalchemy.exc import SQLAlchemyError

    url = str(registry["path"])
    shared = is_postgres(url)
    try:
        with making_tables(url, "the feature registry") if shared else nullcontext():
            yield
    except SQLAlchemyError as error:
        raise LoopError(f"the feature registry ({place(url)}) cannot be used: {error}") from error


def feature_columns(store: FeatureStore, service: str) -> list[str]:
    """List the service's features in the order of their declaration."""
    projections = store.get_feature_service(service).feature_view_projections
    return [feature.name for view in projections for feature in view.features]


def historical(
    store: FeatureStore, service: str, rows: pl.DataFrame, time: str, views: Sequence[str] | None = None
) -> pl.DataFrame:
    """Join the service's features to each row as they stood at the row's own time.

    Rows, their order and their columns are kept; the features follow in declared order, null where there
    is none; of the named `views` alone where given. Snapshots are stamped with midnights, so every row of
    a day sees the same: each view is asked once for each (entity, midnight), which also keeps rows of
    equal entity and time apart.
    """
    projections = [
        each
        for each in store.get_feature_service(service).feature_view_projections
        if views is None or each.name in views
    ]
    wanted = [feature.name for each in projections for feature in each.features]
    _check_rows(rows, time, wanted)
    at = pl.col(time).dt.convert_time_zone("UTC").dt.truncate("1d").dt.cast_time_unit("us")
    joined = rows.with_row_index(_ROW).with_columns(at.alias(_AT))
    for projection in projections:
        view = store.get_feature_view(projection.name)
        keys = [column.name for column in view.entity_columns]
        missing = [key for key in keys if key not in rows.columns]
        if missing:
            raise DataError(f"view '{view.name}' needs column '{missing[0]}', which the rows do not have")
        asked = joined.select(*keys, _AT).drop_nulls().unique().sort(_AT, *keys)
        names = [feature.name for feature in projection.features]
        found = _ask(store, view.name, asked, names)
        joined = joined.join(found, on=[*keys, _AT], how="left", maintain_order="left")
    if joined.height != rows.height:
        raise DataError(f"the feature store answered {joined.height} rows for {rows.height}")
    return joined.sort(_ROW).select(*rows.columns, *wanted)


def _ask(store: FeatureStore, view: str, asked: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Ask Feast for one view; one row for each of `asked`, with its keys, `_at` and the features."""
    entities = asked.rename({_AT: _EVENT}).to_pandas()
    if asked.is_empty():
        return _nothing(store, view, asked, names)
    with quiet():
        job = store.get_historical_features(
            entities, [f"{view}:{name}" for name in names], filter_by_created_timestamp=True
        )
        found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    if found.height != asked.height:
        raise DataError(f"view '{view}' answered {found.height} rows for {asked.height}")
    at = pl.col(_EVENT).dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    keys = [column for column in asked.columns if column != _AT]
    return found.select(*keys, at.alias(_AT), *names)


def _nothing(store: FeatureStore, view: str, asked: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    fields = {field.name: polars_type(field.dtype) for field in store.get_feature_view(view).features}
    return asked.with_columns(pl.lit(None, dtype=fields[name]).alias(name) for name in names)


def _check_rows(rows: pl.DataFrame, time: str, wanted: Sequence[str]) -> None:
    """Refuse rows that the join would change silently."""
    kind = rows.schema.get(time)
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise DataError(f"column '{time}' must be a time stamp with a time zone, not {kind}")
    if rows[time].null_count():
        raise DataError(f"column '{time}' has {rows[time].null_count()} nulls: every row needs its time")
    taken = [name for name in rows.columns if name in wanted or name in (_ROW, _AT)]
    if taken:
        raise DataError(f"column '{taken[0]}' is also a feature of the service: rename or drop it")


def _filled(options: Any, ws: Workspace) -> Any:
    """Put the workspace's folder in place of `{workspace}`."""
    if isinstance(options, Mapping):
        return {key: _filled(value, ws) for key, value in options.items()}
    if isinstance(options, str):
        return options.replace("{workspace}", str(ws.root.resolve()))
    return options


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Feast's progress bars and notices off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)
