"""Reproduce: build a model again from what its record says, and name the inputs that changed since.

The rebuild takes moment, window, seed and parameters from the record, and rows from the workspace where
the model was trained. It works in a folder of its own: neither that workspace nor the registry is touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pipelines.case_study import CaseStudy, Dataset
from pipelines.errors import DataError, LoopError
from pipelines.settings import CaseParams, Platform, parse
from pipelines.steps.features import build_features
from pipelines.steps.model_card import flat
from pipelines.steps.recency import SINCE
from pipelines.steps.refit import JUDGED
from pipelines.steps.split import newest, split, training_data
from pipelines.steps.train import fit_model, training_inputs
from pipelines.stores.code import library_versions
from pipelines.stores.lake import Contents, Lake
from pipelines.stores.models import check, read_record
from pipelines.stores.workspace import Workspace

_SHOWN = 5


@dataclass(frozen=True)
class Change:
    """An input that is not what the record says; `used` tells which of the two the rebuild took.

    `input` is data, features, code, libraries or params; `what` a table and date, a view, a file, a key.
    """

    input: str
    what: str
    recorded: str | None
    now: str | None
    used: Literal["recorded", "now"]

    def words(self) -> str:
        """Name it, with what can be said in a few characters."""
        if self.input == "data":
            return f"{self.what} ({_rows(self.recorded)} then, {_rows(self.now)} now)"
        if self.input in ("params", "libraries"):
            return f"{self.what} ({self.recorded} then, {self.now} now)"
        absent = {self.recorded: " (new)", self.now: " (gone)"}.get(None, "")
        return self.what + absent


@dataclass(frozen=True)
class Reproduction:
    """The recorded digest and the rebuilt one; `rebuilt` is None where the recorded rows are gone."""

    digest: str
    rebuilt: str | None
    changes: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Say whether the rebuilt model is the recorded one, to the byte."""
        return self.rebuilt == self.digest

    def summary(self) -> str:
        """Say what came of it, and what changed."""
        changed = describe(self.changes)
        if self.same:
            said = f"reproduced: rebuilt from its record, the model has the same digest {self.digest[:12]}"
            return said + (f". Changed since, without effect on it: {changed}" if changed else "")
        if self.rebuilt is None:
            return f"not reproduced: the rows it was trained on are no longer there. Changed since: {changed}"
        said = f"not reproduced: recorded model {self.digest[:12]}, rebuilt {self.rebuilt[:12]}"
        nothing = "no recorded input changed, so a step does not give the same bytes on this machine"
        return f"{said}. " + (f"Changed since: {changed}" if changed else nothing)


def reproduce(
    case: CaseStudy,
    ws: Workspace,
    folder: Path,
    params: CaseParams,
    platform: Platform,
    scratch: Path,
) -> Reproduction:
    """Rebuild the model directory `folder`, which was trained in `ws`, inside `scratch`.

    `params` are those of today, only to be compared. Raise DataError where the workspace has no rows,
    LoopError where the model's files are not what they were, or the rebuild fails.
    """
    digest, record = check(folder)["digest"], read_record(folder)
    if "inputs" not in record:
        raise LoopError(
            f"{folder} was trained before inputs were recorded one by one: train and promote again"
        )
    if not ws.lake.is_dir():
        raise DataError(
            f"{ws.lake} does not exist: the model was trained on its rows; ingest them again first"
        )
    own = _borrow(case, ws, Workspace(scratch / ws.origin / ws.name))
    end = datetime.fromisoformat(record["window"]["end"])
    contents = Lake(own.lake, case.tables).contents(None, end, arrived_before=end)
    changes = tuple(compare(case, record, contents, params))
    if any(change.input == "data" for change in changes):
        return Reproduction(digest, None, changes)
    try:
        rebuilt = _rebuild(case, own, record, platform)
    except LoopError as error:
        because = f"; changed since: {describe(changes)}" if changes else ""
        raise type(error)(f"the model cannot be rebuilt: {error}{because}") from error
    return Reproduction(digest, rebuilt, changes)


def compare(
    case: CaseStudy, record: Mapping[str, Any], contents: Contents, params: CaseParams
) -> Iterator[Change]:
    """Yield what differs between a record and the present."""
    now = training_inputs(case, contents)
    for name, pieces in now.items():
        yield from _differences(name, record["inputs"][name], pieces, "now")
    yield from _differences("libraries", record["versions"], library_versions(), "now")
    settings = parse(case.params, params.train, f"params of {case.name}: train").model_dump(mode="json")
    asked = {"train": record["params"], "window": record["days"], "seed": record["seed"]}
    today = {"train": settings, "window": params.window.model_dump(), "seed": params.seed}
    yield from _differences("params", flat(asked), flat(today), "recorded")


def describe(changes: Sequence[Change]) -> str:
    """Say in words what changed, input by input, a few of each."""
    said = []
    for name, group in groupby(changes, key=lambda change: change.input):
        found = [change.words() for change in group]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        said.append(f"{name}: {', '.join(found[:_SHOWN])}{more}")
    return "; ".join(said)


def _differences(
    name: str, recorded: Mapping[str, Any], now: Mapping[str, Any], used: Literal["recorded", "now"]
) -> Iterator[Change]:
    for what in sorted(recorded.keys() | now.keys()):
        before, after = (None if what not in each else str(each[what]) for each in (recorded, now))
        if before != after:
            yield Change(name, what, before, after, used)


def _rebuild(case: CaseStudy, own: Workspace, record: Mapping[str, Any], platform: Platform) -> str:
    as_of = datetime.fromisoformat(record["as_of"])
    recorded = CaseParams.model_validate(
        {"as_of": as_of, "seed": record["seed"], "window": record["days"], "train": record["params"]}
    )
    build_features(case, own, as_of)
    dataset = _dataset(case, own, as_of, record, recorded, platform)
    origin = {name: record[name] for name in (JUDGED, SINCE) if name in record}
    return fit_model(case, own, as_of, recorded, record["protocol"], dataset, own.model, origin).digest


def _dataset(
    case: CaseStudy,
    own: Workspace,
    as_of: datetime,
    record: Mapping[str, Any],
    params: CaseParams,
    platform: Platform,
) -> Dataset:
    """Open what the model learned from: what came since a fall, the newest days, or the protocol's own part."""
    if SINCE in record:
        start, end = (datetime.fromisoformat(record["window"][name]) for name in ("start", "end"))
        return training_data(case, own, start, end, params, platform)
    if JUDGED in record:
        return newest(case, own, as_of, params, platform)
    return split(case, own, as_of, params, platform, record["protocol"]).train


def _borrow(case: CaseStudy, ws: Workspace, own: Workspace) -> Workspace:
    """Link the lake's files, which nobody ever changes, into a workspace of one's own."""
    lake = Lake(ws.lake, case.tables)
    for table in case.tables:
        for file in lake.files(table.name):
            target = own.lake / file.relative_to(ws.lake)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target)
            except OSError:  # a file system without hard links, or another one
                shutil.copyfile(file, target)
    own.lake.mkdir(parents=True, exist_ok=True)
    return own


def _rows(content: str | None) -> str:
    return "no rows" if content is None else f"{int(content.partition('-')[0]):,} rows"
