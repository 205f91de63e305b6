"""Judge by rows held out at random: a derived workspace that never held them, so nothing can leak.

Holding rows out of a query is not enough where features are aggregates: they would still count the
hidden rows. So the lake is copied without them, and the features are built again from the copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

from pipelines.case_study import CaseStudy, Dataset, EvaluationProtocol
from pipelines.errors import DataError
from pipelines.settings import Platform
from pipelines.steps.features import build_features
from pipelines.stores.code import code_digest
from pipelines.stores.dataset import open_dataset
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace


class Timeless:
    """A data set whose named tables, and labels, come from other rows than its features.

    For training both are the remaining rows; for measuring `labelled` holds the held-out ones.
    """

    timeless = True

    def __init__(self, seen: Dataset, labelled: Dataset, held: frozenset[str]) -> None:
        self.seen, self.labelled, self.held = seen, labelled, held
        self.start, self.end, self.seed = seen.start, seen.end, seen.seed

    def table(self, name: str) -> pl.LazyFrame:
        return (self.labelled if name in self.held else self.seen).table(name)

    def entities(self, name: str) -> pl.LazyFrame:
        return self.seen.entities(name)

    def labels(self) -> pl.DataFrame:
        return self.labelled.labels()

    def historical(self, rows: pl.DataFrame, time: str) -> pl.DataFrame:
        return self.seen.historical(rows, time)

    def latest(self, view: str) -> pl.DataFrame:
        return self.seen.latest(view)


def hold_out(
    case: CaseStudy,
    ws: Workspace,
    start: datetime,
    as_of: datetime,
    seed: int,
    platform: Platform,
    protocol: EvaluationProtocol,
) -> tuple[Dataset, Dataset]:
    """Return (training, test) data sets of [start, as_of): all rows but the held-out ones, and those."""
    folder = ws.root / "hold_out" / protocol.name
    rest, held = Workspace(folder / "rest"), Workspace(folder / "held")
    lake = Lake(ws.lake, case.tables).digest(None, as_of)
    made_of = {"lake": lake, "code": code_digest(case), "seed": seed, "as_of": as_of.isoformat()}
    done = folder / "made_of.json"
    if not done.exists() or read_json(done)["made_of"] != made_of:
        with write_folder_aside(folder) as aside:
            names = _divide(case, ws, protocol, seed, as_of, aside / "rest" / "lake", aside / "held" / "lake")
        build_features(case, rest, as_of)
        write_json(done, {"made_of": made_of, "held": names})
    hidden_tables = frozenset(read_json(done)["held"])
    seen = open_dataset(case, rest, start, as_of, seed, platform, timeless=True)
    hidden = open_dataset(case, held, start, as_of, seed, platform, timeless=True)
    return Timeless(seen, seen, hidden_tables), Timeless(seen, hidden, hidden_tables)


def known_tables(case: CaseStudy, ws: Workspace, as_of: datetime) -> dict[str, pl.LazyFrame]:
    """Scan each table's rows as they were known at a moment: what came since must not move who is held out."""
    lake = Lake(ws.lake, case.tables)
    return {table.name: lake.scan(table.name, None, as_of, arrived_before=as_of) for table in case.tables}


def _divide(
    case: CaseStudy,
    ws: Workspace,
    protocol: EvaluationProtocol,
    seed: int,
    as_of: datetime,
    rest: Path,
    held: Path,
) -> list[str]:
    """Copy the lake twice: without the held-out rows, and with no others in their tables."""
    assert protocol.hold_out is not None
    tables = known_tables(case, ws, as_of)
    chosen: Mapping[str, pl.DataFrame] = protocol.hold_out(tables, seed)
    with Lake(rest, case.tables).writing() as remaining, Lake(held, case.tables).writing() as hidden:
        for table in case.tables:
            rows = tables[table.name].collect()
            if table.name not in chosen:
                remaining.add(table.name, rows)
                hidden.add(table.name, rows)
                continue
            keys = chosen[table.name].select(table.key).unique()
            taken = rows.join(keys, on=table.key, how="semi")
            if taken.height in (0, rows.height):
                raise DataError(
                    f"protocol '{protocol.name}' holds out {taken.height} of {rows.height} rows of "
                    f"'{table.name}': "
                    "there must be rows on both sides; read more data"
                )
            remaining.add(table.name, rows.join(keys, on=table.key, how="anti"))
            hidden.add(table.name, taken)
        for writer in (remaining, hidden):
            writer.fold()
            writer.commit()
    return sorted(chosen)
