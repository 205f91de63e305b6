"""Train: labels and point-in-time features become a model directory. No registry is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Dataset
from pipelines.errors import DataError
from pipelines.settings import CaseParams, Platform, parse
from pipelines.steps.partials import plan
from pipelines.steps.recency import Choice, choose_since
from pipelines.steps.split import split, training_data
from pipelines.stores.code import code_digest, code_files, library_versions
from pipelines.stores.lake import Contents, Lake, contents_digest
from pipelines.stores.models import save_model
from pipelines.stores.workspace import Workspace


@dataclass(frozen=True)
class Trained:
    """A model directory: its digest, folder and the record of where it came from."""

    digest: str
    folder: Path
    record: dict[str, Any]

    def summary(self) -> str:
        """Say in a line what was trained."""
        window = self.record["window"]
        return f"model {self.digest[:12]} of [{window['start']}, {window['end']})"


def train(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    falls: Sequence[datetime] = (),
) -> Trained:
    """Fit the case's model on its training window and write it to `ws.model`.

    After `falls` (when each began), on the part of the window that tells the newest rows best. Raise DataError where
    the window holds no mature label.
    """
    dataset = split(case, ws, as_of, params, platform, protocol).train
    choice = choose_since(case, ws, dataset, falls, params, platform, protocol)
    return fit_chosen(case, ws, as_of, params, platform, protocol, dataset, ws.model, choice)


def fit_chosen(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    dataset: Dataset,
    folder: Path,
    choice: Choice | None,
    origin: Mapping[str, Any] | None = None,
) -> Trained:
    """Fit the case's model on a data set, or on what came since the chosen moment within it; write it to `folder`."""
    if choice is not None:
        dataset = training_data(case, ws, choice.start, dataset.end, params, platform)
        origin = {**(origin or {}), **choice.as_record()}
    return fit_model(case, ws, as_of, params, protocol, dataset, folder, origin)


def fit_model(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    protocol: str,
    dataset: Dataset,
    folder: Path,
    origin: Mapping[str, Any] | None = None,
) -> Trained:
    """Fit the case's model on a data set and write it to `folder`; its record also tells `origin`."""
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    fitted = case.fit(_Labelled(dataset), settings)
    record = training_record(case, ws, as_of, params, protocol, dataset, settings.model_dump(mode="json"))
    record |= origin or {}
    digest = save_model(case, fitted, folder, record, seed=params.seed)
    return Trained(digest, folder, record)


def training_record(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    protocol: str,
    dataset: Dataset,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Say where a model comes from, so that it can be built again: no paths, ids or wall times.

    `inputs` tells the same as the digests, piece by piece, so that `reproduce` can name what changed.
    """
    contents = Lake(ws.lake, case.tables).contents(None, dataset.end, arrived_before=dataset.end)
    return {
        "case": case.name,
        "name": ws.name,
        "protocol": protocol,
        "service": case.service,
        "as_of": as_of.isoformat(),
        "window": {"start": dataset.start.isoformat(), "end": dataset.end.isoformat()},
        "params": settings,
        "days": params.window.model_dump(),
        "seed": params.seed,
        "data": contents_digest(contents),
        "code": code_digest(case),
        "versions": library_versions(),
        "inputs": training_inputs(case, contents),
    }


def training_inputs(case: CaseStudy, contents: Contents) -> dict[str, dict[str, str]]:
    """Name the pieces that a model is made of: rows by table and date, feature definitions, code files."""
    return {
        "data": {
            f"{table} {where.removeprefix('date=')}": content.name
            for table, folders in sorted(contents.items())
            for where, content in sorted(folders.items())
        },
        "features": {each.name: plan(each, tuple(case.tables)).definition for each in case.features},
        "code": code_files(case),
    }


@dataclass(frozen=True)
class _Labelled:
    """A data set that refuses to be learned from where it has no labels."""

    dataset: Dataset

    def labels(self) -> pl.DataFrame:
        found = self.dataset.labels()
        if found.is_empty():
            raise DataError(
                f"no mature label in [{self.dataset.start.isoformat()}, {self.dataset.end.isoformat()}): "
                "ingest more days, or move as_of"
            )
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)
