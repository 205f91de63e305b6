"""A broken column is told from one that drifts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipelines.learning.broken import Usual, find_breach
from pipelines.learning.units import UNITS, find_unit_change, logs
from pipelines.world.frames import CATEGORIES, NUMBERS, Shift, window, windows

DAYS = [frame for frame in windows(seed=4, count=14, rows=200)]


def usual(column: str) -> Usual:
    return Usual.of([day[column] for day in DAYS])


def struck(column: str, kind: str, size: float, rows: int = 200, seed: int = 1) -> pl.Series:
    return window(np.random.default_rng(seed), rows, (Shift(column, kind, size),))[column]


@pytest.mark.parametrize("size", [0.25, 1.0])
@pytest.mark.parametrize("column", ["normal", "skewed", "heavy", "share", "count"])
def test_another_unit_is_found_in_a_part_or_in_all(column: str, size: float) -> None:
    found = find_breach(usual(column), struck(column, "unit", size))
    assert found is not None
    assert found.kind == "unit"
    assert "× 1,000" in found.words
    assert found.share == pytest.approx(size, abs=0.12)


@pytest.mark.parametrize("column", [*NUMBERS, *CATEGORIES])
def test_missing_values_are_found_where_there_were_few(column: str) -> None:
    for size in (0.3, 1.0):
        found = find_breach(usual(column), struck(column, "nulls", size))
        seldom = column != "with_nulls"  # it lacks a fifth of its values anyway: only "gone" is broken
        assert (found is not None and found.kind == "empty") == (seldom or size == 1.0)


def test_words_never_seen_are_found_where_no_new_ones_came() -> None:
    shouted = DAYS[0]["few"].str.to_uppercase()
    found = find_breach(usual("few"), shouted)
    assert found is not None
    assert (found.kind, found.share) == ("words", 1.0)
    assert "FEW_00" in found.words
    ids = [pl.Series("id", [f"{day}-{row}" for row in range(50)]) for day in range(10)]
    assert find_breach(Usual.of(ids[:8]), ids[9]) is None


@pytest.mark.parametrize("kind", ["mean", "spread"])
@pytest.mark.parametrize("size", [0.3, 1.0])
@pytest.mark.parametrize("column", list(NUMBERS))
def test_drift_is_no_breach(column: str, kind: str, size: float) -> None:
    for seed in range(3):
        assert find_breach(usual(column), struck(column, kind, size, seed=seed)) is None


@pytest.mark.parametrize("column", list(CATEGORIES))
def test_another_mix_of_known_words_is_no_breach(column: str) -> None:
    assert find_breach(usual(column), struck(column, "mix", 0.8)) is None


def test_usual_days_are_well() -> None:
    for name in (*NUMBERS, *CATEGORIES):
        of = usual(name)
        assert all(find_breach(of, day[name]) is None for day in windows(seed=5, count=60, rows=120)), name


@pytest.mark.parametrize("unit", [factor for unit in UNITS for factor in (unit, 1 / unit)])
def test_every_unit_is_told_by_its_factor(unit: float) -> None:
    rng = np.random.default_rng(3)
    before, now = (logs(400 * np.exp(0.5 * rng.standard_normal(n))) for n in (3000, 200))
    found = find_unit_change(before, now + np.log10(unit))
    assert found is not None
    assert found.factor == pytest.approx(unit)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0, 4.0, 25.0, 400.0])
def test_a_factor_that_is_no_ratio_of_units_is_drift(factor: float) -> None:
    rng = np.random.default_rng(3)
    before, now = (logs(400 * np.exp(0.5 * rng.standard_normal(n))) for n in (3000, 200))
    assert find_unit_change(before, now + np.log10(factor)) is None


def test_a_few_broken_days_among_the_usual_ones_do_no_harm() -> None:
    broken = (Shift("skewed", "unit", 1.0),)
    spoilt = [*DAYS[:12], *windows(seed=6, count=2, rows=200, shifts=broken)]
    of = Usual.of([day["skewed"] for day in spoilt])
    assert find_breach(of, DAYS[13]["skewed"]) is None
    found = find_breach(of, struck("skewed", "unit", 1.0))
    assert found is not None and found.kind == "unit"


def test_nothing_but_nulls_before_or_now_is_no_error() -> None:
    nothing = pl.Series("x", [None] * 30, dtype=pl.Float64)
    assert find_breach(Usual.of([nothing] * 5), nothing) is None
    assert find_breach(Usual.of([nothing] * 5), pl.Series("x", np.arange(30.0))) is None
    words = pl.Series("x", [None] * 30, dtype=pl.String)
    assert find_breach(Usual.of([words] * 5), pl.Series("x", ["a"] * 30)) is None
