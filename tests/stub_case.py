"""A system in a few dozen lines, with nothing in common with users, items or slates.

Machines report their heat; some break down soon after. The model's `skill` says how much of the truth it
sees, so that a test can ask for a worse, an equal or a better one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandera.polars as pa
import polars as pl

from pipelines.case_study import (
    Card,
    CaseStudy,
    Dataset,
    EvaluationProtocol,
    Fitted,
    Framing,
    Judge,
    Label,
    Measured,
    Model,
    Table,
)
from pipelines.settings import CaseParams, Frozen
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Rows, Utc
from pipelines.stores.workspace import Workspace

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Readings(Rows):
    """One machine's report."""

    reading_id: str
    read_at: Utc
    heat: float
    site: str = pa.Field(nullable=True)
    broke: int


class Settings(Frozen):
    """What changes the stub's model."""

    skill: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class Mixture:
    """Score a reading: `skill` parts of its true risk, and noise of its own seed for the rest."""

    skill: float
    seed: int

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        noise = np.random.default_rng([self.seed, rows.height]).uniform(size=rows.height)
        return self.skill * rows["heat"].to_numpy() + (1 - self.skill) * noise

    def save(self, folder: Path) -> None:
        (folder / "mixture.json").write_text(json.dumps({"skill": self.skill, "seed": self.seed}))


@dataclass(frozen=True)
class Mean:
    """The mean of a value a unit."""

    units: np.ndarray
    values: np.ndarray

    vectorised = True

    def estimate(self, weights: np.ndarray | None = None) -> float | np.ndarray:
        if weights is None:
            return float(self.values.mean())
        total = weights.sum(axis=-1)
        return weights @ self.values / np.where(total > 0, total, np.nan)


def load(folder: Path) -> Mixture:
    """Load what `Mixture.save` wrote."""
    return Mixture(**json.loads((folder / "mixture.json").read_text()))


def fit(dataset: Dataset, params: Settings) -> Fitted:
    """Pretend to learn; look at the labels as a real fit does."""
    labels = dataset.labels()
    examples = labels.select("heat", "site", "read_at")
    card = Card(
        metrics={"examples": float(labels.height)},
        curves={"loss": [1.0, 0.5, 0.3]},
        importance={"heat": 3.0, "site": 1.0},
        notes=("A stub: it learns nothing.",),
    )
    return Fitted(Mixture(params.skill, params.seed), card, examples)


def measure(model: Model, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Reward scores that are close to the outcome; slice by site=and by day."""
    rows = test.labels()
    predicted = model.predict(rows)
    units = rows["reading_id"].to_numpy()
    heat = rows["heat"].to_numpy()
    slices = {f"site={name}": (rows["site"] == name).fill_null(False).to_numpy() for name in ("a", "b")}
    for day in sorted(rows["read_at"].dt.date().unique().to_list()):
        slices[f"day={day}"] = (rows["read_at"].dt.date() == day).to_numpy()
    return Measured(
        {
            "closeness": Mean(units, 1 - np.abs(predicted - heat)),
            "squared_error": Mean(units, (predicted - rows["broke"].to_numpy()) ** 2),
        },
        slices,
    )


def hold_out(tables: Mapping[str, pl.LazyFrame], seed: int) -> Mapping[str, pl.DataFrame]:
    """Hold out a quarter of the readings."""
    rows = tables["readings"].select("reading_id").sort("reading_id").collect()
    return {"readings": rows.sample(fraction=0.25, seed=seed)}


def split(tables: Mapping[str, pl.LazyFrame]) -> datetime:
    """Split in the middle of February."""
    return datetime(2026, 2, 15, tzinfo=UTC)


CASE = CaseStudy(
    name="breakdown",
    framing=Framing(
        business_objective="Repair machines before they break down.",
        ml_objective="Estimate the risk that a machine breaks down within a day of a reading.",
        label="The machine broke down after the reading.",
        attribution=DAY,
        primary_metric="closeness",
        guardrails=("squared_error",),
        lower_is_better=("squared_error",),
    ),
    tables=(Table("readings", ("reading_id",), "read_at", Readings),),
    sources=(),
    features=(),
    service="breakdown_v1",
    label=Label(("reading_id",), "read_at", ("readings",), lambda tables, as_of: tables["readings"]),
    params=Settings,
    fit=fit,
    load=load,
    heuristics={
        "always": lambda dataset, params: Mixture(0.0, 99),
        "thermometer": lambda dataset, params: Mixture(0.3, 98),
    },
    protocols={
        "logged": EvaluationProtocol("logged", {"units": "readings, one each"}, measure),
        "time": EvaluationProtocol("time", {"units": "readings, one each"}, measure, split=split),
        "random": EvaluationProtocol("random", {"units": "readings, one each"}, measure, hold_out=hold_out),
    },
    predictions=lambda dataset: dataset.labels(),
)


class Truth:
    """The judge: heat is the true risk."""

    def expected(self, rows: pl.DataFrame) -> np.ndarray:
        return rows["heat"].to_numpy()

    def best_share(self, rows: pl.DataFrame, k: int) -> pl.DataFrame:
        raise NotImplementedError("machines have no slates")


class StubDataset:
    """What open_dataset returns, without Feast: the label is a column, and so are the features."""

    timeless = False

    def __init__(self, ws: Workspace, start: datetime, end: datetime, seed: int) -> None:
        self.ws, self.start, self.end, self.seed = ws, start, end, seed

    def table(self, name: str) -> pl.LazyFrame:
        return Lake(self.ws.lake, CASE.tables).scan(name, self.start, self.end, self.end)

    def entities(self, name: str) -> pl.LazyFrame:
        return Lake(self.ws.lake, CASE.tables).scan(name, None, self.end)

    def labels(self) -> pl.DataFrame:
        rows = self.table("readings").sort("reading_id").collect()
        return rows.with_columns(label=pl.col("broke"))

    def historical(self, rows: pl.DataFrame, time: str) -> pl.DataFrame:
        return rows

    def latest(self, view: str) -> pl.DataFrame:
        return pl.DataFrame()


def open_stub(
    case: CaseStudy,
    ws: Workspace,
    start: datetime,
    end: datetime,
    seed: int,
    platform: object,
    *,
    timeless: bool = False,
    provisional: bool = False,
) -> Dataset:
    """Stand in for stores.dataset.open_dataset."""
    return StubDataset(ws, start, end, seed)


def params(**train: object) -> CaseParams:
    """Return a section of params.yaml."""
    return CaseParams.model_validate(
        {"as_of": AS_OF, "seed": 7, "window": {"train_days": 20, "evaluate_days": 7}, "train": train}
    )


def readings(days: int = 27, a_day: int = 60, seed: int = 1) -> pl.DataFrame:
    """Invent readings for the days before AS_OF."""
    generator = np.random.default_rng(seed)
    n = days * a_day
    heat = generator.uniform(size=n)
    read_at = [AS_OF - DAY * (1 + i // a_day) + timedelta(minutes=10 * (i % a_day)) for i in range(n)]
    return pl.DataFrame(
        {
            "arrived_at": read_at,
            "reading_id": [f"r{i:06d}" for i in range(n)],
            "read_at": read_at,
            "heat": heat,
            "site": ["ab"[i % 2] if i % 17 else None for i in range(n)],
            "broke": (generator.uniform(size=n) < heat).astype(int),
        },
        schema_overrides={
            "arrived_at": pl.Datetime("us", "UTC"),
            "read_at": pl.Datetime("us", "UTC"),
            "broke": pl.Int64,
        },
    )


def workspace(root: Path, name: str = "breakdown", origin: str = "runs", **kwargs: int) -> Workspace:
    """Make a workspace whose lake holds invented readings."""
    ws = Workspace(root / origin / name)
    Lake(ws.lake, CASE.tables).append("readings", readings(**kwargs))
    return ws
