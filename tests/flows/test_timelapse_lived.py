"""A time-lapse, lived: real service, real log, real steps, a small world of ads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml

from pipelines import catalog
from pipelines.flows import clock, work
from pipelines.flows.causes import Journal
from pipelines.flows.edge import bind, perform
from pipelines.flows.live import bind_live
from pipelines.flows.serve import open_service
from pipelines.flows.timelapse.arm import begin_arm, build_past
from pipelines.flows.timelapse.plan import Plan, Stage, laid_over, make_plan, midnight, open_stage
from pipelines.flows.timelapse.policies import POLICIES
from pipelines.flows.timelapse.record import Lived, Record
from pipelines.flows.timelapse.run import live_arm, own_plan, play
from pipelines.flows.visitors import Visited, visit
from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.settings import Project, read_yaml
from pipelines.stores.lake import Lake, contents_digest
from pipelines.stores.models import read_record
from pipelines.stores.workspace import Workspace
from pipelines.world.state import read_clock

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("timelapse")]  # one past for all of them

CASE, HERE = "ad_click", Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "lead_days": 2,
    "shift_day": 2,
    "params": {
        "window": {"train_days": 5, "evaluate_days": 2},
        "warm_days": 0,
        "world": {"users": 250, "ads": 40, "burn_in_days": 2, "exploration": 0.3},
        "train": {"trees": {"rounds": 20}},
    },
    "config": {
        "alarms": {"report": False},
        "answers": {"explore": 0.3},
        "gate": {"minimum_units": 20, "resamples": 100, "heuristic_margin": -1.0, "champion_margin": -1.0},
        "triggers": {"max_age": 2, "cooldown": "P1D", "new_labels": None},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Make a project whose time-lapse is small."""
    root = tmp_path_factory.mktemp("project")
    (root / "configs").mkdir()
    for name in ("embedded.yaml",):
        (root / "configs" / name).write_text((HERE / "configs" / name).read_text())
    (root / "params.yaml").write_text((HERE / "params.yaml").read_text())
    config = laid_over(read_yaml(HERE / "configs" / f"{CASE}.yaml"), {})
    (root / "configs" / f"{CASE}.yaml").write_text(yaml.safe_dump({**config, "timelapse": SMALL}))
    return Project(root)


@pytest.fixture(scope="module")
def past(project: Project) -> Iterator[tuple[Stage, Plan]]:
    plan = make_plan(project, CASE, "none", 5)
    stage = open_stage(project, plan, project.root / "timelapse" / CASE / "past-none-5")
    build_past(stage, plan)
    yield stage, plan


def live(
    project: Project, past: tuple[Stage, Plan], folder: str, days: int, policy: str = "triggered"
) -> list[Lived]:
    """Live some days of an arm in a process of its own, as `play` does."""
    plan = make_plan(project, CASE, "concept", 5)
    stage = open_stage(project, own_plan(plan, POLICIES[policy]), project.root / folder)
    begin_arm(past[0], stage)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(live_arm, stage.root, plan, POLICIES[policy], days).result()
    return Record(stage.root).days()


def told(days: list[Lived]) -> list[dict[str, Any]]:
    """Leave out what differs from run to run: seconds."""
    return [
        asdict(replace(day, seconds={}, retrained=day.retrained and replace(day.retrained, seconds=0.0)))
        for day in days
    ]


def test_stopped_and_continued_is_the_same_life(project: Project, past: tuple[Stage, Plan]) -> None:
    at_once = live(project, past, "at-once", 3)
    assert told(live(project, past, "stopped", 1)) == told(at_once)[:1]
    assert told(live(project, past, "stopped", 3)) == told(at_once)


def test_a_past_that_was_cut_off_is_built_anew(project: Project, past: tuple[Stage, Plan]) -> None:
    stage = open_stage(project, past[1], project.root / "cut-past")
    perform(bind(stage, CASE), "ingest")  # and no further: its world stands at the end of the past by now
    build_past(stage, past[1])
    worlds = [(each.root / "runs" / CASE / "world") for each in (stage, past[0])]
    assert read_clock(worlds[0]) == read_clock(worlds[1])
    assert Record(stage.root).days()[-1].retrained is not None


def test_a_day_that_was_cut_off_begins_the_arm_anew(project: Project, past: tuple[Stage, Plan]) -> None:
    once = live(project, past, "cut", 1)
    Record(project.root / "cut").begin()  # as a kill in the middle of a day leaves it
    assert told(live(project, past, "cut", 1)) == told(once)


def test_who_is_told_of_the_change_learns_as_the_system_does(
    project: Project, past: tuple[Stage, Plan]
) -> None:
    """On the first morning that knows labels of it, and knowing when it came."""
    days = live(project, past, "informed", 4, "informed")
    own, before = days[-1].served.own, days[-1].served.before
    assert own is not None and before is not None, "on its first day a champion is held to the one before"
    assert 0 < own < days[-1].served.best and 0 < before < days[-1].served.best and own != before
    assert all(each.served.own is None for each in days[:-1])
    shift = SMALL["shift_day"]
    assert [each.day for each in days if each.retrained is not None] == [shift, shift + 1]
    journal = Journal(Workspace(project.root / "informed" / "live" / CASE))
    assert journal.falls() == [midnight(past[1], SMALL["shift_day"])]


def test_the_reference_learns_from_a_world_of_its_own(project: Project, past: tuple[Stage, Plan]) -> None:
    days = live(project, past, "fresh", 3, "fresh")
    retrained = days[-1].retrained
    assert retrained is not None and retrained.decision == "promoted"
    record = read_record(project.root / "fresh" / "live" / CASE / "model")
    assert record["window"]["end"] == record["as_of"], "it holds nothing back to be judged on"
    own = Lake(project.root / "fresh" / "live" / CASE / "lake", catalog.case(CASE).tables)
    end = datetime.fromisoformat(record["as_of"])
    assert record["data"] != contents_digest(own.contents(None, end, arrived_before=end))


ALONE = """
from multiprocessing import get_context
from pathlib import Path
from pipelines.flows.timelapse.plan import make_plan
from pipelines.flows.timelapse.policies import POLICIES
from pipelines.flows.timelapse.run import live_arm
from pipelines.settings import Project
if __name__ == "__main__":
    plan = make_plan(Project(Path({root!r})), {case!r}, "concept", 5)
    arm = get_context("spawn").Process(target=live_arm, args=(Path({arm!r}), plan, POLICIES["frozen"], 60))
    arm.start()
    print(arm.pid, flush=True)
    arm.join()
"""


def test_an_arm_ends_with_who_asked_for_it(project: Project, past: tuple[Stage, Plan]) -> None:
    """Left alone it would live on, and whoever continues the time-lapse would live the same days beside it."""
    stage = open_stage(project, make_plan(project, CASE, "concept", 5), project.root / "orphan")
    begin_arm(past[0], stage)
    script = project.root / "alone.py"
    script.write_text(ALONE.format(root=str(project.root), case=CASE, arm=str(stage.root)))
    asking = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    arm = int(asking.stdout.readline())
    _wait(lambda: len(Record(stage.root).days()) > 0)
    asking.kill()
    asking.wait()
    _wait(lambda: not Path(f"/proc/{arm}").exists())
    assert not Record(stage.root).broken and len(Record(stage.root).days()) < 60


def _wait(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_the_loop_closes(project: Project, past: tuple[Stage, Plan]) -> None:
    days = live(project, past, "at-once", 3)
    assert [day.day for day in days] == [0, 1, 2]
    assert all(set(day.served.by) == {"champion"} for day in days), "the gate let the first model pass"
    assert all(0 < day.served.reward <= day.served.best for day in days)
    assert {day.judgement.parity for day in days} == {0}
    learned = [day.retrained for day in days if day.retrained]
    assert any("days old" in each.cause for each in learned), "the age of the model asks for it"
    workspace = Workspace(project.root / "at-once" / "live" / CASE)
    table = Lake(workspace.lake, catalog.case(CASE).tables).scan("actions", arrived_before=None)
    arrived = table.filter(pl.col("arrived_at") > midnight(make_plan(project, CASE, "none", 5), 0)).collect()
    # All that was acknowledged is in the lake, once; what arrived on the last midnight is still in the log.
    collected = sum(day.served.actions for day in days)
    assert arrived["action_id"].n_unique() == arrived.height
    assert 0 <= collected - arrived.height <= 0.1 * collected


def test_arms_live_side_by_side(project: Project, past: tuple[Stage, Plan]) -> None:
    heard: dict[str, int] = {}
    arms = [POLICIES["triggered"], POLICIES["frozen"]]
    course = play(project, CASE, "concept-shift", 5, 3, arms, lambda name, day: heard.update({name: day}))
    assert {name: len(days) for name, days in course.arms.items()} == {"triggered": 3, "frozen": 3}
    assert heard["triggered"] == heard["frozen"] == 3
    frozen = course.arms["frozen"]
    assert all(day.retrained is None for day in frozen)
    triggered = course.arms["triggered"]
    first = next(day.day for day in triggered if day.retrained)
    same = [(a.served, b.served) for a, b in zip(triggered, frozen, strict=True) if a.day <= first]
    assert all(a == b for a, b in same), "until something is learned both live the same days"
    assert (course.shift, course.settled) == (2, 4)
    # The days before the shift were lived once, for every scenario, and copied: it is the same life.
    assert len(Record(project.root / "timelapse" / CASE / "before-none-5" / "triggered").days()) == 2
    assert told(list(triggered)) == told(live(project, past, "at-once", 3))


def test_the_reference_shares_the_days_before_the_shift(project: Project, past: tuple[Stage, Plan]) -> None:
    """It learns from nothing before the shift, and lives until then as the model that is never retrained."""
    course = play(project, CASE, "concept-shift", 5, 3, [POLICIES["fresh"]], lambda name, day: None)
    alone = live(project, past, "fresh", 3, "fresh")
    assert told(list(course.arms["fresh"])) == told(alone)
    assert not (project.root / "timelapse" / CASE / "before-none-5" / "fresh").exists()


def test_users_come_over_http_too(project: Project, past: tuple[Stage, Plan]) -> None:
    plan = make_plan(project, CASE, "none", 5)
    stage = open_stage(project, plan, project.root / "over-http")
    begin_arm(past[0], stage)
    service = open_service(stage, CASE, seed=1)
    run, heard = bind_live(stage, CASE), []

    async def go() -> Visited:
        transport = httpx.ASGITransport(make_app({CASE: service}, Keys.parse("")))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            await visit(run, client, 500.0, 150, lambda done: heard.append(done.requests))
            return await visit(run, client, 500.0, 150, lambda done: heard.append(done.requests))

    before = clock.read(run.workspace).now()
    try:
        done = asyncio.run(go())
    finally:
        service.close()
    assert (done.requests, done.refused) == (150, 0) and done.actions > 0
    assert heard[-1] == 150 and max(heard) == 150
    now = clock.read(run.workspace).now()
    assert before < now == done.moment
    taken = work.take_in(run, now + timedelta(days=1))
    assert taken.total.quarantined == sum(taken.limited.values())
    asked = Lake(run.workspace.lake, run.case.tables).scan("requests", arrived_before=None)
    assert (
        asked.filter(pl.col("arrived_at") > before).collect().height == 300
    )  # nobody asks twice, nobody is left out
