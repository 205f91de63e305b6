"""After a fall: what came since it teaches alone where unseen people's newest rows say so; else the whole window."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, CASE, DAY

from pipelines.case_study import CaseStudy, Contributions, Dataset, Fitted, Measured, Model
from pipelines.errors import DataError
from pipelines.settings import Gate, Platform
from pipelines.steps.evaluate import evaluate
from pipelines.steps.promote import promote
from pipelines.steps.recency import FEWEST_UNITS, HELD_OUT, Choice, choose_since
from pipelines.steps.reproduce import reproduce
from pipelines.steps.signals import last_training
from pipelines.steps.split import newest
from pipelines.steps.train import train
from pipelines.stores.lake import Lake
from pipelines.stores.models import load_model, read_record
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

PARAMS, PLATFORM, HOUR = stub_case.params(), Platform(), timedelta(hours=1)


@dataclass(frozen=True)
class Halves:
    """How often the cold and the hot machines broke, as the window had it."""

    cold: float
    hot: float

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        return np.where(rows["heat"].to_numpy() > 0.5, self.hot, self.cold)

    def save(self, folder: Path) -> None:
        (folder / "halves.json").write_text(json.dumps([self.cold, self.hot]))


def load(folder: Path) -> Halves:
    return Halves(*json.loads((folder / "halves.json").read_text()))


def learn(dataset: Dataset, settings: Any) -> Fitted:
    rows = dataset.labels()
    rates = [rows.filter((pl.col("heat") > 0.5) == hot)["broke"].mean() for hot in (False, True)]
    cold, hot = (0.5 if rate is None else float(rate) for rate in rates)  # type: ignore[arg-type]
    return replace(stub_case.fit(dataset, settings), model=Halves(cold, hot))


CHANGING: CaseStudy = replace(
    CASE, framing=replace(CASE.framing, primary_metric="squared_error", guardrails=()), fit=learn, load=load
)


def lived(root: Path, changed: int, a_day: int = 60, noise: float = 0.1, seed: int = 1) -> Workspace:
    """Fill a lake: hot machines break, and cold ones in the last `changed` days."""
    rows = stub_case.readings(a_day=a_day, seed=seed)
    hot, since = pl.col("heat") > 0.5, pl.col("read_at") >= AS_OF - changed * DAY
    luck = pl.Series(np.random.default_rng([seed, 1]).uniform(size=rows.height) < noise)
    rows = rows.with_columns(broke=((hot != since) != luck).cast(pl.Int64))
    ws = Workspace(root / "runs" / "breakdown")
    Lake(ws.lake, CASE.tables).append("readings", rows)
    return ws


class Third:
    """A data set of every third label."""

    def __init__(self, seen: Dataset) -> None:
        self._seen = seen

    def labels(self) -> pl.DataFrame:
        return self._seen.labels().gather_every(3)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seen, name)


def chosen(
    ws: Workspace, falls: Sequence[int], case: CaseStudy = CHANGING, protocol: str = "logged"
) -> Choice | None:
    """Choose for the newest 20 days after falls so many days ago."""
    whole = newest(case, ws, AS_OF, PARAMS, PLATFORM)
    return choose_since(case, ws, whole, [AS_OF - ago * DAY for ago in falls], PARAMS, PLATFORM, protocol)


def test_what_came_since_a_change_teaches_alone(stub: None, tmp_path: Path) -> None:
    found = chosen(lived(tmp_path, changed=5), falls=[5])
    assert found is not None and found.start == AS_OF - 5 * DAY
    assert found.alone == pytest.approx(0.09, abs=0.03) and found.whole > 0.3
    assert 70 <= found.units <= 130, "a third of five days' readings"


def test_where_nothing_changed_the_whole_window_mostly_teaches(stub: None, tmp_path: Path) -> None:
    """A day teaches less than twenty, and the people held out see it."""
    found = [
        chosen(lived(tmp_path / str(seed), 0, a_day=180, noise=0.3, seed=seed), [1]) for seed in range(12)
    ]
    assert sum(each is not None for each in found) <= 4


def test_windows_are_compared_by_the_selection_metric(stub: None, tmp_path: Path) -> None:
    """The primary metric here sees no change, and would take the whole window."""
    framing = replace(CASE.framing, guardrails=(), selection_metric="squared_error")
    case = replace(CHANGING, framing=framing)
    found = chosen(lived(tmp_path, changed=5), [5], case)
    assert found is not None and found.metric == "squared_error" and found.alone < found.whole


def test_of_falls_within_a_day_the_last_counts(stub: None, tmp_path: Path) -> None:
    """Two signals of one change rarely name the same hour."""
    fits: list[Dataset] = []

    def fit(dataset: Dataset, settings: Any) -> Fitted:
        fits.append(dataset)
        return learn(dataset, settings)

    ws = lived(tmp_path, changed=5)
    whole = newest(CHANGING, ws, AS_OF, PARAMS, PLATFORM)
    falls = [AS_OF - 5 * DAY, AS_OF - 5 * DAY - HOUR, AS_OF - 5 * DAY]
    found = choose_since(replace(CHANGING, fit=fit), ws, whole, falls, PARAMS, PLATFORM, "logged")
    assert found is not None and found.start == AS_OF - 5 * DAY and len(fits) == 2


def test_of_several_falls_that_of_the_change_is_found(stub: None, tmp_path: Path) -> None:
    found = chosen(lived(tmp_path, changed=8), falls=[14, 8, 5])
    assert found is not None and found.start in (AS_OF - 8 * DAY, AS_OF - 5 * DAY)


def test_without_a_fall_in_the_window_nothing_is_fitted(stub: None, tmp_path: Path) -> None:
    def refuse(dataset: Dataset, settings: Any) -> Fitted:
        raise AssertionError("fitted")

    case = replace(CHANGING, fit=refuse)
    ws = lived(tmp_path, changed=5)
    assert chosen(ws, [], case) is None
    assert chosen(ws, [20, 300, 0], case) is None  # as the window begins, long ago, now
    assert chosen(ws, [5], case, protocol="time") is None  # not divided by days


def test_too_few_rows_cannot_tell(stub: None, tmp_path: Path) -> None:
    assert chosen(lived(tmp_path / "few", changed=5, a_day=20), [5]) is None
    assert chosen(lived(tmp_path / "more", changed=5, a_day=60), [5]) is not None


def test_a_fall_too_new_to_tell_leaves_the_choice_to_the_one_before(stub: None, tmp_path: Path) -> None:
    """Of the newest day there are twenty held-out readings, of the eight before enough."""
    found = chosen(lived(tmp_path, changed=8), [8, 1])
    assert found is not None and found.start == AS_OF - 8 * DAY and found.units > 100


def test_a_fall_of_which_too_little_is_measured_leaves_the_choice_to_the_one_before(
    stub: None, tmp_path: Path
) -> None:
    """Of the newest three days sixty held-out readings are told, and twenty are measured."""

    def measure(model: Any, known: Dataset, test: Dataset, judge: Any) -> Measured:
        return stub_case.measure(model, known, Third(test), judge)

    logged = replace(CHANGING.protocols["logged"], measure=measure)
    case = replace(CHANGING, protocols={**CHANGING.protocols, "logged": logged})
    ws = lived(tmp_path, changed=12)
    found = chosen(ws, [12, 3], case)
    assert found is not None and found.units >= FEWEST_UNITS
    assert chosen(ws, [3], case) is None and chosen(ws, [3]) is not None


def test_what_a_broken_column_is_held_to_is_the_whole_window(
    stub: None, tmp_path: Path, registry: Registry
) -> None:
    """Else a column that broke with the fall would be what is usual."""
    ws = lived(tmp_path, changed=12)
    for falls in ([], [AS_OF - 12 * DAY]):
        record = train(CHANGING, ws, AS_OF, PARAMS, PLATFORM, "logged", falls).record
        assert ("since" in record) is bool(falls)
        assert last_training(ws, registry) == (AS_OF - 27 * DAY, AS_OF)


def test_a_part_that_cannot_be_learned_from_is_not_chosen(stub: None, tmp_path: Path) -> None:
    def needs(days: int) -> CaseStudy:
        def fit(dataset: Dataset, settings: Any) -> Fitted:
            if dataset.end - dataset.start < days * DAY:
                raise DataError("widen the window")
            return learn(dataset, settings)

        return replace(CHANGING, fit=fit)

    ws = lived(tmp_path, changed=8)
    found = chosen(ws, [8, 5], needs(6))
    assert found is not None and found.start == AS_OF - 8 * DAY
    assert chosen(ws, [8, 5], needs(9)) is None


def test_a_fault_of_the_case_is_told_and_too_few_rows_are_not(
    stub: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(error: Exception) -> CaseStudy:
        def fit(dataset: Dataset, settings: Any) -> Fitted:
            if dataset.end - dataset.start < 6 * DAY:
                raise error
            return learn(dataset, settings)

        return replace(CHANGING, fit=fit)

    ws = lived(tmp_path, changed=8)
    whole = newest(CHANGING, ws, AS_OF, PARAMS, PLATFORM)
    falls = [AS_OF - 8 * DAY, AS_OF - 5 * DAY]
    for error, wanted in (
        (DataError("widen the window"), []),
        (KeyError("heet"), ["what came since 2026-02-24 alone could not be tried (KeyError: 'heet')"]),
    ):
        told: list[str] = []
        given = (failing(error), ws, whole, falls, PARAMS, PLATFORM, "logged")
        found = choose_since(*given, told.append)
        assert found is not None and found.start == falls[0], "the others are tried all the same"
        assert told == wanted
        assert [each.getMessage() for each in caplog.records] == [f"breakdown: {each}" for each in wanted]


def test_nobody_who_is_measured_was_learned_from(stub: None, tmp_path: Path) -> None:
    learned: set[str] = set()
    measured: set[str] = set()

    def fit(dataset: Dataset, settings: Any) -> Fitted:
        learned.update(dataset.labels()["reading_id"], dataset.table("readings").collect()["reading_id"])
        return learn(dataset, settings)

    def measure(model: Model, train: Dataset, test: Dataset, judge: None) -> Measured:
        measured.update(test.labels()["reading_id"])
        return stub_case.measure(model, train, test, judge)

    logged = replace(CASE.protocols["logged"], measure=measure)
    ws = lived(tmp_path, changed=5)
    assert chosen(ws, [5], replace(CHANGING, fit=fit, protocols={"logged": logged})) is not None
    everyone = newest(CASE, ws, AS_OF, PARAMS, PLATFORM).labels()
    since = everyone.filter(pl.col("read_at") >= AS_OF - 5 * DAY)
    assert measured and not measured & learned
    assert measured | learned >= set(since["reading_id"]) and measured < set(since["reading_id"])
    assert len(measured) / since.height == pytest.approx(1 / HELD_OUT, abs=0.08)


def test_the_record_tells_it_and_the_model_can_be_built_again(stub: None, tmp_path: Path) -> None:
    ws = lived(tmp_path, changed=12)
    trained = train(CHANGING, ws, AS_OF, PARAMS, PLATFORM, "logged", [AS_OF - 12 * DAY])
    assert trained.record["window"] == {
        "start": (AS_OF - 12 * DAY).isoformat(), "end": (AS_OF - 7 * DAY).isoformat()
    }  # fmt: skip
    told = trained.record["since"]
    assert told["start"] == trained.record["window"]["start"] and told["alone"] < told["whole"]
    found = reproduce(CHANGING, ws, ws.model, PARAMS, PLATFORM, tmp_path / "scratch")
    assert found.same, found.summary()
    whole = train(CHANGING, ws, AS_OF, PARAMS, PLATFORM, "logged")
    assert "since" not in whole.record and whole.digest != trained.digest


def test_what_is_fitted_once_more_chooses_for_itself(stub: None, tmp_path: Path, registry: Registry) -> None:
    """The gate judges by rows from before the change too; what serves has learned from those after it alone."""
    ws, began = lived(tmp_path, changed=5), AS_OF - 5 * DAY
    params = PARAMS.model_copy(update={"window": PARAMS.window.model_copy(update={"refit": True})})
    gate = Gate(resamples=200, heuristic_margin=-1.0, slice_tolerance=1.0)
    assert "since" not in train(CHANGING, ws, AS_OF, params, PLATFORM, "logged", [began]).record
    evaluate(CHANGING, ws, AS_OF, params, PLATFORM, "logged", gate=gate)
    made = promote(CHANGING, ws, AS_OF, params, PLATFORM, gate, registry, origin=ws.origin, falls=[began])
    assert made.why.endswith("fitted once more until 2026-03-01, on what came since 2026-02-24 alone")
    champion = registry.champion()
    assert champion is not None
    folder = registry.load(champion)
    record = read_record(folder)
    assert record["window"] == {"start": began.isoformat(), "end": AS_OF.isoformat()} and "judged" in record
    model = load_model(CHANGING, folder)
    assert isinstance(model, Halves) and model.cold > 0.8 > 0.2 > model.hot
    found = reproduce(CHANGING, ws, folder, params, PLATFORM, tmp_path / "scratch")
    assert found.same, found.summary()


def test_a_fault_that_kept_what_came_since_from_being_tried_stands_in_the_versions_why(
    stub: None, tmp_path: Path, registry: Registry
) -> None:
    """Else a slip in `fit` would turn off what brings the system back after a fall, and nobody would know."""

    def fit(dataset: Dataset, settings: Any) -> Fitted:
        if dataset.end - dataset.start < 6 * DAY:
            raise KeyError("heet")
        return learn(dataset, settings)

    case, ws, began = replace(CHANGING, fit=fit), lived(tmp_path, changed=5), AS_OF - 5 * DAY
    params = PARAMS.model_copy(update={"window": PARAMS.window.model_copy(update={"refit": True})})
    gate = Gate(resamples=200, heuristic_margin=-1.0, slice_tolerance=1.0)
    train(case, ws, AS_OF, params, PLATFORM, "logged", [began])
    evaluate(case, ws, AS_OF, params, PLATFORM, "logged", gate=gate)
    made = promote(case, ws, AS_OF, params, PLATFORM, gate, registry, origin=ws.origin, falls=[began])
    told = "what came since 2026-02-24 alone could not be tried (KeyError: 'heet')"
    assert made.decision == "promoted"
    assert made.why.endswith(f"fitted once more until 2026-03-01; {told}")
    assert registry.version(made.version).tags["why"] == made.why


def test_nobody_who_acts_is_on_both_sides(stub: None, tmp_path: Path) -> None:
    ws, told = lived(tmp_path, changed=5), 0
    for seed in range(6):
        sides: dict[str, set[Any]] = {"learned": set(), "measured": set()}

        def fit(dataset: Dataset, settings: Any, sides: dict[str, set[Any]] = sides) -> Fitted:
            sides["learned"].update(dataset.labels()["site"])
            return learn(dataset, settings)

        def measure(
            model: Model, train: Dataset, test: Dataset, judge: None, sides: dict[str, set[Any]] = sides
        ) -> Measured:
            sides["measured"].update(test.labels()["site"])
            if not sides["measured"]:
                raise DataError("nobody to measure on")
            return stub_case.measure(model, train, test, judge)

        case = replace(
            CHANGING,
            fit=fit,
            contributions=Contributions(actor=("site",)),
            protocols={"logged": replace(CASE.protocols["logged"], measure=measure)},
        )
        whole = newest(case, ws, AS_OF, PARAMS.model_copy(update={"seed": seed}), PLATFORM)
        choose_since(
            case, ws, whole, [AS_OF - 5 * DAY], PARAMS.model_copy(update={"seed": seed}), PLATFORM, "logged"
        )
        assert not sides["learned"] & sides["measured"]
        assert None not in sides["measured"], "who is not told apart is learned from"
        told += len(sides["measured"])
    assert told, "somebody was held out"
