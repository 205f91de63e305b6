"""The people of every case's world, as a served system meets them: they ask what fits, and act by the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tiny_project import tiny_section

from pipelines import catalog
from pipelines.case_study import CaseStudy, Serving, Users
from pipelines.serving.wire import actions_model
from pipelines.stores.schemas import Actions, Impressions, Requests, polars_schema

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS, ANSWERED = 7, 3
SEED = 3
ACTION = ["action_id", "impression_id", "action", "value", "action_time"]


@dataclass(frozen=True, repr=False)
class Met:
    """A world's log under its logging policy, and its people shown the very same on the first ANSWERED days."""

    case: CaseStudy
    serving: Serving
    users: Users
    log: dict[str, pl.DataFrame]
    shown: list[pl.DataFrame]

    def rows(self, shape: type[Any]) -> pl.DataFrame:
        return self.log[self.case.shaped(shape)[0].name]

    def again(self) -> Users:
        """Open the same people anew."""
        return people(self.case.name)

    def labels(self, actions: pl.DataFrame) -> pl.DataFrame:
        """Fold the labels of what was shown from these actions: a row an impression, how many it earned."""
        ids = pl.concat(self.shown).select("impression_id")
        log = {
            **self.log,
            self.case.shaped(Impressions)[0].name: self.rows(Impressions).join(
                ids, on="impression_id", how="semi"
            ),
            self.case.shaped(Actions)[0].name: actions,
        }
        tables = {name: ibis.memtable(rows) for name, rows in log.items() if name in self.case.label.reads}
        folded = self.case.label.fold(tables, START + DAYS * DAY).to_polars()
        key = self.case.label.keys[0]
        earned = folded.group_by(key).agg(label=pl.col("label").sum()).rename({key: "impression_id"})
        return ids.join(earned, on="impression_id", how="left", maintain_order="left")

    def acted(self) -> pl.DataFrame:
        """Lay out what people do about what was shown as rows of the table of actions."""
        done = pl.concat([self.users.act(START + day * DAY, rows) for day, rows in enumerate(self.shown)])
        rows = done.join(self.rows(Impressions).drop("arrived_at"), on="impression_id", how="left")
        rows = rows.with_columns(arrived_at=pl.col("action_time"))
        schema = polars_schema(self.case.shaped(Actions)[0].schema)
        return rows.select(
            (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in schema.items()
        )


def people(name: str) -> Users:
    world = catalog.world(name)
    return world.users(world.params.model_validate(tiny_section(name)["world"]), SEED, START)


@pytest.fixture(scope="module")
def met(case_name: str, tmp_path_factory: pytest.TempPathFactory) -> Met:
    case, world = catalog.case(case_name), catalog.world(case_name)
    if case.serving is None:
        pytest.skip(f"{case_name} is not served yet")
    params = world.params.model_validate(tiny_section(case_name)["world"])
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in world.rows(params, SEED, START, DAYS, tmp_path_factory.mktemp(case_name) / "state"):
        parts.setdefault(batch.table, []).append(batch.rows)
    log = {}
    for table in case.tables:
        rows = pl.concat(parts[table.name])
        log[table.name] = rows.unique(table.key, keep="first", maintain_order=True)
    users = people(case_name)
    met = Met(case, case.serving, users, log, [])
    for day in range(ANSWERED):
        met.shown.append(as_shown(met, START + day * DAY))
    return met


def as_shown(met: Met, day: datetime) -> pl.DataFrame:
    """Lay out what the log showed on the day, a row a place, as an answer to what is asked on it.

    A request is known again by its time: of the request itself, or of the decision on it.
    """
    asked = met.users.ask(day).select("time").with_row_index("request")
    asked = asked.select(pl.col("request").cast(pl.Int64), "time")
    requests = met.rows(Requests).select("request_id", "request_time")
    shown = met.rows(Impressions).join(requests, on="request_id").drop_nulls("impression_time")
    found = [shown.join(asked, left_on=time, right_on="time") for time in ("request_time", "impression_time")]
    rows = max(found, key=lambda rows: rows.height).drop_nulls(["request_id"])
    schema = met.case.shaped(Impressions)[0].schema.to_schema().columns
    whole = [name for name, column in schema.items() if not column.nullable and name in rows.columns]
    rows = rows.drop_nulls(whole).drop("request_id", "request_time", "arrived_at", "propensity")
    return rows.with_columns(pl.col("position").fill_null(1)).sort("request", "position")


def test_what_is_asked_fits_the_request(met: Met) -> None:
    fields = list(met.serving.request.model_fields)
    for number in range(3):
        day = START + number * DAY
        asked = met.users.ask(day)
        assert asked.columns[0] == "time" and set(asked.columns[1:]) <= set(fields)
        assert asked.height > 20 and asked["time"].is_sorted()
        assert asked["time"].is_between(day, day + DAY, closed="left").all()
        for row in asked.drop("time").iter_rows(named=True):
            met.serving.request.model_validate(row)
        assert_frame_equal(met.again().ask(day), asked)


def test_newcomers_fit_their_tables_and_are_those_of_the_log(met: Met) -> None:
    seen: dict[str, list[pl.DataFrame]] = {}
    for number in range(DAYS):
        day = START + number * DAY
        for name, rows in met.users.newcomers(day, first=number == 0).items():
            assert_frame_equal(met.case.table(name).schema.validate(rows, lazy=True), rows)
            assert (rows["arrived_at"] < day + DAY).all() and rows["arrived_at"].is_sorted()
            assert number == 0 or (rows["arrived_at"] >= day).all()
            seen.setdefault(name, []).append(rows)
    for name, parts in seen.items():
        key, found = list(met.case.table(name).key), pl.concat(parts)
        assert not found.select(key).is_duplicated().any()
        logged = met.log[name]
        assert logged.join(found, on=key, how="anti").is_empty()
        assert found.height - logged.height <= 3, "but for who arrived at the last midnight"


def test_actions_are_those_that_may_come_back(met: Met) -> None:
    shown = met.shown[0]
    done = met.users.act(START, shown)
    assert done.height > 20 and done.columns[: len(ACTION)] == ACTION
    assert done["action_time"].is_sorted() and not done["action_id"].is_duplicated().any()
    times = done.join(shown.select("impression_id", "impression_time"), on="impression_id", how="left")
    assert (times["action_time"] >= times["impression_time"]).all()
    sent = done.drop("impression_id").with_columns(token=pl.lit("t")).head(500).to_dicts()
    actions_model(met.case.name, met.serving).model_validate({"actions": sent})


def test_the_same_answers_are_acted_on_alike(met: Met) -> None:
    shown, users = met.shown[0], met.again()
    done = met.users.act(START, shown)
    users.ask(START + DAY)
    users.act(START + DAY, met.shown[1])
    assert_frame_equal(users.act(START, shown), done)
    assert_frame_equal(users.act(START, shown.sample(fraction=1.0, shuffle=True, seed=1)), done)
    half = shown["request"].max() // 2
    parts = [
        users.act(START, shown.filter(side)) for side in (pl.col("request") <= half, pl.col("request") > half)
    ]
    assert_frame_equal(pl.concat(parts).sort("action_time", "action_id"), done)


def test_what_two_systems_show_alike_has_the_same_outcome(met: Met) -> None:
    """Leave half of the places out, and answer other requests with one another's answers: the rest stays."""
    shown = met.shown[0]
    done = met.users.act(START, shown)
    kept = shown.sample(fraction=0.5, seed=1).select("impression_id")
    thinner = met.users.act(START, shown.join(kept, on="impression_id", how="semi"))
    assert_frame_equal(thinner, done.join(kept, on="impression_id", how="semi", maintain_order="left"))

    told = ["request", "impression_id", "impression_time", "position"]
    odd = shown.filter(pl.col("request") % 2 == 1)
    turned = odd.select(told).hstack(odd.select(pl.exclude(told)).reverse())
    other = met.users.act(
        START, pl.concat([shown.filter(pl.col("request") % 2 == 0), turned.select(shown.columns)])
    )
    even = shown.filter(pl.col("request") % 2 == 0).select("impression_id")
    same = done.join(even, on="impression_id", how="semi", maintain_order="left")
    assert_frame_equal(other.join(even, on="impression_id", how="semi", maintain_order="left"), same)
    assert not other.equals(done)


def test_nothing_is_worth_more_than_the_best(met: Met) -> None:
    for number, shown in enumerate(met.shown):
        worth = met.users.worth(START + number * DAY, shown)
        assert worth.columns == ["request", "reward", "best"]
        assert worth["request"].to_list() == shown["request"].unique().sort().to_list()
        assert (worth["reward"] <= worth["best"] + 1e-12).all()
        assert worth["reward"].mean() < worth["best"].mean()
        mixed = shown.sample(fraction=1.0, shuffle=True, seed=1)
        assert_frame_equal(met.again().worth(START + number * DAY, mixed), worth)


def test_the_log_and_the_people_agree(met: Met) -> None:
    """Shown what the logging policy showed, people earn as many labels as the log has: within 4 standard errors."""
    logged, acted = (met.labels(actions)["label"] for actions in (met.rows(Actions), met.acted()))
    assert logged.null_count() == acted.null_count()
    both = logged.sum() + acted.sum()
    assert both > 60
    assert logged.sum() - acted.sum() == pytest.approx(0, abs=4 * np.sqrt(both))


def test_worth_is_what_answers_earn_on_average(met: Met) -> None:
    """Labels less worth, by request, has the same mean in every third of worth: what an answer costs.

    Within 4 standard errors; answers that can earn no label are left out.
    """
    worth = [
        met.users.worth(START + day * DAY, rows).with_columns(day=pl.lit(day))
        for day, rows in enumerate(met.shown)
    ]
    places = pl.concat(
        [rows.select("request", "impression_id", day=pl.lit(day)) for day, rows in enumerate(met.shown)]
    )
    earned = places.join(met.labels(met.acted()), on="impression_id").drop_nulls("label")
    earned = earned.group_by("day", "request").agg(pl.col("label").sum())
    rows = pl.concat(worth).join(earned, on=["day", "request"]).sort("reward", "day", "request")
    excess = (rows["label"] - rows["reward"]).to_numpy()
    assert len(excess) > 100
    for part in np.array_split(excess, 3):
        error = np.sqrt(part.var() / len(part) + excess.var() / len(excess))
        assert part.mean() == pytest.approx(excess.mean(), abs=max(4 * error, 1e-9))
