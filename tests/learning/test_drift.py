"""Verdicts on rows: what is named, what is forgiven, and what cannot be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drift_help import REFERENCE, ROLES, before, between, profile, rows

from pipelines.errors import DataError, UsageError
from pipelines.learning.drift import Profile, State, Verdict, judge_window, profile_reference
from pipelines.learning.drift_cells import KNOWN_LEVELS, SHOWN_LEVELS, count, make_columns
from pipelines.learning.drift_rows import open_rows

MADE = rows(REFERENCE + 7)
PROFILE = profile(MADE)
WEEK = between(MADE, REFERENCE, REFERENCE + 7)


def column(verdict: Verdict, name: str) -> object:
    return next(each for each in verdict.columns if each.name == name)


def struck(name: str, value: object, share: float) -> pl.Expr:
    chosen = pl.Series(np.random.default_rng(0).random(WEEK.height) < share)
    return pl.when(chosen).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)


def test_a_week_like_any_other_is_quiet() -> None:
    verdict = judge_window(PROFILE, WEEK)
    assert (verdict.level, verdict.status, verdict.reasons, verdict.drifted) == ("none", "judged", (), ())
    assert (verdict.start, verdict.end, verdict.rows) == ("2026-02-02", "2026-02-09", 7 * 300)
    assert all(not each.drifted and each.statistic <= each.threshold for each in verdict.columns)


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("n0", pl.col("n0") + 0.6, "higher"),
        ("n0", pl.col("n0") * 1.3, "wider"),
        ("n1", pl.col("n1") * 1000, "outside the reference's range"),
        ("n0", struck("n0", None, 0.05), "missing values 0 % → "),
        ("n0", struck("n0", float("nan"), 0.05), "missing values 0 % → "),
        ("n0", struck("n0", float("inf"), 0.05), "outside the reference's range"),
        ("c0", struck("c0", "tv", 0.2), "'tv' "),
        ("c0", struck("c0", "car", 0.03), "never seen in the reference 0 % → "),
        ("c1", struck("c1", "l1000", 0.1), "never seen in the reference"),
        ("flag", struck("flag", True, 0.3), "'true' "),
        ("label", struck("label", 1, 0.1), "higher"),
        ("prediction", pl.col("prediction") - 0.6, "lower"),
        ("n2", pl.lit(None, dtype=pl.Float64).alias("n2"), "missing values 0 % → 100 %"),
    ],
)
def test_a_changed_column_is_named_and_no_other(name: str, change: pl.Expr, what: str) -> None:
    verdict = judge_window(PROFILE, WEEK.with_columns(change.alias(name)))
    assert verdict.drifted == (name,)
    assert verdict.level in ("warning", "alarm")
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(f"{name}: ")
    assert what in verdict.reasons[0]


def test_a_column_that_is_gone_is_named() -> None:
    verdict = judge_window(PROFILE, WEEK.drop("n3"))
    assert verdict.drifted == ("n3",)
    assert "the column is gone" in verdict.reasons[0]


def test_a_column_that_turned_to_words_counts_as_missing() -> None:
    verdict = judge_window(PROFILE, WEEK.with_columns(n0=pl.lit("n/a")))
    assert verdict.drifted == ("n0",)


def test_a_lasting_shift_alarms_from_the_third_day_on() -> None:
    state, levels = State(), []
    for day in range(REFERENCE, REFERENCE + 7):
        today = between(MADE, day, day + 1).with_columns(pl.col("n1") * 1000)
        levels.append(judge_window(PROFILE, today, state=state).level)
    assert levels[:2] == ["warning", "warning"]
    assert set(levels[3:]) == {"alarm"}


def test_one_broken_day_warns_and_never_alarms() -> None:
    state, levels = State(), []
    for day in range(REFERENCE, REFERENCE + 7):
        today = between(MADE, day, day + 1)
        today = today.with_columns(pl.col("n1") * 1000) if day == REFERENCE + 2 else today
        levels.append(judge_window(PROFILE, today, state=state).level)
    assert levels[2] == "warning"
    assert "alarm" not in levels


def test_the_same_day_does_not_count_twice() -> None:
    shifted = between(MADE, REFERENCE, REFERENCE + 2).with_columns(pl.col("n1") * 1000)
    state = State()
    first = judge_window(PROFILE, shifted, state=state)
    kept = json.dumps(state.to_json())
    for _ in range(5):
        again = judge_window(PROFILE, shifted, state=state)
    assert json.dumps(state.to_json()) == kept
    assert again.evidence == pytest.approx(first.evidence)
    assert again.level != "alarm"


def test_days_one_by_one_or_at_once_weigh_the_same() -> None:
    state = State()
    for day in range(REFERENCE, REFERENCE + 7):
        last = judge_window(PROFILE, between(MADE, day, day + 1), state=state)
    at_once = judge_window(PROFILE, WEEK)
    np.testing.assert_allclose([e for _, e in last.path], [e for _, e in at_once.path], rtol=1e-6)


def test_the_order_of_rows_does_not_matter() -> None:
    mixed = MADE.sample(fraction=1.0, shuffle=True, seed=1)
    again = judge_window(
        profile(mixed), between(mixed, REFERENCE, REFERENCE + 7).with_columns(pl.col("n0") + 0.5)
    )
    here = judge_window(PROFILE, WEEK.with_columns(pl.col("n0") + 0.5))
    assert again.to_json() == here.to_json()


def test_profile_state_and_verdict_survive_json() -> None:
    held = Profile.from_json(json.loads(json.dumps(PROFILE.to_json(), allow_nan=False)))
    state, again = State(), State()
    verdict = judge_window(PROFILE, WEEK.with_columns(n0=None), state=state)
    assert judge_window(held, WEEK.with_columns(n0=None), state=again) == verdict
    written = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert Verdict.from_json(written) == verdict
    assert written["drifted_columns"] == ["n0"]
    read = State.from_json(json.loads(json.dumps(state.to_json(), allow_nan=False)))
    assert read.to_json() == state.to_json() == again.to_json()


@pytest.mark.parametrize("few", [0, 1, 20])
def test_too_few_rows_are_a_verdict(few: int) -> None:
    verdict = judge_window(PROFILE, WEEK.head(few))
    assert verdict.level == "none"
    assert verdict.status == ("not_enough_rows" if few else "no_rows")
    assert verdict.notes


def test_no_rows_at_all_are_a_verdict() -> None:
    assert judge_window(PROFILE, None).status == "no_rows"


def test_a_short_reference_is_a_verdict() -> None:
    short = profile_reference(before(MADE, 2), "time", roles=ROLES)
    verdict = judge_window(short, WEEK)
    assert (verdict.level, verdict.status) == ("none", "not_enough_reference")


def test_odd_columns_are_judged_or_left_out() -> None:
    def with_odd(made: pl.DataFrame) -> pl.DataFrame:
        number = pl.int_range(pl.len())
        return made.with_columns(
            constant=pl.lit(3.0),
            nothing=pl.lit(None, dtype=pl.Float64),
            names=pl.format("u{}", number),
            tags=pl.concat_list(pl.lit("a"), pl.lit("b")),
            when=pl.col("time") + pl.duration(days=1),
            pair=pl.struct(number),
        )

    odd = profile_reference(with_odd(before(MADE)), "time", roles=ROLES)
    named = {watched.column.name: watched.column.kind for watched in odd.columns}
    assert named["tags"] == "numeric"
    assert named["when"] == "numeric"
    assert not {"pair", "time"} & set(named)
    assert judge_window(odd, with_odd(WEEK)).level == "none"
    longer = with_odd(WEEK).with_columns(
        constant=4.0, tags=pl.concat_list(*[pl.lit("a")] * 3), nothing=1.0, when="time"
    )
    assert set(judge_window(odd, longer).drifted) == {"constant", "tags", "nothing", "when"}


def test_what_the_model_learned_from_is_not_compared_with_what_it_did_not() -> None:
    flattered = before(MADE).with_columns(pl.col("prediction") * 2)
    learned = profile_reference(flattered, "time", roles=ROLES)
    until = int(learned.days.max()) + 1
    verdict = judge_window(replace(learned, learned_until=until), WEEK)
    assert column(verdict, "prediction").status == "not_comparable"
    assert "prediction" in judge_window(learned, WEEK).drifted


def test_weekends_are_not_drift() -> None:
    def weekly(made: pl.DataFrame) -> pl.DataFrame:
        return made.with_columns(n0=pl.col("n0") + 0.8 * (pl.col("time").dt.weekday() >= 6))

    watched = profile(weekly(MADE))
    for day in range(REFERENCE, REFERENCE + 7):
        assert judge_window(watched, weekly(between(MADE, day, day + 1))).level == "none"


def test_parquet_files_and_frames_give_the_same(tmp_path: Path) -> None:
    for number, part in enumerate(WEEK.iter_slices(700)):
        part.write_parquet(tmp_path / f"{number}.parquet")
    assert judge_window(PROFILE, tmp_path).columns == judge_window(PROFILE, WEEK.lazy()).columns


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (lambda: profile_reference(MADE, "tim"), "did you mean 'time'"),
        (lambda: profile_reference(MADE, "time", ["n9"]), "no column 'n9'"),
        (lambda: profile_reference(MADE, "time", kinds={"n0": "number"}), "cannot be 'number'"),
        (lambda: profile_reference(MADE, "time", roles={"n0": "target"}), "cannot be 'target'"),
    ],
)
def test_wrong_names_are_refused(wrong: Callable[[], object], remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        wrong()


def test_parquet_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.parquet"):
        judge_window(PROFILE, tmp_path / "nowhere.parquet")


def test_the_shown_words_of_an_open_column_are_counted_each() -> None:
    """Of texts there are too many words to know; those that are shown have a cell of their own all the same."""
    often = [f"word {number:02d}" for number in range(SHOWN_LEVELS) for _ in range(number + 2)]
    once = [f"text {number}" for number in range(KNOWN_LEVELS + 5)]
    words = [*often, *once]
    rows = pl.DataFrame({"time": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * len(words), "word": words})
    with open_rows(rows, "time") as connection:
        columns = make_columns(connection, "time", None, {}, {})
        counts = count(connection, columns)
    (column,) = columns
    assert not column.closed and column.shown == SHOWN_LEVELS
    cells = counts.cells["word"][0].tolist()
    assert cells[: SHOWN_LEVELS + 1] == [*range(SHOWN_LEVELS + 1, 1, -1), len(once)]
