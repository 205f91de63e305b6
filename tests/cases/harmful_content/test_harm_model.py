"""The classifier: what it learns, what it refuses to, and what it decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny_project import tiny_project

from pipelines.cases.harmful_content.fitting import fit, newness
from pipelines.cases.harmful_content.heuristics import Reports
from pipelines.cases.harmful_content.linear import balanced
from pipelines.cases.harmful_content.model import HarmModel, file_under
from pipelines.cases.harmful_content.params import HarmParams
from pipelines.cases.harmful_content.posts import Reviewed, distinct
from pipelines.cases.harmful_content.protocols import hold_out_posts, measure, prepare
from pipelines.cases.harmful_content.serving import ALLOW, AUDIT, REMOVE, REVIEW, fallback, ready
from pipelines.cases.harmful_content.tables import DECISIONS, HARMS
from pipelines.errors import DataError
from pipelines.flows.edge import Run, bind, perform
from pipelines.steps.split import Split, split
from pipelines.stores.models import load_model

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STOCK: Any = None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny world, trained."""
    found = bind(tiny_project(tmp_path_factory.mktemp("project") / "p", "harmful_content"), "harmful_content")
    for step in ("ingest", "features", "train"):
        perform(found, step)
    return found


@pytest.fixture(scope="module")
def divided(run: Run) -> Split:
    return split(run.case, run.workspace, run.as_of, run.params, run.project.platform, "logged")


@pytest.fixture(scope="module")
def model(run: Run) -> HarmModel:
    found = load_model(run.case, run.workspace.model)
    assert isinstance(found, HarmModel)
    return found


def test_reviewed_posts_stand_side_by_side(divided: Split) -> None:
    found = Reviewed.read(divided.train)
    assert found.labels.shape == found.shares.shape == (found.posts.height, len(HARMS))
    assert found.posts["example_id"].is_sorted() and found.posts["example_id"].is_unique().all()
    labels = divided.train.labels().filter(pl.col("harm") == "spam").sort("example_id")
    np.testing.assert_array_equal(found.labels[:, HARMS.index("spam")], labels["label"].to_numpy())
    assert set(np.round(found.weights, 6)) == {1.0, round(1 / 0.7, 6)}
    assert found.learnable(1) == HARMS and found.learnable(10**6) == ()


def test_a_harm_without_examples_is_not_learned(divided: Split) -> None:
    params = HarmParams.model_validate({"least_positives": 10**6})
    with pytest.raises(DataError, match="no harm has 1000000 with and without it"):
        fit(divided.train, params)


def test_a_post_is_read_without_what_is_not_known(model: HarmModel) -> None:
    """Text alone is enough: no author, no features, no time; an unknown harm has no chance."""
    rows = pl.DataFrame({"text": ["zomu vupa"] * 4, "harm": [*HARMS[:3], "other"]})
    scores = model.predict(rows)
    assert ((scores[:3] > 0) & (scores[:3] < 1)).all() and scores[3] == 0
    posts, place = distinct(rows)
    assert posts.height == 1 and (place == 0).all()
    assert model.predict(rows.clear()).shape == (0,)


def test_reports_and_the_past_count(model: HarmModel, divided: Split) -> None:
    rows = Reviewed.read(divided.test).posts.with_columns(harm=pl.lit("offensive"))
    base = model.predict(rows)
    told = model.predict(rows.with_columns(reports=pl.lit(4, pl.Int64)))
    record = model.predict(
        rows.with_columns(author_harm_rate_28d=0.9, author_offensive_28d=pl.lit(9, pl.Int64))
    )
    assert min(told.mean(), record.mean()) > 1.1 * base.mean()


def test_probabilities_are_right_as_numbers(model: HarmModel, divided: Split) -> None:
    found = Reviewed.read(divided.test)
    scores = model.scores(distinct(found.posts)[0])[distinct(found.posts)[1]]
    labels = found.labels[:, [HARMS.index(harm) for harm in model.harms]]
    surprise = (labels.sum() - scores.sum()) / np.sqrt((scores * (1 - scores)).sum())
    assert abs(surprise) < 5


def test_thresholds_decide(model: HarmModel) -> None:
    bars = dict.fromkeys(model.harms, 0.9) | {model.harms[0]: None}
    strict = replace(model, remove=bars, name=dict.fromkeys(model.harms, 0.5))
    scores = np.full((4, len(model.harms)), 0.1)
    scores[0, 0], scores[1, 1], scores[2, 1] = 0.99, 0.9, 0.7
    assert strict.removes(scores).tolist() == [False, True, False, False]
    assert strict.names(scores).tolist() == [1, 2, 2, 0]


def test_new_posts_have_more_say_in_thresholds() -> None:
    day = datetime(2026, 2, 1, tzinfo=UTC)
    times = pl.Series(
        [day, day + timedelta(days=8), day + timedelta(days=4), None], dtype=pl.Datetime("us", "UTC")
    )
    assert newness(times, half_life=4.0).tolist() == [0.25, 1.0, 0.5, 1.0]
    assert newness(times.clear(), 4.0).shape == (0,)
    assert newness(pl.Series([None, None], dtype=pl.Datetime("us", "UTC")), 4.0).tolist() == [1.0, 1.0]


def test_a_post_is_filed_under_what_exceeds_its_threshold_most() -> None:
    scores = np.array([[0.4, 0.6], [0.4, 0.1], [0.1, 0.4], [0.2, 0.5]])
    assert file_under(scores, np.array([0.2, 0.5])).tolist() == [1, 1, 0, 1]


def test_balanced_weights_are_alike_in_sum() -> None:
    labels = np.array([[1.0, 0], [0, 0], [0, 0], [1, 0]])
    own = np.array([1.0, 2, 3, 1])
    found = balanced(labels, own)
    assert (found * labels).sum(axis=0)[0] == pytest.approx((found * (1 - labels)).sum(axis=0)[0])
    assert np.isfinite(found).all() and found[:, 1].min() > 0


def test_the_service_decides_and_never_fails(model: HarmModel) -> None:
    strict = replace(model, remove=dict.fromkeys(model.harms, 0.0))
    lenient = replace(model, remove=dict.fromkeys(model.harms), name=dict.fromkeys(model.harms, 2.0))
    asked = pl.DataFrame({"author_id": ["a", "b"], "text": ["zomu", ""], "time": [NOW, NOW + timedelta(hours=1)],
                          "audience": [None, 10.0], "client": [None, None], "reports": [3, None]})  # fmt: skip
    for made, expected in ((strict, [REMOVE, REMOVE]), (lenient, [ALLOW, ALLOW])):
        answer = ready(made, STOCK).answer(asked)
        assert answer.pool["decision"].to_list() == list(DECISIONS)
        assert answer.ranked.ravel().tolist() == expected
        assert set(answer.details) == set(model.harms) and answer.scores.shape == (2, 1)
        assert answer.chances is not None and (answer.chances == AUDIT).all()
    assert fallback(STOCK).answer(asked).ranked.ravel().tolist() == [REVIEW, ALLOW]


def test_reports_rank_alike_for_every_harm() -> None:
    rows = pl.DataFrame({"reports": [2, None], "harm": ["hate", "spam"]})
    assert Reports().predict(rows).tolist() == [2.0, 0.0]


def test_holding_out_takes_whole_posts() -> None:
    ids = [f"d{number}" for number in range(2000)]
    tables = {
        "impressions": pl.LazyFrame({"impression_id": ids, "request_id": [f"p{each}" for each in ids]}),
        "actions": pl.LazyFrame({"action_id": [f"{each}-{n}" for each in ids for n in range(2)],
                                 "impression_id": [each for each in ids for _ in range(2)]}),
    }  # fmt: skip
    held = hold_out_posts(tables, 1)
    assert 140 < held["impressions"].height < 260 and held["actions"].height == 2 * held["impressions"].height
    assert set(held["requests"]["request_id"]) == {
        f"p{each}" for each in held["impressions"]["impression_id"]
    }
    turned = {name: rows.reverse() for name, rows in tables.items()}
    assert hold_out_posts(turned, 1)["impressions"].equals(held["impressions"])


def test_a_window_without_verdicts_cannot_be_judged(divided: Split) -> None:
    young = replace(divided.test, start=divided.test.end - timedelta(days=3))  # type: ignore[type-var]
    with pytest.raises(DataError, match="0 posts were reviewed and are mature"):
        prepare(divided.train, young)


def test_a_window_without_a_harm_has_no_figure_for_it(divided: Split, model: HarmModel) -> None:
    """A watch over few days must not stop for it, nor compare another mean than before."""
    young = replace(divided.test, start=divided.test.end - timedelta(days=4, hours=1))  # type: ignore[type-var]
    found = Reviewed.read(young)
    assert 0 < len(found.labels) < 40 and (found.labels.sum(axis=0) == 0).any()
    measured = measure(model, divided.train, young, None)
    assert np.isnan(measured.statistics["pr_auc_macro"].estimate())
    assert {f"pr_auc_{harm}" for harm in HARMS} <= set(measured.statistics)


def test_the_model_is_saved_without_a_trace_of_training(model: HarmModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [
        ".json",
        ".safetensors",
        *[".txt"] * len(model.harms),
    ]
    assert all("parameters" not in text for text in model.trees)
