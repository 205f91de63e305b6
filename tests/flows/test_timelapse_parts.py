"""The parts of a time-lapse, each by itself: its plan, its mail bag, its record, its measures."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import catalog
from pipelines.errors import UsageError
from pipelines.flows.timelapse.chart import draw
from pipelines.flows.timelapse.day import Mail, Served
from pipelines.flows.timelapse.judgement import UNWATCHED
from pipelines.flows.timelapse.measures import Course, describe_arm, gap_closure, gap_closure_by_day, regret
from pipelines.flows.timelapse.plan import laid_over, make_plan, midnight, open_stage, scenario_name
from pipelines.flows.timelapse.policies import CONTROLS, FRESH, LEAD, POLICIES, TRIGGERED, find_policy
from pipelines.flows.timelapse.record import Lived, Record, Retrained
from pipelines.flows.timelapse.result import COLUMNS, story, summarise, table_rows, write_outcome
from pipelines.flows.timelapse.run import _settled, own_plan
from pipelines.settings import CaseParams, Project
from pipelines.steps.decide import AGE, DRIFT, FOLLOW_UP, LABELS

CASE, START = "ad_click", datetime(2026, 3, 1, tzinfo=UTC)
PROJECT = Project(Path(__file__).parents[2])


def lived(
    day: int, reward: float, *, cause: str | None = None, kind: str = DRIFT, held: bool = False
) -> Lived:
    judged = replace(
        UNWATCHED,
        drift="alarm" if cause else "none",
        alarms=(cause,) if cause else (),
        kinds=(kind,) if cause else (),
        cause=cause,
        decided="hold: sent.bid is broken" if held else "",
        held=held,
    )
    retrained = Retrained(cause, "2", "promoted", "it is better", 3.0) if cause else None
    served = Served(100, 100 * reward, 1000.0, 40, {"champion": 100}, {"1": 100})
    return Lived(
        day, f"{START + timedelta(days=day):%F}", "1", served, judged, retrained, None, {"serve": 1.0}
    )


def course(seed: int, served: float, frozen: float, fresh: float, shift: int | None = 3) -> Course:
    level = {"triggered": served, "frozen": frozen, "fresh": fresh}
    arms = {
        name: [lived(day, 5.0 if day < 3 else value) for day in range(20)] for name, value in level.items()
    }
    return Course(seed, shift, 5, arms)


def test_a_plan_puts_the_scenario_in_its_day_and_changes_nothing_else() -> None:
    plan, plain = (make_plan(PROJECT, CASE, name, 3) for name in ("concept-shift", "none"))
    tried = make_plan(PROJECT, CASE, "none", 3, "canary")
    assert (plan.name, tried.name) == ("concept-3", "none-3-canary")
    assert tried.config == {**plain.config, "promotion": "canary"}
    changes = PROJECT.case_config(CASE).timelapse
    params = CaseParams.model_validate(plan.params)
    begins = params.past_days + changes.lead_days + changes.shift_day
    assert plan.params["world"]["scenario"] == {"name": "concept", "day": begins}
    assert plan.params["seed"] == 3
    assert midnight(plan, 0) == params.as_of + timedelta(days=changes.lead_days)
    same = {**plan.params, "world": {**plan.params["world"], "scenario": plain.params["world"]["scenario"]}}
    assert same == plain.params
    assert "timelapse" not in plan.config


def test_a_scenario_is_named_as_people_write_it() -> None:
    assert [scenario_name(each) for each in ("concept-shift", "covariate-shift", "broken-units")] == [
        "concept",
        "covariate",
        "broken_units",
    ]
    with pytest.raises(UsageError, match="concept"):
        scenario_name("concpt")


def test_a_folder_keeps_to_its_plan(tmp_path: Path) -> None:
    plan = make_plan(PROJECT, CASE, "none", 1)
    stage = open_stage(PROJECT, plan, tmp_path / "arm")
    assert stage.case_params(CASE).model_dump() == CaseParams.model_validate(plan.params).model_dump()
    assert stage.case_config(CASE).alarms.report is False
    assert str(tmp_path / "arm") in stage.tracking_uri
    open_stage(PROJECT, plan, tmp_path / "arm")
    with pytest.raises(UsageError, match="other params") as refused:
        open_stage(PROJECT, replace(plan, seed=2), tmp_path / "arm")
    # Its past and the days before the scenario hold the old plan too: the whole case's has to go.
    assert str(refused.value).endswith(f"remove {PROJECT.root / 'timelapse' / CASE}")


def test_what_no_time_lapse_can_be_of_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown case 'ad_clik': did you mean 'ad_click'"):
        make_plan(PROJECT, "ad_clik", "none", 7)
    unserved = replace(catalog.case(CASE), serving=None)
    monkeypatch.setattr(catalog, "case", lambda name: unserved)
    with pytest.raises(UsageError, match="give its CASE a `serving`"):
        make_plan(PROJECT, CASE, "none", 7)


def test_the_registry_of_a_stage_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    stage = open_stage(PROJECT, make_plan(PROJECT, CASE, "none", 1), tmp_path / "arm")
    assert "elsewhere" not in stage.tracking_uri


def test_laying_over_goes_key_by_key() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert laid_over(base, {"a": {"c": {"f": 3}}, "e": [2]}) == {
        "a": {"b": 1, "c": {"d": 2, "f": 3}},
        "e": [2],
    }
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.lists(st.integers(0, 3000), max_size=6))
def test_every_action_is_sent_once_and_never_early(minutes: list[int], looks: list[int]) -> None:
    mail = Mail(Path("nowhere.parquet"))
    times = [START + timedelta(minutes=each) for each in minutes]
    kind = pl.Datetime("us", "UTC")
    mail.add(
        pl.DataFrame(
            {"action_id": [str(n) for n in range(len(times))], "action_time": times},
            schema_overrides={"action_time": kind},
        )
    )
    sent: list[str] = []
    for look in [*sorted(looks), 5000]:
        moment = START + timedelta(minutes=look)
        for each in mail.due(moment):
            assert each["action_time"] <= moment
            sent.append(each["action_id"])
    assert sorted(sent) == sorted(str(n) for n in range(len(times)))


def test_mail_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "mail.parquet"
    mail = Mail(path)
    mail.add(pl.DataFrame({"action_id": ["a", "b"], "action_time": [START, START + timedelta(days=1)]}))
    assert [each["action_id"] for each in mail.due(START)] == ["a"]
    mail.save()
    assert [each["action_id"] for each in Mail(path).due(START + timedelta(days=2))] == ["b"]


def test_the_record_gives_back_what_was_lived(tmp_path: Path) -> None:
    record, days = Record(tmp_path), [lived(0, 5.0), lived(1, 4.0, cause="drift")]
    assert record.days() == []
    record.begin()
    assert record.broken
    record.end(days)
    assert not record.broken
    assert record.days() == days


def test_only_what_a_reference_brings_is_not_fitted_once_more(tmp_path: Path) -> None:
    """Its arm's own rows are those that it is to be free of."""
    plan = make_plan(PROJECT, CASE, "none", 5)
    assert plan.params["window"]["refit"], "else there is nothing to leave out"
    for policy in POLICIES.values():
        own = own_plan(plan, policy)
        assert own.params["window"]["refit"] is (policy is not FRESH)
        assert replace(own, params=plan.params) == plan


def test_controls_ask_when_they_should() -> None:
    asked = {
        name: [day for day in range(-2, 30) if POLICIES[name].asks(day, 15, 17)] for name in POLICIES if name
    }
    assert asked["triggered"] == asked["frozen"] == []
    assert asked["daily"] == list(range(-2, 30))
    assert asked["weekly"] == [-1, 6, 13, 20, 27]
    assert asked["informed"] == [16]
    followed = [day for day in range(-2, 40) if POLICIES["informed"].asks(day, 15, 17, [1, 2, 4, 8])]
    assert followed == [16, 17, 18, 20, 24]
    assert asked["fresh"] == [15, 18, 21, 24, 27]
    assert [day for day in range(-5, 5) if LEAD.asks(day, 15, 17)] == [-1]
    assert TRIGGERED not in CONTROLS and FRESH not in CONTROLS
    with pytest.raises(UsageError, match="weekly"):
        find_policy("weekli")


def test_the_gap_is_closed_by_as_much_as_was_gained() -> None:
    found = gap_closure([course(1, 4.0, 3.0, 5.0), course(2, 4.5, 3.0, 5.0)])
    assert found["value"] == pytest.approx((1.0 + 1.5) / 4.0)
    assert found["low"] is not None and found["high"] is not None
    assert 0.5 <= found["low"] <= found["value"] <= found["high"] <= 0.75
    by_day = gap_closure_by_day([course(1, 4.0, 3.0, 5.0)])
    assert by_day[:3] == [None] * 3  # nothing to close before the shift
    assert by_day[3:] == pytest.approx([0.5] * 17)


def test_where_nothing_can_be_gained_nothing_is_claimed() -> None:
    nothing = {"value": None, "low": None, "high": None}
    assert gap_closure([course(1, 4.0, 4.0, 4.07)]) == nothing
    assert gap_closure([course(1, 4.0, 4.0, 4.09)])["value"] == pytest.approx(0.0)
    unmeasured = course(1, 4.0, 3.0, 5.0)
    without = Course(1, 3, 5, {name: days for name, days in unmeasured.arms.items() if name != "fresh"})
    assert gap_closure([without]) == nothing and gap_closure_by_day([without]) == []


def test_a_reference_worse_than_what_did_harm_closes_nothing() -> None:
    nothing = {"value": None, "low": None, "high": None}
    assert gap_closure([course(1, -4.0, -4.0, -4.01)]) == nothing
    assert gap_closure([course(1, -4.0, -4.0, -3.99)]) == nothing  # less than a fiftieth of the harm
    assert gap_closure_by_day([course(1, 0.0, 0.0, 0.0)]) == [None] * 20
    assert gap_closure([course(1, -3.0, -4.0, 0.0)])["value"] == pytest.approx(0.25)


def test_one_seed_has_no_interval() -> None:
    assert gap_closure([course(1, 4.0, 3.0, 5.0)]) == {"value": pytest.approx(0.5), "low": None, "high": None}


def test_where_some_seeds_tell_no_gap_no_interval_is_claimed() -> None:
    """Resampled, they stand alone: by a reference worse than what stood still nothing is divided."""
    found = gap_closure([course(1, 3.4, 3.0, 3.5), course(2, 3.05, 3.0, 2.9)])
    assert found == {"value": pytest.approx(0.45 / 0.4), "low": None, "high": None}


def test_success_is_measured_once_a_canary_has_ended() -> None:
    """Its shadow days are among its designed days."""
    plan = make_plan(PROJECT, CASE, "concept", 1)
    direct = replace(plan, config={**plan.config, "promotion": "direct"})
    canary = replace(plan, config={**plan.config, "promotion": "canary"})
    minimum = plan.config["experiment"]["minimum_days"]
    assert _settled(direct) == plan.shift_day + 2 and _settled(canary) == plan.shift_day + 2 + minimum


def test_alarms_before_the_shift_are_false() -> None:
    days = [lived(day, 5.0, cause="drift" if day in (1, 6) else None) for day in range(10)]
    found = describe_arm(days, shift=4)
    assert (found["false_alarms"], found["detection_delay_days"], found["retrains"]) == (1, 3, 2)
    without = describe_arm(days, shift=None)
    assert (without["false_alarms"], without["detection_delay_days"]) == (2, None)
    assert regret(Course(1, 4, 6, {"triggered": days}))["triggered"] == pytest.approx(6 * 100 * 5.0)


@pytest.mark.parametrize(
    ("own", "before", "wrong"),
    [(9.9, 10.0, 0), (9.7, 10.0, 1), (-1.01, -1.0, 0), (-1.1, -1.0, 1), (-0.9, -1.0, 0), (None, None, 0)],
)
def test_a_promotion_is_wrong_that_earns_clearly_less(
    own: float | None, before: float | None, wrong: int
) -> None:
    days = [lived(day, 5.0) for day in range(3)]
    days[1] = replace(days[1], served=replace(days[1].served, own=own, before=before))
    assert describe_arm(days, shift=1)["wrong_promotions"] == wrong
    record = json.loads(json.dumps(asdict(days[1])))
    assert Lived.of(record) == days[1]
    del record["served"]["own"], record["served"]["before"]  # as it was written before they were measured
    assert Lived.of(record).served.own is None


@pytest.mark.parametrize("kind", [FOLLOW_UP, LABELS, AGE])
def test_what_no_fall_asked_for_is_no_alarm(kind: str) -> None:
    days = [lived(day, 5.0, cause="asked" if day in (1, 6) else None, kind=kind) for day in range(10)]
    found = describe_arm(days, shift=4)
    assert (found["false_alarms"], found["detection_delay_days"], found["retrains"]) == (0, None, 2)
    assert {name: times for name, times in found["asked_for"].items() if times} == {kind: 2}


def test_mornings_that_held_training_are_counted_and_told() -> None:
    days = [lived(day, 5.0, held=day in (4, 5)) for day in range(10)]
    assert describe_arm(days, shift=4)["held_days"] == 2
    told = story(Course(1, 4, 6, {"triggered": days}))
    assert told[1].endswith("hold: sent.bid is broken") and len(told) == 3


def test_the_outcome_is_told_in_all_its_forms(tmp_path: Path) -> None:
    told = course(1, 4.0, 3.0, 5.0)
    told.arms["triggered"][6] = lived(6, 4.0, cause="drift since 2026-03-05: <b>x</b>")  # type: ignore[index]
    result = summarise(CASE, "concept", [told], 12.0)
    assert result["gap_closure"]["value"] == pytest.approx(0.5)
    assert result["retrains"] == 1 and result["detection_delay_days"] == 4 and result["false_alarms"] == 0
    assert all(len(row) == len(COLUMNS) for row in table_rows(result))
    report = write_outcome(tmp_path, result, [told])
    text = report.read_text()
    assert "&lt;b&gt;x" in text and "<b>x" not in text  # what is told comes from data
    assert "0.50" in text and "data:image/png" in text
    assert any("retrained, for drift" in line for line in story(told))
    assert story(told)[0].endswith("the scenario begins")


def test_the_chart_is_the_same_for_the_same_days(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw([course(1, 4.0, 3.0, 5.0)], CASE, "concept", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 10_000
