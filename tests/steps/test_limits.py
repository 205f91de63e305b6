"""Contribution limits: what is beyond them stays out, the same however the log was read, and can come back."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from log_help import file_log
from tiny import START, typed

from pipelines.case_study import Batch, CaseStudy, Contributions
from pipelines.errors import UsageError
from pipelines.flows.overview import limited
from pipelines.settings import CaseConfig, Limits, Outlier, parse
from pipelines.steps.ingest import Rows, ingest, ingest_log, manifests
from pipelines.steps.outliers import believed
from pipelines.steps.quarantine import list_quarantine, replay_quarantine, show_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def case(case: CaseStudy) -> CaseStudy:
    return replace(case, contributions=Contributions(actor=("user_id",), target=("video_id",)))


def limits(**options: Any) -> Limits:
    return Limits.model_validate(options)


def watches(*rows: tuple[str, str, timedelta], address: str | None = None) -> pl.DataFrame:
    """Make watches of (user, video, arrival after START), named by their order."""
    return typed("actions", {
        "action_id": [f"a{number:03d}" for number in range(len(rows))],
        "impression_id": [f"i{number:03d}" for number in range(len(rows))],
        "action": ["watch"] * len(rows),
        "value": [1.0] * len(rows),
        "action_time": [START + arrived - HOUR for _, _, arrived in rows],
        "address": [address] * len(rows),
        "user_id": [user for user, _, _ in rows],
        "video_id": [video for _, video, _ in rows],
        "arrived_at": [START + arrived for _, _, arrived in rows],
    })  # fmt: skip


def shown(actions: pl.DataFrame, *unanswered: tuple[str, str, timedelta]) -> pl.DataFrame:
    """Make the impressions of actions, an hour before them, and some that nobody acted on."""
    rows = [
        *actions.select("impression_id", "user_id", "video_id", "action_time").iter_rows(),
        *((f"n{number:04d}", user, video, START + at) for number, (user, video, at) in enumerate(unanswered)),
    ]
    return typed("impressions", {
        "impression_id": [row[0] for row in rows],
        "request_id": [row[0] for row in rows],
        "impression_time": [row[3] for row in rows],
        "position": [1] * len(rows),
        "propensity": [0.5] * len(rows),
        "user_id": [row[1] for row in rows],
        "video_id": [row[2] for row in rows],
        "explored": [False] * len(rows),
        "arrived_at": [row[3] for row in rows],
    })  # fmt: skip


def kept(case: CaseStudy, ws: Workspace, table: str = "actions") -> list[str]:
    key = case.table(table).key[0]
    return sorted(Lake(ws.lake, case.tables).scan(table).collect()[key].to_list())


def read(case: CaseStudy, ws: Workspace, rows: pl.DataFrame, most: Limits, table: str = "actions") -> Rows:
    return ingest(case, ws, [Batch(table, rows, "rows")], source="x", as_of=AS_OF, limits=most).total


def test_what_is_beyond_a_day_goes_to_quarantine_the_first_to_arrive_stay(
    case: CaseStudy, ws: Workspace
) -> None:
    rows = watches(
        *((("u1"), f"v{n}", n * HOUR) for n in (5, 4, 3, 2, 1)), ("u2", "v1", HOUR), ("u1", "v9", DAY)
    )
    assert read(case, ws, rows, limits(actions={"actor_day": 3})) == Rows(read=7, kept=5, quarantined=2)
    assert kept(case, ws) == ["a002", "a003", "a004", "a005", "a006"]
    [listed] = list_quarantine(ws)
    assert (listed.field, listed.reason, listed.rows) == ("user_id", "over the limit of 3 a day", 2)
    assert {entry["row"]["action_id"] for entry in show_quarantine(ws)} == {"a000", "a001"}
    assert manifests(ws)[0]["limited"] == {"actions, user_id: over the limit of 3 a day": 2}


def test_a_pair_is_limited_within_the_window_and_each_word_for_itself(case: CaseStudy, ws: Workspace) -> None:
    rows = watches(*(("u1", "v1", day * DAY) for day in (0, 1, 6, 7)), ("u1", "v1", DAY))
    likes = rows.with_columns(action=pl.lit("like"), action_id=pl.col("action_id") + "-like")
    most = limits(window_days=7, actions={"pair": 1})
    assert read(case, ws, pl.concat([rows, likes]), most).quarantined == 6
    # A week later the first is forgotten.
    assert kept(case, ws) == ["a000", "a000-like", "a003", "a003-like"]


def test_an_address_is_limited_over_accounts_and_none_is_not(case: CaseStudy, ws: Workspace) -> None:
    crowd = [(f"u{n}", "v1", n * HOUR) for n in range(6)]
    most = limits(actions={"address_pair": 2})
    known = watches(*crowd, address="x7").with_columns(action_id=pl.col("action_id") + "-x")
    assert read(case, ws, pl.concat([known, watches(*crowd)]), most) == Rows(read=12, kept=8, quarantined=4)


def test_impressions_are_limited_too(case: CaseStudy, ws: Workspace) -> None:
    rows = shown(watches(), *(("u1", "v1", n * HOUR) for n in range(5)))
    assert read(case, ws, rows, limits(impressions={"pair": 2}), "impressions").quarantined == 3


def test_only_the_words_that_a_case_counts_are_limited(case: CaseStudy, ws: Workspace) -> None:
    counted = replace(case, contributions=Contributions(("user_id",), ("video_id",), words=("like",)))
    rows = watches(*(("u1", "v1", n * HOUR) for n in range(5)))
    likes = rows.with_columns(action=pl.lit("like"), action_id=pl.col("action_id") + "-like")
    assert read(counted, ws, pl.concat([rows, likes]), limits(actions={"actor_day": 1})).quarantined == 4


def test_a_second_delivery_is_a_duplicate_not_a_contribution(case: CaseStudy, ws: Workspace) -> None:
    rows = watches(("u1", "v1", HOUR), ("u1", "v2", 3 * HOUR), ("u1", "v3", 4 * HOUR))
    again = rows.head(1).with_columns(arrived_at=START + 2 * HOUR)
    most = limits(actions={"actor_day": 2})
    assert read(case, ws, pl.concat([rows, again]), most) == Rows(read=4, kept=2, duplicate=1, quarantined=1)
    assert read(case, ws, pl.concat([rows, again]), most) == Rows(read=4, duplicate=3, quarantined=1)
    assert len(show_quarantine(ws)) == 1


def test_without_limits_or_declaration_nothing_is_withheld(case: CaseStudy, ws: Workspace) -> None:
    rows = watches(*(("u1", "v1", n * HOUR) for n in range(9)))
    assert read(case, ws, rows.head(5), limits()).kept == 5
    assert read(replace(case, contributions=None), ws, rows, limits(actions={"pair": 1})).kept == 4


def test_withheld_rows_come_back_once_the_thresholds_are_raised(case: CaseStudy, ws: Workspace) -> None:
    read(case, ws, watches(*(("u1", "v1", n * HOUR) for n in range(5))), limits(actions={"pair": 2}))
    before = {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")}
    same = replay_quarantine(case, ws, AS_OF, limits=limits(actions={"pair": 2}))
    assert same.total == Rows(read=3, quarantined=3)
    assert {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")} == before
    raised = replay_quarantine(case, ws, AS_OF, limits=limits(actions={"pair": 4}))
    assert raised.total == Rows(read=3, kept=2, quarantined=1)
    assert limited(ws) == {"actions, user_id, video_id, action: over the limit of 4 in 28 days": 1}
    assert kept(case, ws) == ["a000", "a001", "a002", "a003"]


def crowd(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw 50 people over 9 days, who act on a fifth of what they see, three who act on all, and one who hammers."""
    rng = np.random.default_rng(seed)
    acts, rest = [], []
    for user in range(54):
        for day in range(9):
            for _ in range(8):
                at = day * DAY + float(rng.uniform(0.5, 23)) * HOUR
                video = "v0" if user == 53 else f"v{rng.integers(40)}"
                (acts if user >= 50 or rng.random() < 0.2 else rest).append((f"u{user:02d}", video, at))
    actions = watches(*((user, video, at + HOUR) for user, video, at in acts))
    twice = actions.sample(fraction=0.05, seed=seed).with_columns(pl.col("arrived_at") + pl.duration(hours=9))
    return pl.concat([actions, twice]), shown(actions, *rest)


STRICT = limits(
    window_days=7,
    impressions={"actor_day": 7},
    actions={"actor_day": 6, "pair": 2},
    outlier={"shown": 20, "deviations": 2.5},
)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_log_read_in_parts_comes_to_the_same_lake_as_read_at_once(
    case: CaseStudy, tmp_path: Path, seed: int
) -> None:
    actions, impressions = crowd(seed)
    whole = Workspace(tmp_path / "runs" / "whole")
    mixed = [
        Batch(table, rows, f"{table} {number}")
        for table, frame in (("actions", actions), ("impressions", impressions))
        for number, rows in enumerate(frame.sample(fraction=1.0, shuffle=True, seed=seed).iter_slices(500))
    ]
    random.Random(seed).shuffle(mixed)
    expected = ingest(case, whole, mixed, source="x", as_of=AS_OF, limits=STRICT)
    reasons = {problem.reason for problem in list_quarantine(whole)}
    assert len(reasons) == 4, reasons  # every limit was hit

    live = Workspace(tmp_path / "live" / "parts")
    with file_log(live) as log:
        both = pl.concat([actions.select("arrived_at"), impressions.select("arrived_at")])
        cuts = sorted(both["arrived_at"].sample(5, seed=seed).to_list())
        done = START - DAY
        for cut in [*cuts, AS_OF]:
            for table, frame in (("impressions", impressions), ("actions", actions)):
                log.append(table, frame.filter(pl.col("arrived_at").is_between(done, cut, closed="right")))
            done = cut
            last = ingest_log(case, live, log, as_of=cut, limits=STRICT)
    assert last.digest == expected.digest


def test_an_outlier_is_held_to_what_is_believed_and_nobody_else_is(case: CaseStudy, ws: Workspace) -> None:
    actions, impressions = crowd(0)
    batches = [Batch("impressions", impressions, "i"), Batch("actions", actions, "a")]
    watching = limits(window_days=7, outlier={"deviations": 4.0, "shown": 20})
    ingest(case, ws, batches, source="x", as_of=AS_OF, limits=watching)
    trimmed = pl.DataFrame(
        [entry["row"]["user_id"] for entry in show_quarantine(ws, limit=None)], schema=["user"]
    )
    counts = dict(trimmed.group_by("user").len().iter_rows())
    assert counts.keys() == {"u50", "u51", "u52", "u53"}
    assert min(counts.values()) > 8
    [listed] = list_quarantine(ws)
    assert listed.reason == "outlier: acts on more than is believed of what it is shown"


def test_a_few_wild_accounts_do_not_move_what_is_believed() -> None:
    rng = np.random.default_rng(0)
    shown = np.full(1000, 200)
    acted = rng.binomial(shown, 0.2)
    calm = believed(shown, acted, Outlier())[0]
    acted[:20] = 200
    wild = believed(shown, acted, Outlier())
    assert wild[0] == pytest.approx(calm, rel=0.05)
    assert (acted > wild).sum() == 20
    few = believed(shown[:20], acted[:20], Outlier())
    assert np.isinf(few).all(), "of twenty accounts nobody knows what is usual"


def test_an_unknown_limit_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"unknown key 'limits.actions.actor_days': did you mean 'actor_day'"
    ):
        parse(CaseConfig, {"limits": {"actions": {"actor_days": 3}}}, "config")


def test_rows_from_before_a_column_was_declared_are_counted_without_it(
    case: CaseStudy, ws: Workspace
) -> None:
    """Files that stand in the lake lack it; a limit by it knows nothing of their rows."""
    most = limits(actions={"address_day": 2})
    rows = watches(*((f"u{n}", "v1", n * HOUR) for n in range(6)), address="a")
    assert read(case, ws, rows.head(2), limits()).kept == 2
    for path in Lake(ws.lake, case.tables).files("actions"):
        pl.read_parquet(path).drop("address").write_parquet(path)
    assert read(case, ws, rows, most) == Rows(read=6, kept=2, duplicate=2, quarantined=2)
