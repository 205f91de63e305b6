"""Both error rates on worlds that stand still, the power on shifts, and what an odd day may do."""

from __future__ import annotations

import numpy as np
import pytest
from drift_help import noise

from pipelines.learning.drift_forecast import Daily, Forecast

KINDS = ("independent", "days", "slow", "season", "heavy")
REFERENCE, SERIES, ROWS = 28, 40, 1000.0


def forecast(values: np.ndarray, reference: int = REFERENCE) -> Forecast:
    days = len(values)
    return Forecast(Daily(np.arange(days), np.full(days, ROWS), values / ROWS**0.5, reference))


def flagged(forecast: Forecast, first: int, last: int) -> bool:
    days = np.arange(len(forecast.daily.day))
    p, _ = forecast.tail((days >= first) & (days < last))
    return bool(p.min() * SERIES < 0.05)


def alarms(evidence: np.ndarray) -> bool:
    """Three days on end with an average evidence of 20."""
    high = evidence.mean(axis=1) >= 20
    return bool((high[2:] & high[1:-1] & high[:-2]).any())


def test_at_most_17_of_200_stationary_windows_are_flagged() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for window in range(200):
        length = (1, 7)[window // 5 % 2]
        made = noise(REFERENCE + length, SERIES, generator, KINDS[window % 5])
        hits += flagged(forecast(made), REFERENCE, REFERENCE + length)
    assert hits <= 17


def test_at_most_a_twentieth_of_stationary_runs_ever_alarm() -> None:
    generator = np.random.default_rng(2)
    runs = 40
    hits = sum(
        alarms(forecast(noise(REFERENCE + 60, SERIES, generator, KINDS[run % 5])).evidence()[0])
        for run in range(runs)
    )
    assert hits <= 0.05 * runs


@pytest.mark.parametrize("kind", ["independent", "days", "season"])
def test_a_lasting_shift_of_one_series_is_flagged_and_alarms(kind: str) -> None:
    generator = np.random.default_rng(3)
    caught = []
    for _ in range(5):
        made = noise(REFERENCE + 14, SERIES, generator, kind)
        made[REFERENCE:, 0] += 12.0
        watched = forecast(made)
        caught.append((flagged(watched, REFERENCE, REFERENCE + 7), alarms(watched.evidence()[0])))
    assert np.mean(caught) >= 0.9


def test_one_odd_day_does_not_alarm_however_odd() -> None:
    made = noise(REFERENCE + 14, SERIES, np.random.default_rng(4), "days")
    made[REFERENCE + 3] += 1000.0
    assert not alarms(forecast(made).evidence()[0])


def test_an_odd_day_does_not_hide_a_later_shift() -> None:
    made = noise(REFERENCE + 21, SERIES, np.random.default_rng(5), "days")
    made[REFERENCE + 3] -= 1000.0
    made[REFERENCE + 10 :, 0] += 15.0
    assert alarms(forecast(made).evidence()[0])


def test_evidence_of_a_day_knows_nothing_of_later_days() -> None:
    made = noise(REFERENCE + 10, SERIES, np.random.default_rng(6), "days")
    whole, shifts = forecast(made).evidence()
    part, part_shifts = forecast(made[:-4]).evidence()
    np.testing.assert_allclose(whole[:-4], part, rtol=1e-6)
    np.testing.assert_allclose(shifts[:-4], part_shifts, rtol=1e-6, atol=1e-9)


def test_weekdays_are_compared_with_weekdays() -> None:
    week = np.array([0.0, 0, 0, 0, 0, 20, 20])
    made = noise(REFERENCE + 7, 5, np.random.default_rng(7), "independent")
    made += np.tile(week, 5)[:, None]
    saturday = REFERENCE + 5
    days = np.arange(REFERENCE + 7)
    p, _ = forecast(made).tail(days == saturday)
    assert p.min() > 0.01
    monday_like = made.copy()
    monday_like[saturday] -= 20
    p, _ = forecast(monday_like).tail(days == saturday)
    assert p.max() < 0.01


def test_a_reference_that_wanders_forgives_more_than_a_quiet_one() -> None:
    generator = np.random.default_rng(8)
    quiet = noise(REFERENCE + 7, SERIES, generator, "independent")
    wandering = quiet + np.linspace(-10, 12.5, REFERENCE + 7)[:, None]
    quiet[REFERENCE:] += 10
    days = np.arange(REFERENCE + 7) >= REFERENCE
    assert forecast(quiet).tail(days)[0].max() < 1e-3
    assert forecast(wandering).tail(days)[0].min() > 1e-3


def test_what_the_model_learned_from_may_stand_higher() -> None:
    made = noise(REFERENCE + 7, 5, np.random.default_rng(9), "independent")
    made[:21] += 30
    days = np.arange(REFERENCE + 7)
    daily = Daily(days, np.full(len(days), ROWS), made / ROWS**0.5, REFERENCE, learned=days < 21)
    assert Forecast(daily).tail(days >= REFERENCE)[0].min() > 0.01
    made[REFERENCE:] += 15
    daily = Daily(days, np.full(len(days), ROWS), made / ROWS**0.5, REFERENCE, learned=days < 21)
    assert Forecast(daily).tail(days >= REFERENCE)[0].max() < 0.01


def test_a_day_of_few_rows_says_less() -> None:
    made = noise(REFERENCE + 1, 5, np.random.default_rng(10), "independent")
    made[-1] = 8.0
    days = np.arange(REFERENCE + 1)
    rows = np.full(REFERENCE + 1, ROWS)
    many = Forecast(Daily(days, rows, made / ROWS**0.5, REFERENCE)).tail(days == REFERENCE)[0]
    rows[-1] = 40
    few = Forecast(Daily(days, rows, made / ROWS**0.5, REFERENCE)).tail(days == REFERENCE)[0]
    assert many.max() < 1e-3
    assert few.min() > 0.05
