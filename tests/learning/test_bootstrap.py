"""The paired bootstrap: exact draws, honest intervals, pairs that pair."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.learning import bootstrap
from pipelines.learning.bootstrap import Estimate, Resampled, resample


@dataclass(frozen=True)
class Mean:
    units: np.ndarray
    values: np.ndarray
    vectorised: bool = True

    def estimate(self, weights: np.ndarray | None = None) -> float | np.ndarray:
        weights = np.ones(len(self.values)) if weights is None else weights
        total = weights.sum(axis=-1)
        return weights @ self.values / np.where(total > 0, total, np.nan)


def mean(values: np.ndarray, vectorised: bool = True) -> Mean:
    return Mean(np.arange(len(values)), values, vectorised)


def test_interval_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    found = resample({"m": (mean(values), None)}, 4000, 1)["m"].estimate(0.95)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.06)
    assert found.value - found.low == pytest.approx(half, rel=0.06)
    assert found.n == 2000


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(400):
        found = resample({"m": (mean(generator.exponential(size=150)), None)}, 300, trial)["m"].estimate(0.9)
        covered += found.low <= 1.0 <= found.high
    assert 0.85 <= covered / 400 <= 0.94


def test_pairing_takes_the_common_noise_out() -> None:
    generator = np.random.default_rng(0)
    common = generator.normal(size=1000)
    found = resample({"a": (mean(common + 0.01), None), "b": (mean(common), None)}, 500, 1)
    gain = (found["a"] - found["b"]).estimate(0.95)
    assert gain.low == pytest.approx(0.01) and gain.high == pytest.approx(0.01)


def test_a_loop_over_draws_and_a_vectorised_statistic_agree() -> None:
    values = np.random.default_rng(0).normal(size=300)
    found = resample({"one": (mean(values, False), None), "many": (mean(values), None)}, 200, 5)
    np.testing.assert_allclose(found["one"].replicates, found["many"].replicates)


def test_draws_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=300)
    whole = resample({"m": (mean(values), None)}, 100, 5)["m"]
    monkeypatch.setattr(bootstrap, "BLOCK_CELLS", 700)
    blocks = resample({"m": (mean(values), None)}, 100, 5)["m"]
    np.testing.assert_allclose(blocks.replicates, whole.replicates, rtol=1e-9)


def test_a_slice_sees_its_own_units_only() -> None:
    values = np.concatenate([np.zeros(50), np.ones(50)])
    mask = values > 0
    found = resample({"all": (mean(values), None), "slice": (mean(values), mask)}, 100, 5)
    assert found["slice"].value == 1.0 and found["slice"].n == 50
    assert np.all(found["slice"].replicates == 1.0)
    assert found["all"].value == 0.5


def test_a_statistic_that_does_not_exist_is_null_and_never_nan() -> None:
    found = Resampled(float("nan"), np.full(10, np.nan), 0).estimate(0.95)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False)) == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
    }
    assert np.isnan(Estimate.from_json(found.as_json()).value)


def test_different_units_cannot_share_draws() -> None:
    with pytest.raises(ValueError, match="cannot share"):
        resample({"a": (mean(np.ones(3)), None), "b": (mean(np.ones(4)), None)}, 100, 1)


def test_a_count_of_distinct_things_lies_within_its_own_interval() -> None:
    @dataclass(frozen=True)
    class Distinct:
        units: np.ndarray
        seen: np.ndarray

        def estimate(self, weights: np.ndarray | None = None) -> float:
            return float(len(set(self.seen if weights is None else self.seen[weights > 0])))

    seen = np.random.default_rng(0).integers(0, 300, 400)
    found = resample({"m": (Distinct(np.arange(400), seen), None)}, 200, 1)["m"].estimate(0.95)
    assert found.low < found.value < found.high
