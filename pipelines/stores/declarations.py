"""What feature_repo/ declares for a case, and whether the case computes just that."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.case_study import CaseStudy, FeatureTable
from pipelines.errors import DataError, nearest
from pipelines.stores.feast_import import import_feast
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureView

REPOSITORY = Path(__file__).resolve().parents[2] / "feature_repo"
STAMPS = {
    "event_timestamp": pl.Datetime("us", "UTC"),
    "created_timestamp": pl.Datetime("us", "UTC"),
}
_TYPES: Mapping[str, pl.DataType] = {
    "Bool": pl.Boolean(),
    "Bytes": pl.Binary(),
    "Float32": pl.Float32(),
    "Float64": pl.Float64(),
    "Int32": pl.Int32(),
    "Int64": pl.Int64(),
    "String": pl.String(),
    "UnixTimestamp": pl.Datetime("us", "UTC"),
}
_importing = Lock()


@dataclass(frozen=True)
class Declared:
    """The Feast objects of one case, their batch sources pointed at one workspace."""

    entities: tuple[Entity, ...]
    views: Mapping[str, FeatureView]
    service: FeatureService


def snapshot_files(ws: Workspace, view: str) -> str:
    """Name a view's snapshots as a glob, as Feast and DuckDB read them."""
    return str(ws.features.resolve() / view / "*" / "*.parquet")


def declarations(case: CaseStudy, ws: Workspace) -> Declared:
    """Read `feature_repo/<case>.py` for a workspace."""
    import_feast()
    from feast import Entity, FeatureService, FeatureView, FileSource

    path = REPOSITORY / f"{case.name}.py"
    if not path.is_file():
        raise DataError(f"{path} does not exist: declare the case's feature views and service there")
    with _importing, _first_on_path(REPOSITORY):
        objects = list(runpy.run_path(str(path)).values())
    views = {each.name: each for each in objects if isinstance(each, FeatureView)}
    for view in views.values():
        view.batch_source = FileSource(
            name=f"{case.name}_{view.name}",
            path=snapshot_files(ws, view.name),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
    services = {each.name: each for each in objects if isinstance(each, FeatureService)}
    if case.service not in services:
        raise DataError(f"{path} declares no service '{case.service}': {nearest(case.service, services)}")
    entities = tuple(each for each in objects if isinstance(each, Entity))
    return Declared(entities, views, services[case.service])


def check(case: CaseStudy, ws: Workspace, declared: Declared) -> None:
    """Hold what was computed against what is declared; DataError names the view and the column."""
    computed = {table.name for table in case.features}
    for name in sorted(computed ^ set(declared.views)):
        here, there = ("computes", "declares") if name in computed else ("declares", "computes")
        raise DataError(f"view '{name}': {case.name} {here} it, but nothing {there} it")
    for table in case.features:
        check_view(declared, table, ws)


def check_view(declared: Declared, table: FeatureTable, ws: Workspace) -> None:
    """Compare one view's declared columns with those of its snapshots."""
    from feast.types import from_value_type

    view = declared.views[table.name]
    file = ws.features / table.name / "date=1970-01-01" / "empty.parquet"
    if not file.is_file():
        raise DataError(f"view '{table.name}' has no snapshots in {ws.features}: build the features first")
    found = dict(pl.read_parquet_schema(file))
    entities = [each for each in declared.entities if each.name in view.entities]
    keys = {each.join_key: polars_type(from_value_type(each.value_type)) for each in entities}
    wanted = {**keys, **{field.name: polars_type(field.dtype) for field in view.schema}, **STAMPS}
    for column in [*wanted, *found]:
        where = f"view '{table.name}', column '{column}'"
        if column not in found:
            raise DataError(f"{where}: declared in feature_repo/, but not computed")
        if column not in wanted:
            raise DataError(f"{where}: computed, but not declared in feature_repo/")
        if found[column] != wanted[column]:
            raise DataError(f"{where}: declared as {wanted[column]}, but computed as {found[column]}")


def polars_type(dtype: Any) -> pl.DataType:
    inner = getattr(dtype, "base_type", None)
    if inner is not None:
        return pl.List(polars_type(inner))
    if str(dtype) not in _TYPES:
        raise DataError(f"feature type {dtype} is not supported: known are {', '.join(sorted(_TYPES))}")
    return _TYPES[str(dtype)]


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """Import modules from a folder, as Feast does; forget them afterwards, for their names are common."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) in {str(each) for each in folder.glob("*.py")}:
                del sys.modules[name]
