"""A live workspace watches its champion, whatever was trained and rejected since."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from plant_help import Plant

from pipelines.flows import edge
from pipelines.flows.edge import Run, bind, perform
from pipelines.flows.live import seed_live
from pipelines.steps import monitor as monitor_step
from pipelines.stores.models import read_manifest

watch_model = edge._monitor  # before the plant puts its own in place


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the digest of the model that the monitor is given; the stub system has no labels to judge by."""
    digests: list[str] = []

    def note(*_: Any, model_folder: Path) -> None:
        digests.append(read_manifest(model_folder)["digest"])

    monkeypatch.setattr(monitor_step, "monitor", note)
    return digests


def digest_of(run: Run) -> str:
    return str(read_manifest(run.workspace.model)["digest"])


def test_the_champion_is_watched_and_not_what_was_trained_last(built: Plant, watched: list[str]) -> None:
    seed_live(built.project, "breakdown")
    run = bind(built.project, "breakdown", live=True)
    perform(run, "promote")
    champion = run.registry.champion()
    assert champion is not None
    perform(bind(built.project, "breakdown", live=True, as_of=run.as_of - timedelta(days=1)), "train")
    assert digest_of(run) != champion.digest
    watch_model(run)
    assert watched == [champion.digest]


def test_a_refit_is_watched_as_it_was_judged(built: Plant, watched: list[str]) -> None:
    """It has learned from the days by which its level would be known."""
    path = built.project.root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["breakdown"]["window"]["refit"] = True
    path.write_text(yaml.safe_dump(params))
    seed_live(built.project, "breakdown")
    run = bind(built.project, "breakdown", live=True)
    perform(run, "promote")
    champion = run.registry.champion()
    assert champion is not None and champion.digest != digest_of(run)
    watch_model(run)
    assert watched == [digest_of(run)]


@pytest.mark.parametrize("live", [False, True])
def test_without_a_champion_it_is_the_model_just_built(built: Plant, watched: list[str], live: bool) -> None:
    seed_live(built.project, "breakdown")
    run = bind(built.project, "breakdown", live=live)
    watch_model(run)
    assert watched == [digest_of(run)]
