"""What comes of the champion's answers: a fall is seen the day after, usual ups and downs are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import served_stub
from tiny import START, tiny_case, tiny_tables

from pipelines.case_study import Label
from pipelines.errors import DataError, UsageError
from pipelines.settings import Measure, Platform
from pipelines.steps.outcome import (
    BASELINE,
    FEWEST,
    FEWEST_REQUESTS,
    GAP,
    WEEK,
    Outcome,
    Week,
    check_watched,
    measure_outcome,
)
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

DAY = timedelta(days=1)
CASE = replace(
    served_stub.CASE,
    tables=tiny_case().tables,
    label=Label(("impression_id",), "time", (), lambda tables, as_of: tables["none"]),
)
CLICKS = Measure(name="clicks_per_request", numerator="click")
DAYS, A_DAY, WEEK_DROP = 24, 2 * FEWEST_REQUESTS, 0.04
LAG = CASE.framing.attribution


def lived(tmp_path: Path, rates: np.ndarray, policy: str = "champion", a_day: int = A_DAY) -> Workspace:
    """Fill a lake with days of answers; of each day's requests the share of `rates` is clicked."""
    tables = tiny_tables(days=len(rates), requests_a_day=a_day)
    day = (pl.col("action_time") - START).dt.total_days()
    place = pl.int_range(pl.len()).over(day)
    keep = place < (pl.Series(rates) * a_day).gather(tables["actions"].select(day).to_series())
    tables["actions"] = tables["actions"].filter(keep)
    tables["requests"] = tables["requests"].with_columns(policy=pl.lit(policy))
    ws = Workspace(tmp_path / "live" / "shop")
    with Lake(ws.lake, CASE.tables).writing() as writer:
        for name, rows in tables.items():
            writer.add(name, rows)
        writer.fold()
        writer.commit()
    return ws


def measured(ws: Workspace, days: int = DAYS) -> Outcome | None:
    # Clicks arrive two hours after they happened, the label is mature after `LAG`.
    return measure_outcome(CASE, ws, START + days * DAY + LAG, CLICKS, Platform(), week_drop=WEEK_DROP)


def usual(rng: np.random.Generator, spread: float = 0.02) -> np.ndarray:
    return rng.normal(0.6, spread, DAYS)


def test_the_newest_mature_day_is_held_to_the_weeks_before(tmp_path: Path) -> None:
    rates = usual(np.random.default_rng(1))
    found = measured(lived(tmp_path, rates))
    assert found is not None and found.until == START + DAYS * DAY and found.days == BASELINE
    before = rates[DAYS - 1 - GAP - BASELINE : DAYS - 1 - GAP]
    assert found.now == pytest.approx(rates[-1], abs=0.005)
    assert found.then == pytest.approx(before.mean(), abs=0.005)
    # Student's interval of one more day.
    assert found.half == pytest.approx(2.1604 * before.std(ddof=1) * np.sqrt(1 + 1 / BASELINE), rel=0.1)


def test_a_fall_is_seen_the_day_after_and_for_days(tmp_path: Path) -> None:
    rates = usual(np.random.default_rng(2))
    rates[-4:] *= 0.75
    ws = lived(tmp_path, rates)
    seen = [measured(ws, day) for day in range(DAYS - 6, DAYS + 1)]
    assert [each is not None and each.fell(0.08) for each in seen] == [False] * 3 + [True] * 4


def test_a_slow_fall_is_seen_in_the_week(tmp_path: Path) -> None:
    """No day is far below the others, which differ by as much; a week of them is."""
    rates = usual(np.random.default_rng(5), 0.06)
    rates[-WEEK:] *= 0.8
    ws = lived(tmp_path, rates)
    found = measured(ws)
    assert found is not None and found.week is not None
    before = rates[-WEEK - BASELINE : -WEEK]
    assert found.week.now == pytest.approx(rates[-WEEK:].mean(), abs=0.005)
    assert found.week.then == pytest.approx(before.mean(), abs=0.005) and found.week.days == BASELINE
    # Student's interval of the mean of seven more days.
    student = 2.1604 * before.std(ddof=1) * np.sqrt(1 / WEEK + 1 / BASELINE)
    assert found.week.half == pytest.approx(student, rel=0.1)
    assert not replace(found, week=None).fell(0.08) and found.fell(0.08) and found.slid(0.08)
    assert found.since(0.08) == found.began(0.08) == found.start(0.08) == found.until - WEEK * DAY
    earlier = measured(ws, DAYS - WEEK)
    assert earlier is not None and not earlier.fell(0.08)


def test_a_week_must_be_whole_and_have_another_to_be_held_to(tmp_path: Path) -> None:
    ws = lived(tmp_path, np.full(DAYS, 0.6))

    def week(days: int, after: datetime | None = None) -> Week | None:
        until = START + days * DAY + LAG
        found = measure_outcome(CASE, ws, until, CLICKS, Platform(), after=after, week_drop=WEEK_DROP)
        assert found is not None
        return found.week

    assert week(WEEK + FEWEST - 1) is None and week(WEEK + FEWEST) is not None
    assert (
        week(DAYS, START + (DAYS - WEEK - FEWEST + 1) * DAY) is None
    )  # what came of the last fall is not usual
    assert week(DAYS, START + (DAYS - WEEK - FEWEST) * DAY) is not None


def test_a_worse_day_is_told_before_a_worse_week() -> None:
    """It tells when it fell, to the hour."""
    found = Outcome("clicks", START, 0.6, 0.02, 14, (0.4, 0.6), week=Week(0.4, 0.6, 0.02, 14, 0.04))
    assert found.fell(0.08) and not found.slid(0.08) and found.start(0.08) == START - DAY
    rising = Outcome(
        "reports", START, 0.6, 0.02, 14, (0.6,), lower_is_better=True, week=Week(0.7, 0.6, 0.02, 14, 0.04)
    )
    assert rising.slid(0.08) and not replace(rising, week=Week(0.5, 0.6, 0.02, 14, 0.04)).fell(0.08)
    assert not replace(rising, week=Week(0.64, 0.6, 0.02, 14, 0.04)).fell(0.08)  # its share and the interval


def test_quiet_weeks_are_no_reason(tmp_path: Path) -> None:
    """By the share alone a day in five would be one."""
    falls = 0
    for seed in range(8):
        found = measured(lived(tmp_path / str(seed), usual(np.random.default_rng([3, seed]), 0.06)))
        assert found is not None
        falls += found.fell(0.08)
    assert falls == 0


def test_days_that_differ_widely_excuse_a_fall(tmp_path: Path) -> None:
    rates = np.where(np.arange(DAYS) % 2 == 0, 0.8, 0.4)
    rates[-1] = 0.4
    found = measured(lived(tmp_path, rates))
    assert found is not None and not found.fell(0.08)


@pytest.mark.parametrize(
    ("days", "policy", "a_day"),
    [
        (FEWEST + GAP, "champion", A_DAY),  # not a week to compare with
        (DAYS, "logging", A_DAY),  # another policy answered
        (DAYS, "champion", FEWEST_REQUESTS - 1),  # too few to tell
    ],
)
def test_where_there_is_nothing_to_compare_it_says_nothing(
    tmp_path: Path, days: int, policy: str, a_day: int
) -> None:
    assert measured(lived(tmp_path, np.full(days, 0.6), policy, a_day), days) is None


def test_a_day_without_answers_is_not_taken_for_the_day_before(tmp_path: Path) -> None:
    assert measured(lived(tmp_path, np.full(DAYS, 0.6)), DAYS + 1) is None


def test_worse_may_be_more() -> None:
    def reported(now: float) -> Outcome:
        return Outcome(
            "reports", datetime(2026, 3, 1, tzinfo=UTC), 1.0, 0.1, 14, (now,), lower_is_better=True
        )

    assert [reported(now).fell(0.2) for now in (0.5, 1.25, 1.35)] == [False, False, True]


def test_a_fall_began_with_the_first_of_the_days_that_are_all_worse(tmp_path: Path) -> None:
    rates = usual(np.random.default_rng(4))
    rates[-3:] *= 0.7
    found = measured(lived(tmp_path, rates))
    assert found is not None and found.fell(0.08)
    assert found.since(0.08) == START + (DAYS - 3) * DAY
    assert found.taught(0.08) == START + (DAYS - 2) * DAY + LAG
    assert len(found.newest) == WEEK + BASELINE and found.newest[0] == found.now


@pytest.mark.parametrize("since", [0, 1, 9, 23])
@pytest.mark.parametrize("days", [1, 3])
def test_the_hour_in_which_it_fell_is_found(since: int, days: int) -> None:
    """Days end when their labels are known, not when the world changed."""
    rng = np.random.default_rng(since)
    level = np.r_[np.full(24 + since, 0.7), np.full(24 * days - since, 0.07)]
    hours = [(float(rng.binomial(120, each)), 120.0) for each in level[::-1]]
    newest = (0.1,) * days + (0.7,)
    found = Outcome("clicks", START, 0.7, 0.02, 14, newest, hours=tuple(hours))
    assert found.since(0.1) == START - days * DAY
    assert found.began(0.1) == found.since(0.1) + timedelta(hours=since)
    assert replace(found, hours=found.hours[:24]).began(0.1) == found.since(0.1), (
        "the day before is not known"
    )
    # Where more is worse, as of reports.
    up = tuple((den - num, den) for num, den in hours)
    more = replace(found, then=0.3, newest=(0.9,) * days + (0.3,), hours=up, lower_is_better=True)
    assert more.began(0.1) == found.began(0.1)


@pytest.mark.parametrize("since", [0, 6, 12])
def test_the_rhythm_of_a_day_is_not_taken_for_the_fall(since: int) -> None:
    """A quarter more by day than by night, as on the fortnight before; then a fifth less from one hour on."""
    rhythm = np.tile(np.where(np.arange(24) < 12, 0.75, 1.25), 15)
    level = np.r_[np.ones(14 * 24 + since), np.full(24 - since, 0.8)]
    hours = tuple((2000.0 * each, 4000.0) for each in (rhythm * level)[::-1])
    found = Outcome("clicks", START, 0.5, 0.02, 14, (0.42, 0.5), hours=hours)
    assert found.began(0.1) == found.since(0.1) + timedelta(hours=since)


def test_what_did_not_fall_within_the_day_began_with_it() -> None:
    rising = tuple((float(48 - ago), 100.0) for ago in range(48))
    found = Outcome("clicks", START, 0.9, 0.02, 14, (0.3, 0.9), hours=rising)
    assert found.began(0.1) == found.since(0.1)


def test_days_before_the_last_fall_are_not_usual(tmp_path: Path) -> None:
    """A new world may never give what the old one gave: that is no second fall."""
    rates = usual(np.random.default_rng(5))
    rates[-FEWEST - GAP - 1 :] *= 0.7
    ws = lived(tmp_path, rates)
    before = measured(ws)
    assert before is not None and before.then > 0.45
    at = START + DAYS * DAY + LAG
    fell = START + (DAYS - FEWEST - GAP - 1) * DAY
    found = measure_outcome(CASE, ws, at, CLICKS, Platform(), after=fell)
    assert found is not None and found.days == FEWEST and not found.fell(0.08)
    assert found.then == pytest.approx(0.42, abs=0.03)
    assert measure_outcome(CASE, ws, at, CLICKS, Platform(), after=fell + DAY) is None


def test_a_metric_of_units_is_not_measured_day_by_day(tmp_path: Path) -> None:
    """An experiment may be decided by it; a day's requests have no units to count."""
    ws = lived(tmp_path, np.full(DAYS, 0.6))
    assert measured(ws) is not None
    by_unit = Measure(name="clicks_per_user", numerator="click", denominator="units")
    assert measure_outcome(CASE, ws, START + DAYS * DAY + LAG, by_unit, Platform()) is None


@pytest.mark.parametrize("numerator", ["labels", "examples", "appeal", "removed"])
def test_what_is_answered_counts_only_what_is_known_at_once(numerator: str) -> None:
    """The newest day has no labels and few actions yet: it would look like a fall."""
    from pipelines.cases.harmful_content.case import CASE as HARM

    removals = Measure(name="removals_per_post", numerator="remove")
    check_watched(HARM, removals, "here", at_once=True)
    late = removals.model_copy(update={"numerator": numerator})
    with pytest.raises(UsageError, match=rf"^here: .* '{numerator}', which is not known at once: .*remove"):
        check_watched(HARM, late, "here", at_once=True)


@pytest.mark.parametrize(("numerator", "denominator"), [("clik", "requests"), ("click", "units")])
def test_a_measure_of_what_no_request_has_is_refused(numerator: str, denominator: str) -> None:
    check_watched(CASE, CLICKS, "here")
    wrong = Measure(name="odd", numerator=numerator, denominator=denominator)
    with pytest.raises(UsageError, match=r"here: 'odd' counts '(clik|units)'"):
        check_watched(CASE, wrong, "here")


def test_a_label_that_tells_no_request_is_refused_in_words(tmp_path: Path) -> None:
    """A case that is served must say of which request an example came; what only trains need not."""
    ws = lived(tmp_path, np.full(DAYS, 0.6))

    def fold(tables: Any, as_of: datetime) -> Any:
        shown = tables["impressions"]
        return shown.select("impression_id", time=shown["impression_time"], label=1)

    label = Label(("impression_id",), "time", ("impressions",), fold)
    with pytest.raises(
        DataError, match=r"label of shop folds to no column 'request_id'.* add it to the fold"
    ):
        at = START + DAYS * DAY + LAG
        measure_outcome(replace(CASE, label=label), ws, at, Measure(name="labels_per_request"), Platform())


def moderated(tmp_path: Path, removed: list[int]) -> Workspace:
    """Fill a lake with a day for each number: so many of its posts are removed, every tenth is reviewed."""
    from pipelines.cases.harmful_content.case import CASE as HARM

    rows: dict[str, list[dict[str, object]]] = {"requests": [], "impressions": []}
    for day, count in enumerate(removed):
        for place in range(A_DAY):
            at = START + day * DAY + timedelta(seconds=60 * place)
            name = f"p{day}-{place}"
            decision = "remove" if place < count else "review" if place % 10 == 9 else "allow"
            rows["requests"].append({"request_id": name, "request_time": at, "policy": "champion"})
            rows["impressions"].append(
                {"impression_id": name, "request_id": name, "impression_time": at, "decision": decision}
            )
            for each in rows.values():
                each[-1]["arrived_at"] = at + timedelta(seconds=1)
    rows["requests"] = [{**each, "text": "a post"} for each in rows["requests"]]
    ws = Workspace(tmp_path / "live" / "harmful_content")
    with Lake(ws.lake, HARM.tables).writing() as writer:
        for name, each in rows.items():
            writer.add(name, pl.DataFrame(each, schema=polars_schema(HARM.table(name).schema)))
        writer.fold()
        writer.commit()
    return ws


def test_decisions_are_known_at_once_and_told_until_their_labels_come(tmp_path: Path) -> None:
    """A verdict takes a day and a half: until then, and a few days more, the days before the fall are what is usual."""
    from pipelines.cases.harmful_content.case import CASE as HARM

    removals = Measure(name="removals_per_post", numerator="remove")
    counts = [10 + day % 3 for day in range(26)] + [1] * 6
    ws = moderated(tmp_path, counts)

    def found(days: int) -> Outcome | None:
        return measure_outcome(HARM, ws, START + days * DAY, removals, Platform(), at_once=True)

    quiet = found(26)
    assert quiet is not None and not quiet.fell(0.4)
    assert quiet.now == (10 + 25 % 3) / A_DAY and quiet.then == pytest.approx(11 / A_DAY, rel=0.05)
    for days in range(27, 33):
        seen = found(days)
        assert seen is not None and seen.fell(0.4), f"on day {days}"
        assert seen.since(0.4) == START + 26 * DAY
        assert seen.taught(0.4) == START + 27 * DAY + timedelta(hours=36)
    assert measure_outcome(HARM, ws, START + 12 * DAY, removals, Platform(), at_once=True) is None
