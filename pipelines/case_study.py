"""What a case study is: the contract between a machine-learning system and the platform.

A case says only what is different about it. It declares its tables, sources, features, label,
model, heuristics and the protocols it is judged by; the steps do the rest and never know its name.
Nothing here assumes users, items or slates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import numpy as np
    import pandera.polars as pa
    import polars as pl


@dataclass(frozen=True)
class Framing:
    """The first of the four steps: what the business wants, and what the model is asked.

    `attribution` is how long after an impression an action still earns its label. Metrics are better
    the greater they are, but for those in `lower_is_better` (a log-loss, an error). `selection_metric` tells two models
    apart on few rows, where the primary metric is too coarse to: a proper scoring rule, such as a log-loss. None: the
    primary metric does.
    """

    business_objective: str
    ml_objective: str
    label: str
    attribution: timedelta
    primary_metric: str
    guardrails: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    selection_metric: str | None = None

    @property
    def selects(self) -> str:
        """Name the metric that few rows are compared by."""
        return self.selection_metric or self.primary_metric

    def sign(self, metric: str) -> int:
        """Return -1 for a metric that is better the lower it is, else 1."""
        return -1 if metric in self.lower_is_better else 1


# --- data -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table of the lake: append-only, one Parquet folder a date of `time` (UTC).

    Every table has `arrived_at` (UTC): when the platform could first have read the row. Rows with
    equal `key` are one row: the first to arrive stays.
    """

    name: str
    key: tuple[str, ...]
    time: str
    schema: type[pa.DataFrameModel]


SPOILED = "_spoiled"
"""A column that says why a row of a file must not be used, null where nothing is wrong with it."""


@dataclass(frozen=True)
class Batch:
    """Some rows for a table, and where they stood: `first_row` counts from 1 within `origin`.

    Beside the table's columns `rows` may have one named `SPOILED`.
    """

    table: str
    rows: pl.DataFrame
    origin: str
    first_row: int = 1


@dataclass(frozen=True)
class Observed:
    """What a source really saw. Adapters invent nothing: what is not observed is null."""

    impressions: bool = True
    positions: bool = True
    propensities: bool = True
    times: bool = True
    authors: bool = True


class Location(Protocol):
    """A folder or a base URL that the user named."""

    def fetch(self, name: str) -> Path:
        """Return the named file as a local path; raise DataError where it does not exist."""

    def has(self, name: str) -> bool:
        """Say whether the named file exists."""


@dataclass(frozen=True)
class Source:
    """Real rows for a case: `read` maps the publisher's files to the case's own tables.

    `zone` names the time zone of naive time stamps (recorded in the manifest); without it they are
    refused. `protocols` are the evaluation protocols that make sense for the source, the first of
    which yields the registered model.
    """

    name: str
    describe: str
    observed: Observed
    protocols: tuple[str, ...]
    read: Callable[[Location], Iterator[Batch]]
    zone: str | None = None


@dataclass(frozen=True)
class Contributions:
    """Who acts on what, by columns that impressions and actions both have: what `limits` in configs/ count by.

    A row in which one of the columns is null is not counted by it. `words` names the actions that are
    counted, each word for itself; empty: all of them.
    """

    actor: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class EventLog(Protocol):
    """An append-only log of rows, read by watermark: what serving and simulated users write to."""

    @property
    def end(self) -> int:
        """The offset of the newest rows; 0 for an empty log."""

    def append(self, table: str, rows: pl.DataFrame) -> int:
        """Make the rows durable and return the offset that stands after them."""

    def read(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Yield (offset, batch) for everything appended after the watermark, in order."""


# --- features and labels ------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureTable:
    """One feature view: daily partial aggregates, rolled up into dated snapshots.

    `daily(tables)` aggregates raw rows to one row an entity and day (`keys` + `day` + `known` + partials).
    Its tables carry two columns more than the lake's: `day`, and `known`, the first midnight that may see
    the row; `roll` must honour `known <= at`. Partials merge over days, and are integers, extremes or
    sorted lists: sums of floats would depend on the order of threads.
    `roll(due, partials)` turns, for each (`keys`, `at`) of `due`, the partials of the days before
    `at` into the declared features. Both are Ibis expressions that DuckDB and Spark run alike.
    An entity is due at the midnight after a day on which it had events, and whenever a day leaves
    one of its `windows` (in days), so that its latest row is always exact.
    """

    name: str
    keys: tuple[str, ...]
    reads: tuple[str, ...]
    windows: tuple[int, ...]
    daily: Callable[[Mapping[str, ir.Table]], ir.Table]
    roll: Callable[[ir.Table, ir.Table], ir.Table]


@dataclass(frozen=True)
class Label:
    """A fold over requests, impressions and actions.

    `fold(tables, as_of)` yields `keys`, `time` (the example's), and `label`; the platform drops
    rows whose `time + attribution` lies after `as_of` (immature) unless `matures` is false.
    Where the case is served the fold also yields `request_id`: of the request that the example came of, null where
    none did. By it experiments and `watch` count what came of answers.
    `told_after` is for labels that are told before they are final, such as a verdict that may be appealed: so long
    after the example they are learned from, while the days that the gate and the watch judge wait until they are
    mature. It needs a fold that yields no row where nothing was told (elsewhere what has not come yet would count as
    no), and a `fit` that learns how an example went from its label alone.
    """

    keys: tuple[str, ...]
    time: str
    reads: tuple[str, ...]
    fold: Callable[[Mapping[str, ir.Table], datetime], ir.Table]
    matures: bool = True
    told_after: timedelta | None = None


class Dataset(Protocol):
    """What may be seen at one moment: nothing that happened or arrived at `end` or later.

    `timeless` tells `fit` that its examples carry no order (rows held out at random, not by time).
    """

    start: datetime
    end: datetime
    seed: int
    timeless: bool

    def table(self, name: str) -> pl.LazyFrame:
        """Scan a table's rows whose time lies in [start, end) and that had arrived by `end`."""

    def entities(self, name: str) -> pl.LazyFrame:
        """Scan a table's rows before `end` whatever their age: catalogues, profiles."""

    def labels(self) -> pl.DataFrame:
        """Fold the mature labels of examples in [start, end) whose label is known by `end`."""

    def historical(self, rows: pl.DataFrame, time: str) -> pl.DataFrame:
        """Join the service's features to each row as they stood at the row's own time.

        Row count and order are kept; features without a value are null.
        """

    def latest(self, view: str) -> pl.DataFrame:
        """Read one view's newest row of each entity as of `end`."""


# --- models and their measures ----------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """What a model brings along for people: curves, tables and figures of its training."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Model(Protocol):
    """A fitted model, or a heuristic that stands beside it.

    What else a model offers (rank, classify …) is between a case's `model.py` and the measures of
    its protocols; the platform only saves, loads and scores.
    """

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Score feature rows, shape (n,): what MLflow's signature, drift and parity checks see."""

    def save(self, folder: Path) -> None:
        """Write the model without pickles (LightGBM text, safetensors, ONNX, Parquet, JSON)."""


@dataclass(frozen=True)
class Fitted:
    """A fit's outcome: the model, its card, and the feature rows it learned from."""

    model: Model
    card: Card
    examples: pl.DataFrame


class Judge(Protocol):
    """The truth of a simulated world; on real data there is none."""

    def expected(self, rows: pl.DataFrame) -> np.ndarray:
        """Return the true probability of the label for each row, shape (n,).

        It is free of position bias, but where a case predicts what happens at a row's own position.
        """

    def best_share(self, rows: pl.DataFrame, k: int) -> pl.DataFrame:
        """Compare served slates (unit, item columns of the case) with the best feasible slates.

        Return one row a unit: `unit`, `reward` (expected), `best` (expected, of the best slate).
        """


class Statistic(Protocol):
    """A metric over exchangeable units (requests, users, posts), ready to be resampled."""

    @property
    def units(self) -> np.ndarray:
        """The ids of the units, shape (n,)."""

    def estimate(self, weights: np.ndarray | None = None) -> float:
        """Compute the metric, each unit weighted: `weights` has the shape of `units`."""


@dataclass(frozen=True)
class Measured:
    """What one protocol found about one scorer: a statistic a metric, and unit masks a slice.

    All scorers of one protocol are measured on the same units in the same order, so that their
    differences can be resampled in pairs. A metric that does not apply to a scorer is absent.
    """

    statistics: Mapping[str, Statistic]
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a model is judged.

    A time split (the default) trains on [as_of - evaluate_days - train_days, as_of - evaluate_days)
    and measures on the evaluate_days after it. `split(tables)`, where given, names the moment instead:
    training sees everything before it, measuring everything from it until `as_of`.
    `hold_out(tables, seed)`, where given, names the rows (by table) that training must not see, whatever
    their time: the training data set holds all other rows until `as_of` (and features come from those
    only), the test data set the held-out ones, and both are `timeless`.
    `measure(model, train, test, judge)` sees the training data set (for seen items, candidates) and
    the later one. `describe` is printed beside the figures.
    """

    name: str
    describe: Mapping[str, str]
    measure: Callable[[Model, Dataset, Dataset, Judge | None], Measured]
    split: Callable[[Mapping[str, pl.LazyFrame]], datetime] | None = None
    hold_out: Callable[[Mapping[str, pl.LazyFrame], int], Mapping[str, pl.DataFrame]] | None = None


# --- serving --------------------------------------------------------------------------------------


class Stock(Protocol):
    """What is held in process to answer from: whole views and tables, as they stood at `moment` (UTC)."""

    @property
    def moment(self) -> datetime:
        """When the stock was as it is."""

    def view(self, name: str) -> pl.DataFrame:
        """Return a feature view's newest row of each entity, sorted by entity."""

    def table(self, name: str) -> pl.DataFrame:
        """Return a table's rows (a catalogue, profiles) that were known at the moment."""


@dataclass(frozen=True)
class Answer:
    """Answers to n requests. `ranked` (n, depth) are rows of `pool`, best first, -1 for none.

    `pool` (m rows) holds the key columns of everything that could be answered, items or decisions, each of
    them a column of impressions, which log it.
    An explored answer is drawn from it, uniformly, or as `chances` (m,) say. `scores` has the shape of
    `ranked`. `details` are further columns of the reply, (n, depth) each: the model's probability of each
    class, say. They are logged where impressions have a column of that name.
    """

    pool: pl.DataFrame
    ranked: np.ndarray
    scores: np.ndarray
    chances: np.ndarray | None = None
    details: Mapping[str, np.ndarray] = field(default_factory=dict)


class Answerer(Protocol):
    """A model, or a heuristic, ready to answer from a stock."""

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Answer requests: their declared fields, `time` (UTC), and the features of their own views.

        A feature that is missing, or that could not be read, is null; every request gets an answer.
        """


DECISION = "decision"
"""The column of impressions that holds what was decided, where that is what answers are."""


@dataclass(frozen=True)
class Serving:
    """How a system answers requests, and what may come back.

    `request` declares what a caller sends, each field a column of the table of requests, or of impressions,
    which log it; the keys of the `own` views are among its fields, and those are read from the online store for
    each request. `views` and `tables` are held in process, for the candidates. `ready` makes a model answer
    from them, `fallback` does without a model. `places` is how long an answer is, `actions` are the words that
    may come back for each place. `unit` names the field by whose value an experiment tells requests apart;
    default: the first. `told` declares what an action tells beyond its word, value and time: columns of the
    table of actions, with an example each; where that hangs on the word it declares `action` too. Where answers
    are decisions, `decisions` are the values of the impressions' column `decision`.
    """

    request: type[BaseModel]
    actions: tuple[str, ...]
    places: int
    own: tuple[str, ...]
    views: tuple[str, ...]
    tables: tuple[str, ...]
    ready: Callable[[Any, Stock], Answerer]
    fallback: Callable[[Stock], Answerer]
    unit: str | None = None
    told: type[BaseModel] | None = None
    decisions: tuple[str, ...] = ()

    @property
    def asker(self) -> str:
        """Name the field by whose value requests are told apart."""
        return self.unit or next(iter(self.request.model_fields))


@dataclass(frozen=True)
class CaseStudy:
    """One machine-learning system, whole."""

    name: str
    framing: Framing
    tables: tuple[Table, ...]
    sources: tuple[Source, ...]
    features: tuple[FeatureTable, ...]
    service: str
    label: Label
    params: type[BaseModel]
    fit: Callable[[Dataset, Any], Fitted]
    load: Callable[[Path], Model]
    heuristics: Mapping[str, Callable[[Dataset, Any], Model]]
    protocols: Mapping[str, EvaluationProtocol]
    predictions: Callable[[Dataset], pl.DataFrame]
    """Rows as they were, or would have been, scored in [start, end): what `monitor` watches."""
    serving: Serving | None = None
    """How it answers requests; None while it is not served yet."""
    contributions: Contributions | None = None
    """Who acts on what, so that what one account gives can be limited; None where nobody is told apart."""

    def table(self, name: str) -> Table:
        """Find a declared table by name."""
        return next(table for table in self.tables if table.name == name)

    @property
    def told_after(self) -> timedelta:
        """Tell how long after an example its label may be learned from; final it is after the attribution window."""
        if not self.label.matures:
            return timedelta(0)
        told = self.label.told_after
        return self.framing.attribution if told is None else told

    def shaped(self, shape: type[pa.DataFrameModel]) -> list[Table]:
        """List the tables that extend one of the shapes of stores/schemas.py."""
        return [table for table in self.tables if issubclass(table.schema, shape)]


# --- worlds ---------------------------------------------------------------------------------------


class Users(Protocol):
    """Simulated people as a served system meets them: they ask, are shown something, and act.

    What is asked depends on nothing that was served. The same answers are acted on alike; and what two
    systems show alike (the same item at the same place of the same request) has the same outcome.
    """

    def newcomers(self, day: datetime, first: bool = False) -> Mapping[str, pl.DataFrame]:
        """Write the rows of catalogues and profiles that arrive on the UTC day (a midnight), by table.

        On the `first` day: of all who are there.
        """

    def ask(self, day: datetime) -> pl.DataFrame:
        """Write what is asked on the day, in order of `time` (UTC): that column and the request's fields."""

    def act(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Draw what is done about the answers to the day's requests.

        `shown` has a row a place: `request` (row number of `ask`, from 0), `impression_id`,
        `impression_time` (UTC), `position` (from 1), and the columns of the answer's pool. Returns rows in
        order of `action_time`: `action_id`, `impression_id`, `action`, `value`, `action_time`, and what
        else the case's actions tell.
        """

    def worth(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Tell the truth about the answers: a row a request that has one, in order of `request`.

        Columns: `request`, `reward` (expected) and `best` (of the best feasible answer to it).
        """


@dataclass(frozen=True)
class World:
    """A simulated population with a known truth. Only the runners may ask for one.

    `rows(params, seed, start, days, state)` yields the batches of `days` days from `start`,
    continuing from (and rewriting) the folder `state`; the same days come out whether they are asked
    for at once or one by one. `judge(params, seed, start)` tells the truth about the world that began at
    `start`, and `users(params, seed, start)` are its people, for a system that really answers them.
    """

    params: type[BaseModel]
    rows: Callable[[Any, int, datetime, int, Path], Iterator[Batch]]
    judge: Callable[[Any, int, datetime], Judge]
    users: Callable[[Any, int, datetime], Users]
