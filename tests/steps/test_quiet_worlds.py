"""Worlds that stand still, or only go round with the week, ask for no retrain; a world that moved does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipelines.learning.drift import Profile, State, judge_window, profile_reference
from pipelines.settings import Triggers
from pipelines.steps.decide import DRIFT, Decision, decide
from pipelines.steps.signals import Signals
from pipelines.world.frames import Shift, window

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
REFERENCE, WATCHED, ROWS = 28, 9, 120
COLUMNS = ("normal", "mostly_zero", "few")
WEEKEND = (Shift("normal", "mean", 0.3), Shift("few", "mix", 0.1))
MOVED = (Shift("normal", "mean", 0.8),)


def drawn(seed: int, day: int, shifts: tuple[Shift, ...]) -> pl.DataFrame:
    frame = window(np.random.default_rng([seed, day]), ROWS, shifts).select(COLUMNS)
    return frame.with_columns(time=pl.lit(START + day * DAY).dt.cast_time_unit("us"))


def days(seed: int, world: str) -> list[pl.DataFrame]:
    def shifts(day: int) -> tuple[Shift, ...]:
        if world == "season":
            return WEEKEND if day % 7 >= 5 else ()
        return MOVED if world == "moved" and day >= REFERENCE else ()

    return [drawn(seed, day, shifts(day)) for day in range(REFERENCE + WATCHED)]


def watched(profile: Profile, later: list[pl.DataFrame]) -> list[Decision]:
    """Judge and decide each midnight, remembering what a watch remembers."""
    state, history, decisions = State(), list[datetime](), list[Decision]()
    for number, rows in enumerate(later, start=1):
        verdict = judge_window(profile, rows, state=state)
        alarms = verdict.reasons if verdict.level == "alarm" else ()
        now = START + (REFERENCE + number) * DAY
        seen = Signals(alarms, 0, None, drifting_since=verdict.since)
        decisions.append(decide(seen, Triggers(), history, now))
        history += [now] * (decisions[-1].action == "retrain")
    return decisions


@pytest.mark.parametrize(("world", "seeds"), [("none", 1), ("season", 1), ("moved", 1)])
def test_only_a_world_that_moved_asks_for_a_retrain(world: str, seeds: int) -> None:
    for seed in range(seeds):
        made = days(seed, world)
        profile = profile_reference(pl.concat(made[:REFERENCE]), "time")
        found = watched(profile, made[REFERENCE:])
        asked = [each for each in found if each.action == "retrain"]
        if world != "moved":
            assert not asked, asked
            continue
        assert asked[0].reasons[0].kind == DRIFT
        words = asked[0].words
        assert "normal: " in words and "surprise" in words and "drift since 2026-02-" in words
