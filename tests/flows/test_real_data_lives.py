"""A system that grew from real data: seeded, served, acted on, retrained; no simulated world in sight."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tiny_project import CASE, tiny_project

from pipelines import catalog
from pipelines.errors import UsageError
from pipelines.flows import clock, work
from pipelines.flows.edge import bind, perform
from pipelines.flows.live import bind_live, seed_live
from pipelines.flows.overview import overview
from pipelines.flows.real import run_source
from pipelines.flows.serve import open_service
from pipelines.flows.timelapse.judgement import judge_day
from pipelines.settings import Limits, Project
from pipelines.stores.files import read_json, write_json

SOURCE = "movietweetings"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run the case on three hundred people's ratings of sixty films, with tastes."""
    root = tmp_path_factory.mktemp("real")
    folder = root / "ratings"
    folder.mkdir()
    rng, lines = np.random.default_rng(0), ["user_id,item_id,rating,timestamp"]
    for user in range(300):
        taste = np.where(np.arange(60) % 2 == user % 2, 4.0, 1.0)
        for film in rng.choice(60, size=10, replace=False, p=taste / taste.sum()):
            when = 1362000000 + rng.integers(0, 90 * 86400)
            lines.append(f"{user},{film:07d},{rng.integers(6, 11)},{when}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    films = [f'{film:07d},"Film {film} (2012)",{["Drama", "Comedy"][film % 2]}' for film in range(60)]
    (folder / "movies.csv").write_text("\n".join(["item_id,title,genres", *films]) + "\n")
    gate, limits = {"heuristic_margin": -1.0, "resamples": 100}, {"actions": {"pair": 2}}
    project = tiny_project(root / "project", gate=gate, limits=limits)
    run_source(project, CASE, SOURCE, str(folder), "time", None, lambda words: None)
    return project


def test_it_is_seeded_served_and_retrained(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "has_world", lambda name: False)
        with pytest.raises(UsageError, match="loop seed"):
            seed_live(project, CASE)
    assert seed_live(project, CASE, SOURCE) and not seed_live(project, CASE, SOURCE)
    monkeypatch.setattr(catalog, "world", lambda name: pytest.fail("real rows have no simulated world"))
    run = bind_live(project, CASE, cause="seeded")
    assert (run.protocol, run.simulated, run.judge()) == ("time", False, None)
    assert run.limits == run.config.limits != Limits(), "accounts of a live system are bounded"
    first = work.introduce(run)
    assert first is not None and first.decision == "promoted"
    assert work.introduce(run) is None, "its model is judged once, however often it is asked for"
    (stands,) = [each for each in overview(project) if each["workspace"] == "live"]
    assert stands["source"] == SOURCE

    service = open_service(project, CASE, seed=3)
    try:
        told = service.serving.request
        answers = service.decide([told.model_validate({"user_id": str(user)}) for user in (7, 8, "new")])
        assert [answer.policy for answer in answers] == ["champion"] * 3
        chosen = [answer.places[0] for answer in answers]
        actions = [
            {"action_id": place.impression_id, "token": place.token, "action": "watch", "value": 900.0}
            for place in chosen
        ]
        assert service.collect(actions).accepted == 3
    finally:
        service.close()
    clock.advance(run.workspace, timedelta(days=3))
    run = bind_live(project, CASE)
    taken = work.take_in(run, clock.read(run.workspace).now())
    assert taken.total.kept > 3
    perform(run, "features")
    work.materialize(run)
    assert perform(run, "train").record["as_of"] == run.as_of.isoformat()
    assert "oracle" not in perform(run, "evaluate").scores.scorers()
    assert work.promote(run).decision in ("promoted", "rejected", "unchanged")
    judged = judge_day(run)
    assert judged.parity == 0 and judged.decided, "it is watched as any other"


def test_what_grew_from_one_source_is_not_taken_for_another(project: Project) -> None:
    seed_live(project, CASE, SOURCE)
    path = project.root / "live" / CASE / "seed.json"
    told = read_json(path)
    write_json(path, told | {"from": f"runs/{CASE}"})
    try:
        with pytest.raises(UsageError, match="remove it to begin anew"):
            seed_live(project, CASE, SOURCE)
    finally:
        write_json(path, told)


def test_a_champion_of_simulated_people_steps_down_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would answer real people where the gate rejects what learned from them."""
    seed_live(project, CASE, SOURCE)
    run = bind_live(project, CASE)
    work.introduce(run)
    champion, met = run.registry.champion(), []
    run.registry.tag(champion, {"origin": "runs", "digest": "of another model"})
    monkeypatch.setattr(work, "promote", lambda run: met.append(run.registry.champion()))
    work.introduce(run)
    assert met == [None]


def test_the_flows_bind_it_by_its_seed(project: Project) -> None:
    seed_live(project, CASE, SOURCE)
    assert (bind(project, CASE, live=True).protocol, bind(project, CASE).protocol) == ("time", "logged")
