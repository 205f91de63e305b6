"""An experiment from its start to its verdict: real service, log, lake and registry; users who click what they like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import ibis.expr.types as ir
import numpy as np
import pytest
import served_stub
from plant_help import Plant
from served_stub import NOON, Ask, Shop, assemble, materialized, register
from tiny import tiny_tables

from pipelines.case_study import CaseStudy, Label
from pipelines.cli import experiment as cli
from pipelines.errors import UsageError
from pipelines.experiments import running as file
from pipelines.experiments.verdict import Verdict
from pipelines.flows import clock
from pipelines.flows.causes import Journal
from pipelines.flows.edge import Run
from pipelines.flows.live import seed_live
from pipelines.flows.overview import experiment
from pipelines.flows.trial import look, on_trial, overtake, review, start, stop, tend
from pipelines.flows.work import resolve
from pipelines.settings import Bound, Canary, CaseConfig, Measure, Project, Triggers
from pipelines.steps.decide import OUTCOME, Decision, Reason
from pipelines.steps.ingest import ingest_log
from pipelines.steps.outcome import Outcome
from pipelines.steps.promote import ROLLED_BACK, retire, rollback
from pipelines.steps.signals import Signals
from pipelines.stores.lake import Lake
from pipelines.stores.registry import CHALLENGER, Registry, Version
from pipelines.stores.workspace import Workspace

DAY = timedelta(days=1)
CANARY = Canary(
    shares=(0.1, 0.5), stage_days=1, minimum_days=3, maximum_days=6, planned_units=400, minimum_units=50
)
LIKED = {0: 0.1, 1: 0.3, 2: 0.3, 3: 0.6, 4: 0.05}
"""How often what a model of a turn shows first is clicked."""


def clicked(tables: Mapping[str, ir.Table], as_of: datetime) -> ir.Table:
    """Fold to a row an impression: was it clicked?"""
    shown, done = tables["impressions"], tables["actions"]
    clicks = done.filter(done["action"] == "click").select("impression_id", done=done["action_id"])
    rows = shown.left_join(clicks, "impression_id")
    return rows.select(
        "impression_id", "request_id", time="impression_time", label=rows["done"].notnull().cast("int64")
    )


@dataclass(frozen=True)
class ShopRun(Run):
    """The small system bound as a flow binds a case, to a registry of its own."""

    store: Registry | None = None
    settings: CaseConfig = CaseConfig()  # noqa: RUF009  # frozen

    @property
    def registry(self) -> Any:
        return self.store

    @property
    def config(self) -> CaseConfig:  # type: ignore[override]
        return self.settings


@dataclass
class Town:
    """The shop, its run, and people who come once a day."""

    shop: Shop
    run: ShopRun
    rng: np.random.Generator
    day: int = 0

    @property
    def now(self) -> datetime:
        return NOON + self.day * DAY

    def version(self, turn: int) -> Version:
        return register(self.shop.registry, self.shop.ws.root / f"trained-{turn}", turn)

    def challenge(self, turn: int) -> Version:
        """Let turn 1 be the champion, and another challenge it."""
        self.shop.publish(1)
        challenger = self.version(turn)
        self.shop.registry.set_alias(CHALLENGER, challenger)
        start(self.run, self.now)
        self.shop.service.refresh()
        return challenger

    def live(self, people: int = 400) -> Verdict | None:
        """Let a day pass: they ask and click, the log is ingested, the experiment reviewed."""
        self.shop.now = self.now + timedelta(hours=1)
        service = self.shop.service
        decisions = service.decide([Ask(user_id=f"u{number}") for number in range(people)])
        acts = []
        for each in decisions:
            first = int(str(each.places[0].item["video_id"])[1:])
            if self.rng.random() < LIKED[first]:
                acts.append({"action_id": each.request_id, "token": each.places[0].token, "action": "click"})
        assert not service.collect(acts).refused
        self.day += 1
        self.shop.now = self.now
        ingest_log(service.case, self.shop.ws, self.shop.log, as_of=self.now)
        service.refresh()
        verdict = review(self.run, self.now)
        service.refresh()
        return verdict

    def end(self) -> Verdict:
        """Live until there is a verdict."""
        for _ in range(CANARY.maximum_days + 1):
            verdict = self.live()
            if verdict is not None and verdict.decision != "continue":
                return verdict
        raise AssertionError("no verdict")

    def aliases(self) -> dict[str, str]:
        return self.shop.registry.aliases()

    def answering(self) -> set[str | None]:
        decisions = self.shop.service.decide([Ask(user_id=f"u{number}") for number in range(20)])
        return {each.model_version for each in decisions}


@pytest.fixture(scope="session")
def store(empty_store: Path) -> Registry:
    """Open MLflow's store once: it takes a third of a second."""
    opened = Registry(f"sqlite:///{empty_store}", str(empty_store.parent / "artifacts"), "store")
    assert opened.aliases() == {}
    return opened


@pytest.fixture
def town(tmp_path: Path, store: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    made = replace(
        served_stub.CASE,
        framing=replace(served_stub.CASE.framing, attribution=timedelta(hours=2)),
        label=Label(("impression_id",), "time", ("impressions", "actions"), clicked),
    )
    monkeypatch.setattr(served_stub, "CASE", made)
    ws = Workspace(tmp_path / "live" / served_stub.NAME)
    Lake(ws.lake, made.tables).append("videos", tiny_tables(videos=served_stub.VIDEOS)["videos"])
    materialized(ws, NOON)
    registry = Registry(store.tracking_uri, store.artifact_root, f"shop-{uuid4().hex}")
    registry.__dict__["client"] = store.client
    shop = assemble(ws, registry)
    yield Town(shop, bound(made, ws, registry, tmp_path), np.random.default_rng(7))
    shop.service.close()


def bound(case: CaseStudy, ws: Workspace, registry: Registry, root: Path, **more: Any) -> ShopRun:
    (root / "configs").mkdir(exist_ok=True)
    (root / "configs" / "embedded.yaml").touch()
    config = CaseConfig(promotion="canary", experiment=CANARY.model_copy(update=more))
    return ShopRun(Project(root), case, ws, NOON, store=registry, settings=config)


def test_a_better_challenger_is_promoted_and_the_service_takes_it_up(town: Town) -> None:
    challenger = town.challenge(3)
    verdict = town.end()
    assert verdict.decision == "promote", verdict.reasons
    assert verdict.effect.low > 0 and "certainly better" in verdict.reasons[0]
    assert town.aliases() == {"champion": challenger.number, "previous": "1"}
    assert town.answering() == {challenger.number}
    assert "it won its experiment" in town.shop.registry.version(challenger.number).tags["why"]
    ended = file.read(town.shop.ws)
    assert ended is not None and ended.ended == town.now and ended.verdict is not None
    assert ended.verdict["decision"] == "promote"
    assert json.loads(json.dumps(ended.verdict, allow_nan=False))["effect"]["low"] > 0
    assert review(town.run, town.now) is None


def test_the_stages_open_one_after_the_other_as_reviews_allow(town: Town) -> None:
    town.challenge(2)
    shares = []
    for _ in range(3):
        running = file.read_open(town.shop.ws)
        assert running is not None
        shares.append(running.share)
        town.live()
    assert shares == [0.0, 0.1, 0.5]
    requests = Lake(town.shop.ws.lake, town.run.case.tables).scan("requests").collect()
    taking = [
        requests.filter(requests["request_time"].dt.date() == (NOON + n * DAY).date())["arm"]
        for n in range(3)
    ]
    parts = [1 - arms.null_count() / len(arms) for arms in taking]
    assert parts[0] == 0 and 0.1 < parts[1] < 0.3 and parts[2] == 1


def test_nobody_meets_a_challenger_not_asked_in_the_shadow_and_no_stage_is_passed_over(town: Town) -> None:
    town.challenge(2)
    shares = []
    for asked, late in ((False, 0), (True, 0), (True, 600), (True, 86400)):
        if asked:
            town.answering()
            town.shop.service.refresh()
        review(town.run, NOON + 3 * DAY + timedelta(seconds=late))
        running = file.read_open(town.shop.ws)
        assert running is not None
        shares.append(running.share)
    assert shares == [0.0, 0.1, 0.1, 0.5], "reviews that were late and come at once are one day's"


def test_days_on_which_nobody_looked_are_none_of_those_it_must_be_tried_for(town: Town) -> None:
    town.challenge(3)
    town.live()
    town.day += CANARY.minimum_days
    verdict = town.live()
    assert verdict is not None and verdict.decision == "continue", verdict.reasons
    running = file.read_open(town.shop.ws)
    assert running is not None and running.day == 2


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_challenger_that_somebody_deleted_ends_its_experiment(town: Town, all_of_them: bool) -> None:
    challenger = town.challenge(2)
    client = town.shop.registry.client
    if all_of_them:
        client.delete_registered_model(town.shop.registry.name)
    else:
        client.delete_model_version(town.shop.registry.name, challenger.number)
    if all_of_them:
        assert stop(town.run, "gone", town.now).ended == town.now
    else:
        verdict = review(town.run, town.now + DAY)
        assert verdict is not None and verdict.decision == "stop"
        assert verdict.reasons == (f"version {challenger.number} is gone from the registry",)
        assert town.aliases() == {"champion": "1"}
    assert file.read_open(town.shop.ws) is None


def test_an_equal_challenger_is_stopped_when_the_days_are_over(town: Town) -> None:
    challenger = town.challenge(2)
    verdict = town.end()
    assert (verdict.decision, town.day) == ("stop", CANARY.maximum_days)
    assert "not clearly better" in verdict.reasons[0] and "control stays" in verdict.reasons[-1]
    assert town.aliases() == {"champion": "1"} and town.answering() == {"1"}
    tags = town.shop.registry.version(challenger.number).tags
    assert tags["decision"] == "dismissed" and ROLLED_BACK not in tags


def test_a_worse_challenger_is_rolled_back_before_the_minimum_of_days(town: Town) -> None:
    challenger = town.challenge(4)
    town.live()
    running = file.read_open(town.shop.ws)
    assert running is not None
    file.write(town.shop.ws, running.model_copy(update={"day": 2}))  # straight to half of the units
    town.shop.service.refresh()
    verdict = town.end()
    assert verdict.decision == "roll_back" and "certainly worse" in verdict.reasons[0]
    assert town.day <= CANARY.minimum_days
    assert town.aliases() == {"champion": "1"}
    assert "certainly worse" in town.shop.registry.version(challenger.number).tags[ROLLED_BACK]


def test_a_broken_challenger_is_rolled_back_at_once_and_nobody_saw_it(town: Town) -> None:
    challenger = town.challenge(-1)
    verdict = town.live()
    assert verdict is not None and verdict.decision == "roll_back"
    assert verdict.reasons == ("it failed to answer 400 of 400 requests",)
    assert town.aliases() == {"champion": "1"}
    assert ROLLED_BACK in town.shop.registry.version(challenger.number).tags
    assert town.shop.service.state.trial is None


def test_a_broken_guardrail_rolls_back_however_good_the_metric(town: Town) -> None:
    held = Bound(name="clicks_per_request", numerator="click", lower_is_better=True, tolerance=0.05)
    town.run = replace(
        town.run, settings=CaseConfig(experiment=CANARY.model_copy(update={"guardrails": (held,)}))
    )
    town.challenge(3)
    verdict = town.end()
    assert verdict.decision == "roll_back"
    assert verdict.reasons[0].startswith("guardrail clicks_per_request: +0.")
    assert town.aliases() == {"champion": "1"}


def test_what_was_killed_after_the_alias_had_moved_is_finished_by_the_next_review(town: Town) -> None:
    challenger = town.challenge(2)
    town.shop.registry.crown(challenger)
    verdict = review(town.run, town.now + DAY)
    assert verdict is not None and verdict.decision == "promote"
    assert file.read_open(town.shop.ws) is None
    assert town.aliases() == {"champion": challenger.number, "previous": "1"}


def test_another_champion_ends_the_experiment(town: Town) -> None:
    town.challenge(2)
    town.shop.publish(4)
    verdict = town.live()
    assert verdict is not None and verdict.decision == "stop" and "cannot be compared" in verdict.reasons[0]
    assert CHALLENGER not in town.aliases()


def test_a_newer_challenger_waits_and_keeps_its_alias(town: Town) -> None:
    town.challenge(-1)
    newer = town.version(3)
    town.shop.registry.set_alias(CHALLENGER, newer)
    verdict = town.live()
    assert verdict is not None and verdict.decision == "roll_back"
    assert town.aliases()[CHALLENGER] == newer.number
    assert tend(town.run, town.now) is None
    running = file.read_open(town.shop.ws)
    assert running is not None and running.challenger.number == newer.number, "it is the next to be tried"


def test_a_challenger_older_than_the_champion_is_not_tried(town: Town) -> None:
    """It waited while an operator retired the champion, and a newer version was promoted for want of one."""
    town.shop.publish(1)
    older = town.version(2)
    town.shop.registry.set_alias(CHALLENGER, older)
    retire(town.shop.registry)
    newer = town.shop.publish(3)
    assert town.aliases() == {"champion": newer.number}
    tags = town.shop.registry.version(older.number).tags
    assert tags["decision"] == "dismissed" and f"version {newer.number}, which is newer" in tags["why"]
    assert tend(town.run, town.now) is None and file.read(town.shop.ws) is None


def test_a_rollback_leaves_a_newer_challenger_its_turn(town: Town) -> None:
    first, _ = town.shop.publish(1), town.shop.publish(2)
    waits = town.version(3)
    town.shop.registry.set_alias(CHALLENGER, waits)
    rollback(town.shop.registry)
    assert town.aliases()["champion"] == first.number and town.aliases()[CHALLENGER] == waits.number


def test_a_review_that_comes_a_little_early_loses_no_day(town: Town) -> None:
    """A daily flow never starts to the second: each of these is a day after the start, but for its jitter."""
    town.challenge(2)
    for day, early in enumerate((1, 3000, 2), 1):
        town.answering()
        town.shop.service.refresh()
        review(town.run, NOON + day * DAY - timedelta(seconds=early))
        running = file.read_open(town.shop.ws)
        assert running is not None and running.day == day
    review(town.run, NOON + 3 * DAY + timedelta(hours=12))
    assert file.read_open(town.shop.ws) == running.model_copy(update={"verdict": ANY}), "half a day is none"


def test_an_experiment_that_nobody_reviews_holds_retrains_no_longer_than_its_days(town: Town) -> None:
    challenger = town.challenge(2)
    town.shop.registry.tag(challenger, {"as_of": (NOON - DAY).isoformat()})
    last = NOON + CANARY.maximum_days * DAY
    held = f"version {challenger.number} is on trial since {NOON:%Y-%m-%d}"
    for at in (NOON, last, last + timedelta(hours=12)):  # its review may come yet
        assert (found := on_trial(town.run, at)) is not None and found.words == held
        assert (found.learned, found.early) == (NOON - DAY - town.run.case.told_after, True)
    assert on_trial(town.run, last + DAY) is None
    assert file.read_open(town.shop.ws) is not None


def test_an_experiment_that_the_world_has_overtaken_ends(town: Town) -> None:
    challenger = town.challenge(2)
    town.live()
    waiting = town.version(3)
    town.shop.registry.set_alias(CHALLENGER, waiting)
    town.shop.registry.tag(waiting, {"as_of": NOON.isoformat()})
    fell = Decision("retrain", (Reason(OUTCOME, "clicks have fallen", NOON + DAY / 2),))
    overtake(town.run, fell, town.now)
    assert file.read_open(town.shop.ws) is None and CHALLENGER not in town.aliases()
    kept = town.shop.registry.version(challenger.number).tags
    assert kept["decision"] == "dismissed" and "overtaken: clicks have fallen" in kept["why"]
    assert ROLLED_BACK not in kept, "it may be as good as any where the old world comes back"
    assert town.shop.registry.version(waiting.number).tags["decision"] == "dismissed", (
        "it knows no more of it"
    )
    town.shop.registry.set_alias(CHALLENGER, waiting)
    town.shop.registry.tag(waiting, {"as_of": (NOON + 2 * DAY).isoformat()})
    overtake(town.run, fell, town.now)
    assert town.aliases()[CHALLENGER] == waiting.number


def test_a_watch_that_finds_a_fall_ends_the_experiment_and_asks(town: Town) -> None:
    challenger = town.challenge(2)
    town.shop.registry.tag(challenger, {"as_of": (NOON - DAY).isoformat()})
    clock.write(town.shop.ws, clock.simulated(NOON + 2 * DAY))
    run = replace(town.run, settings=CaseConfig(triggers=Triggers(new_labels=None, outcome_drop=0.1)))
    fell = Outcome("clicks", NOON + 2 * DAY, 2.0, 0.1, 14, (1.0,))
    decision, cause = resolve(run, Signals((), 0, None, outcome=fell, trial=on_trial(run, NOON + 2 * DAY)))
    assert decision.action == "retrain" and cause is not None and cause.words == decision.cause
    assert file.read_open(town.shop.ws) is None
    assert cause.words in town.shop.registry.version(challenger.number).tags["why"]


@pytest.mark.parametrize(
    ("days", "learned", "replaced"), [(0, 1, True), (1, 1, True), (3, 1, False), (0, 0.9, False)]
)
def test_what_follows_up_a_fall_takes_the_place_of_a_challenger_that_few_have_met(
    town: Town, days: int, learned: float, replaced: bool
) -> None:
    """A follow-up is due a day after the fall: what has learned by then, whoever asked for it, knows more of it."""
    run = replace(town.run, settings=CaseConfig(triggers=Triggers(new_labels=None, follow_ups=2)))
    found = NOON.replace(hour=0)
    Journal(town.shop.ws).note(Decision("retrain", (Reason(OUTCOME, "clicks fell"),)), found)
    first = town.challenge(2)
    town.shop.registry.tag(first, {"as_of": found.isoformat()})
    for _ in range(days):
        town.live()
    newer = town.version(3)
    town.shop.registry.set_alias(CHALLENGER, newer)
    town.shop.registry.tag(newer, {"as_of": (found + learned * DAY).isoformat()})
    tend(run, town.now)
    running = file.read_open(town.shop.ws)
    assert running is not None and running.challenger.number == (newer if replaced else first).number
    assert town.aliases()[CHALLENGER] == newer.number, "else it waits for its turn"
    if replaced:
        assert "newer rows" in town.shop.registry.version(first.number).tags["why"]
        assert running.started == town.now and running.day == 0


def test_what_can_be_judged_no_more_says_why_and_can_be_stopped(town: Town) -> None:
    """The word that its metric counts was renamed in the case meanwhile."""
    counted = Measure(name="clicks", numerator="click")
    town.run = bound(town.run.case, town.shop.ws, town.shop.registry, town.run.project.root, metric=counted)
    challenger = town.challenge(2)
    town.live()
    serving = town.run.case.serving
    assert serving is not None
    renamed = replace(town.run.case, serving=replace(serving, actions=("tap", "watch", "like")))
    run = replace(town.run, case=renamed)
    path = file.path(town.shop.ws)
    with pytest.raises(
        UsageError, match=rf"^{path} .*stop shop` ends it.* 'click', which shop does not know"
    ):
        review(run, town.now)
    ended = stop(run, "renamed", town.now)
    assert ended.ended == town.now and town.aliases() == {"champion": "1"}
    assert ended.verdict is not None and ended.verdict["decision"] == "stop"
    assert ended.verdict["reasons"] == ["renamed", "it could not be judged (UsageError)"]
    assert file.read_open(town.shop.ws) is None
    why = town.shop.registry.version(challenger.number).tags["why"]
    assert why == "its experiment ended without it: renamed; it could not be judged (UsageError)"


def test_looking_changes_nothing_and_stopping_leaves_the_champion(town: Town) -> None:
    challenger = town.challenge(3)
    town.live()
    running = file.read_open(town.shop.ws)
    assert running is not None
    assert look(town.run, running, town.now).decision == "continue"
    assert file.read_open(town.shop.ws) == running
    since = running.started.isoformat()
    assert experiment(town.shop.ws) == {"version": challenger.number, "since": since, "stage": running.stage}
    ended = stop(town.run, "second thoughts", town.now)
    assert ended.ended == town.now and ended.stage == "ended" and experiment(town.shop.ws) is None
    town.shop.service.refresh()
    assert town.answering() == {"1"} and town.aliases() == {"champion": "1"}
    assert "second thoughts" in town.shop.registry.version(challenger.number).tags["why"]
    with pytest.raises(UsageError, match="no experiment of shop runs"):
        stop(town.run)


def test_a_person_starts_it_sees_how_it_stands_and_stops_it(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_bound", lambda case: town.run)
    clock.write(town.shop.ws, clock.simulated(NOON))
    with pytest.raises(UsageError, match="has had no experiment yet"):
        cli.status("shop")
    town.shop.publish(1)
    town.shop.registry.set_alias(CHALLENGER, town.version(3))
    cli.start("shop")
    town.shop.service.refresh()
    assert "version 2 against version 1: shadow" in capsys.readouterr().err
    for _ in range(3):
        town.live()
    clock.write(town.shop.ws, clock.simulated(town.now))
    cli.status("shop")
    told = capsys.readouterr().err
    assert "failed 0; in the shadow the same first place as the champion in 0%" in told
    assert "in treatment (so uneven by chance" in told
    cli.status("shop", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["share"], found["day"]) == ("canary, 50% of the units", 0.5, 3)
    assert found["verdict"]["decision"] == "continue" and found["verdict"]["at"] == town.now.isoformat()
    assert found["verdict"]["effect"].keys() == {"value", "low", "high"}
    cli.stop("shop", "enough")
    cli.status("shop")
    assert "stop: enough" in capsys.readouterr().err


def test_what_could_not_be_decided_is_not_begun(town: Town) -> None:
    with pytest.raises(UsageError, match="has no challenger"):
        start(town.run, NOON)
    assert tend(town.run, NOON) is None
    challenger = town.version(3)
    town.shop.registry.set_alias(CHALLENGER, challenger)
    with pytest.raises(UsageError, match="has no champion"):
        start(town.run, NOON)
    town.shop.publish(1)
    town.shop.registry.set_alias(CHALLENGER, town.version(4))
    for wrong, told in (
        ({"metric": Measure(name="x", numerator="clik")}, "did you mean 'click'"),
        ({"minimum_days": 1}, "minimum_days must lie after"),
        ({"outcome": timedelta(days=5)}, "the first outcome is known .* and maximum_days is 6"),
    ):
        with pytest.raises(UsageError, match=told):
            start(
                bound(town.run.case, town.shop.ws, town.shop.registry, town.run.project.root, **wrong), NOON
            )
    assert file.read(town.shop.ws) is None
    start(town.run, NOON)
    with pytest.raises(UsageError, match="is on trial since"):
        start(town.run, NOON)


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_of_a_system_without_an_experiment_finds_nothing_to_do(built: Plant) -> None:
    from pipelines.flows.experiment import experiment

    seed_live(built.project, "breakdown")
    assert experiment("breakdown") == {"decision": None}
