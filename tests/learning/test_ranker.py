"""The trees know categories as such, stop when held-out rows stop to gain, and come out alike each time."""

from __future__ import annotations

import numpy as np

from pipelines.learning.ranker import HeldOut, RankerOptions, fit_ranker

OPTIONS = RankerOptions(
    rounds=120, learning_rate=0.2, leaves=7, minimum_rows=20, column_share=1.0, patience=10
)


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make codes of which every other one is good, a column of noise, and labels."""
    rng = np.random.default_rng(seed)
    code, noise = rng.integers(0, 40, count), rng.random(count)
    labels = (rng.random(count) < np.where(code % 2 == 0, 0.5, 0.1)).astype(float)
    return np.column_stack([code, noise]).astype(np.float32), labels


def loss(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float(-(labels * np.log(predicted) + (1 - labels) * np.log1p(-predicted)).mean())


def test_codes_are_categories_where_it_is_said() -> None:
    """Neighbouring codes have nothing in common: one split by category does what many by order must."""
    train, labels = rows(20_000, 0)
    options = RankerOptions(rounds=1, learning_rate=1.0, leaves=2, minimum_rows=20, column_share=1.0)
    groups = np.zeros(len(labels), dtype=np.int64)
    found = {
        names: loss(
            fit_ranker(train, labels, groups, ("code", "noise"), options, 1, categories=names)[0].predict(
                train
            ),
            labels,
        )
        for names in ((), ("code",))
    }
    assert found["code",] < found[()] - 0.05


def test_held_out_rows_end_the_learning() -> None:
    train, labels = rows(3_000, 0)
    held, wanted = rows(3_000, 1)
    groups = np.zeros(len(labels), dtype=np.int64)
    whole, _ = fit_ranker(train, labels, groups, ("code", "noise"), OPTIONS, 1, categories=("code",))
    (stopped, curve), (again, _) = (
        fit_ranker(
            train,
            labels,
            groups,
            ("code", "noise"),
            OPTIONS,
            1,
            categories=("code",),
            held_out=HeldOut(held, wanted),
        )
        for _ in range(2)
    )
    assert stopped.text.count("\nTree=") < whole.text.count("\nTree=") == 120
    assert stopped.text.count("\nTree=") == int(np.argmin(curve)) + 1, "the best round is the last"
    assert loss(stopped.predict(held), wanted) < loss(whole.predict(held), wanted)
    assert again.text == stopped.text
