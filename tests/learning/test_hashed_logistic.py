"""Hashed logistic regression: learns crosses, is scikit-learn's optimum, and is the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.learning.hashed_logistic import HashedLogistic, fit_hashed_logistic, hashed

COLUMNS, CROSSES = ("device", "site"), (("device", "site"),)


def rows(count: int = 4000, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Make rows whose label depends on the cross alone: neither column tells anything by itself."""
    rng = np.random.default_rng(seed)
    device, site = rng.integers(0, 2, count), rng.integers(0, 2, count)
    labels = (rng.random(count) < np.where(device == site, 0.4, 0.1)).astype(float)
    words = {"device": pl.Series(["phone", None]).gather(device), "site": pl.Series(["a", "b"]).gather(site)}
    return pl.DataFrame(words), labels


def test_a_cross_is_learned_and_columns_alone_are_not() -> None:
    train, labels = rows()
    crossed = fit_hashed_logistic(train, labels, COLUMNS, CROSSES, penalty=1.0).predict(train)
    same = (train["device"].is_null() == (train["site"] == "b")).to_numpy()
    assert crossed[same].mean() == pytest.approx(0.4, abs=0.03)
    assert crossed[~same].mean() == pytest.approx(0.1, abs=0.03)
    alone = fit_hashed_logistic(train, labels, COLUMNS, (), penalty=1.0).predict(train)
    assert abs(alone[same].mean() - alone[~same].mean()) < 0.02


def test_its_weights_are_the_optimum() -> None:
    from sklearn.linear_model import LogisticRegression

    train, labels = rows(1500)
    found = fit_hashed_logistic(train, labels, COLUMNS, CROSSES, bits=10, penalty=2.0, steps=500)
    design = hashed(train, COLUMNS, CROSSES, 10).toarray()
    offset = np.hstack([design, np.full((len(labels), 1), 1.0)])
    other = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8, max_iter=2000)
    # scikit-learn has no offset: the intercept is one more, freely scaled column.
    other.fit(np.hstack([offset[:, :-1], 1000 * offset[:, -1:]]), labels)
    wanted = other.predict_proba(np.hstack([offset[:, :-1], 1000 * offset[:, -1:]]))[:, 1]
    assert np.abs(found.predict(train) - wanted).max() < 0.02


def test_unknown_words_and_missing_columns_are_answered() -> None:
    train, labels = rows()
    found = fit_hashed_logistic(train, labels, COLUMNS, CROSSES)
    strange = pl.DataFrame({"device": ["fridge"]})
    assert 0 < found.predict(strange)[0] < 1


def test_it_is_the_same_under_another_hash_seed_and_order(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_hashed_logistic import *\n"
        "train, labels = rows(500)\n"
        "found = fit_hashed_logistic(train, labels, COLUMNS, CROSSES)\n"
        "print(found.predict(train).tobytes().hex())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    train, labels = rows(500)
    mixed = np.random.default_rng(0).permutation(500)
    one = fit_hashed_logistic(train, labels, COLUMNS, CROSSES).predict(train)
    other = fit_hashed_logistic(train[mixed], labels[mixed], COLUMNS, CROSSES).predict(train)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_was_saved_says_the_same(tmp_path: Path) -> None:
    train, labels = rows()
    found = fit_hashed_logistic(train, labels, COLUMNS, CROSSES, bits=12)
    found.save(tmp_path, "crosses")
    again = HashedLogistic.load(tmp_path, "crosses")
    assert (again.columns, again.crosses, again.base) == (found.columns, found.crosses, found.base)
    np.testing.assert_array_equal(again.logits(train), found.logits(train))
