"""A model is what was saved: the same scores after loading, from the folder and from the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from contract_help import opened, window

from pipelines.flows.edge import Run
from pipelines.steps.evaluate import read_evaluation
from pipelines.stores.models import load_by_manifest, load_model


def test_loading_gives_the_same_scores(finished, tmp_path: Path) -> None:
    run: Run = finished.run
    rows = run.case.predictions(opened(run, run.workspace, window(run)[0], run.as_of)).head(500)
    model = load_model(run.case, run.workspace.model)
    scores = model.predict(rows)
    assert scores.shape == (rows.height,) and np.isfinite(scores).all() and scores.std() > 0
    model.save(tmp_path)
    assert np.array_equal(run.case.load(tmp_path).predict(rows), scores)
    version = run.registry.version(finished.promotion.version)
    assert np.array_equal(load_by_manifest(run.registry.load(version)).predict(rows), scores)


def test_a_row_s_score_is_its_own(finished) -> None:
    """A score depends on its row alone: not on the rows beside it, nor on their order."""
    run: Run = finished.run
    rows = run.case.predictions(opened(run, run.workspace, window(run)[0], run.as_of)).head(300)
    model = load_model(run.case, run.workspace.model)
    scores = model.predict(rows)
    order = np.random.default_rng(0).permutation(rows.height)
    np.testing.assert_allclose(model.predict(rows[order]), scores[order], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict(rows[:7]), scores[:7], rtol=0, atol=1e-6)


def test_a_row_s_score_is_its_own_whatever_the_model_has_not_met(finished) -> None:
    """Items and people that came after it was fitted stand beside those that it knows."""
    run: Run = finished.run
    rows = run.case.predictions(opened(run, run.workspace, window(run)[0], run.as_of)).tail(1500)
    model = load_model(run.case, run.workspace.model)
    scores = model.predict(rows)
    for part in range(3):
        mine = np.arange(rows.height) % 3 == part
        for chosen in (mine, np.sort(mine)):  # scattered rows, and a stretch of them
            np.testing.assert_allclose(model.predict(rows.filter(chosen)), scores[chosen], rtol=0, atol=1e-6)


def test_every_scorer_is_measured(finished) -> None:
    """Model, heuristics and oracle stand side by side, and the guardrails are measured of the model."""
    run: Run = finished.run
    content = read_evaluation(run.workspace).content
    framing = run.case.framing
    for scorer in ("model", "oracle", *run.case.heuristics):
        assert framing.primary_metric in content["scorers"][scorer], scorer
    assert {framing.selects, *framing.guardrails} <= set(content["scorers"]["model"])
    assert content["slices"], "a case says where its model may fail: by slices"
