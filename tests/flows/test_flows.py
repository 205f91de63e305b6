"""The flows on the stub system: every step is real but for the monitor, the server is a temporary one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from plant_help import A_DAY, Plant

from pipelines.errors import LoopError, UsageError
from pipelines.flows.causes import Cause, Journal
from pipelines.flows.edge import bind
from pipelines.flows.live import advance_world, seed_live
from pipelines.steps.plan import STEPS
from pipelines.stores.files import folder_digest, read_json, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.models import read_record
from pipelines.stores.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_server")

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
TO_A_VERSION = ["ingest", "features", "train", "evaluate", "promote"]


WATCHED = ["ingest", "features", "monitor"]


def build(**parameters: Any) -> dict[str, Any]:
    from pipelines.flows.build import build as flow

    return flow("breakdown", **parameters)


def retrain(**parameters: Any) -> dict[str, Any]:
    from pipelines.flows.retrain import retrain as flow

    return flow("breakdown", **parameters)


def watch(**parameters: Any) -> dict[str, Any]:
    from pipelines.flows.watch import watch as flow

    return flow("breakdown", **parameters)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Cause]:
    """Catch the events that watch sends."""
    from pipelines.flows import watch as module

    sent: list[Cause] = []
    monkeypatch.setattr(module, "emit", lambda case, cause: sent.append(cause))
    return sent


def test_the_flows_follow_the_plan() -> None:
    planned = [step.name for step in STEPS]
    assert [name for name in planned if name in TO_A_VERSION] == TO_A_VERSION
    assert [name for name in planned if name in ("ingest", "features", "monitor")] == planned[:2] + planned[
        -1:
    ]


def test_build_fills_an_empty_workspace_and_follows_the_plan(plant: Plant) -> None:
    result = build()
    assert plant.steps == TO_A_VERSION
    assert result["decision"] == "promoted"
    registry = bind(plant.project, "breakdown", live=True).registry
    champion = registry.champion()
    assert champion is not None
    assert (champion.digest, champion.origin) == (result["digest"], "live")
    assert champion.tags["cause"] == "built anew"


def test_both_runners_come_to_the_same_bytes(built: Plant) -> None:
    build()
    run = built.project.root / "runs" / "breakdown"
    for part in ("lake", "model", "evaluation"):
        assert folder_digest(built.live / part) == folder_digest(run / part), part


def test_a_second_build_changes_nothing(plant: Plant) -> None:
    first = build()
    second = build()
    assert second == {**first, "decision": "unchanged"}
    assert len(bind(plant.project, "breakdown", live=True).registry.versions()) == 1


def test_a_retrain_learns_from_the_log_and_tells_its_cause(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    advance_world(built.project, "breakdown", 3)
    result = retrain(cause="because of rain")
    assert built.steps == TO_A_VERSION
    registry = bind(built.project, "breakdown", live=True).registry
    version = registry.version(result["version"])
    assert version.tags["cause"] == "because of rain"
    assert datetime.fromisoformat(version.tags["as_of"]) == AS_OF + timedelta(days=3)
    assert version.tags["decision"] == result["decision"]
    last = read_json(built.live / "last_retrain.json")
    assert (last["cause"], last["version"]) == ("because of rain", result["version"])
    promotions = built.project.registry_folder / "promotions"
    assert [path.name for path in promotions.iterdir()] == ["live-breakdown.json"]  # none of DVC's outputs


def test_a_retrains_manifest_begins_where_the_last_one_ended(built: Plant) -> None:
    from pipelines.flows.retrain_manifest import manifests

    seed_live(built.project, "breakdown")
    for days in (2, 1):
        advance_world(built.project, "breakdown", days)
        retrain()
    run = bind(built.project, "breakdown", live=True)
    first, second = manifests(run.workspace)
    assert (first["since"], first["as_of"]) == (AS_OF.isoformat(), (AS_OF + timedelta(days=2)).isoformat())
    assert (second["since"], second["version"]) == (first["as_of"], "2")
    assert (second["decision"], second["lake"]) == (
        "rejected",
        Lake(run.workspace.lake, run.case.tables).digest(),
    )


def test_a_retrain_shows_its_figures_and_links(built: Plant) -> None:
    from prefect.artifacts import Artifact

    seed_live(built.project, "breakdown")
    result = retrain(cause="to be shown")
    table = Artifact.get("breakdown-metrics")
    text = Artifact.get("breakdown-version")
    assert table is not None and text is not None
    assert '"scorer": "model"' in str(table.data)
    assert "to be shown" in str(text.data)
    assert f"/#/models/breakdown/versions/{result['version']}" in str(text.data)


def test_a_cause_is_acted_on_once(built: Plant) -> None:
    seed_live(built.project, "breakdown")
    journal = Journal(Workspace(built.live))
    from pipelines.steps.decide import DRIFT, Decision, Reason

    cause = journal.note(Decision("retrain", (Reason(DRIFT, "moved"),)), AS_OF)
    assert cause is not None
    assert retrain(cause=cause.words, event=cause.id)["decision"] == "promoted"
    built.steps.clear()
    assert retrain(cause=cause.words, event=cause.id) == {"decision": "taken before"}
    assert built.steps == []


def test_a_retrain_of_what_was_never_seeded_says_what_to_do(plant: Plant) -> None:
    with pytest.raises(UsageError, match="loop up"):
        retrain()


def broken(run: Any) -> Any:
    """Stand in for a step that fails."""
    raise LoopError("the disk is full")


def test_a_failing_step_fails_the_flow_and_promotes_nothing(
    built: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.flows import edge

    seed_live(built.project, "breakdown")
    monkeypatch.setitem(edge._PERFORM, "train", broken)
    with pytest.raises(LoopError, match="disk is full"):
        retrain()
    assert bind(built.project, "breakdown", live=True).registry.versions() == []


def test_a_retrain_that_dies_after_training_has_learned_nothing(
    built: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.flows import edge
    from pipelines.steps.signals import last_training

    seed_live(built.project, "breakdown")
    retrain()
    advance_world(built.project, "breakdown", 2)
    with monkeypatch.context() as patch:
        patch.setitem(edge._PERFORM, "evaluate", broken)
        with pytest.raises(LoopError, match="disk is full"):
            retrain()
    run = bind(built.project, "breakdown", live=True)
    assert datetime.fromisoformat(read_record(run.workspace.model)["as_of"]) == AS_OF + timedelta(days=2)
    assert last_training(run.workspace, run.registry)[1] == AS_OF
    retrain()
    assert last_training(run.workspace, run.registry)[1] == AS_OF + timedelta(days=2)


def test_the_drift_report_is_logged_beside_the_watched_model(built: Plant, events: list[Cause]) -> None:
    from prefect.artifacts import Artifact

    seed_live(built.project, "breakdown")
    result = retrain()
    registry = bind(built.project, "breakdown", live=True).registry
    monitor = Workspace(built.live).monitor
    monitor.mkdir()
    (monitor / "report.html").write_text("<h1>Drift</h1>")
    write_json(monitor / "verdict.json", {"reference": {"model": result["digest"]}})
    watch()
    run_id = registry.version(result["version"]).run_id
    logged = [each.path for each in registry.client.list_artifacts(run_id, "drift/2026-03-01")]
    assert logged == ["drift/2026-03-01/report.html", "drift/2026-03-01/verdict.json"]
    text = Artifact.get("breakdown-watch")
    assert text is not None
    assert f"{run_id}/artifacts/drift/2026-03-01/report.html" in str(text.data)


def test_a_quiet_watch_asks_for_nothing(built: Plant, events: list[Cause]) -> None:
    seed_live(built.project, "breakdown")
    assert watch() == {"action": "wait", "reasons": [], "incidents": [], "event": None}
    assert built.steps == WATCHED
    assert events == []


def test_an_alarm_asks_once_within_the_cooldown(built: Plant, events: list[Cause]) -> None:
    seed_live(built.project, "breakdown")
    built.verdict.level, built.verdict.reasons = "warning", ("heat moved",)
    assert watch()["reasons"] == []
    built.verdict.level = "alarm"
    first, second = watch(), watch()
    assert [cause.words for cause in events] == ["drift: heat moved"]
    assert first["event"] == events[0].id
    assert (second["action"], second["reasons"], second["event"]) == ("wait", ["drift: heat moved"], None)
    advance_world(built.project, "breakdown", 1)
    watch()
    assert len(events) == 2


def test_a_cause_that_no_retrain_took_is_sent_again_unless_it_must_wait(
    built: Plant, events: list[Cause], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.flows import causes, trial
    from pipelines.steps import incidents
    from pipelines.steps.signals import OnTrial

    monkeypatch.setattr(causes, "PATIENCE", timedelta(0))
    seed_live(built.project, "breakdown")
    built.verdict.level, built.verdict.reasons = "alarm", ("heat moved",)
    watch()
    broken = incidents.Incident("readings", "heat", "unit", "came × 1,000", AS_OF.date(), None, A_DAY)
    with monkeypatch.context() as patch:
        patch.setattr(incidents, "find_incidents", lambda *_: (broken,))
        assert watch()["action"] == "hold"
    with monkeypatch.context() as patch:
        patch.setattr(trial, "on_trial", lambda *_: OnTrial("version 2 is on trial"))
        assert watch()["action"] == "wait"
    assert len(events) == 1
    assert watch()["action"] == "wait"  # for the cooldown: nothing new is asked for
    assert [each.id for each in events] == [events[0].id] * 2
    assert events[0].event_id != events[1].event_id


def test_a_broken_column_holds_training_until_it_is_well(
    built: Plant, events: list[Cause], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.flows.overview import overview
    from pipelines.steps import incidents

    seed_live(built.project, "breakdown")
    advance_world(built.project, "breakdown", 1)
    built.verdict.level, built.verdict.reasons = "alarm", ("heat moved",)
    broken = incidents.Incident("readings", "heat", "unit", "came × 1,000", AS_OF.date(), None, A_DAY)
    monkeypatch.setattr(incidents, "find_incidents", lambda *_: (broken,))
    found = watch()
    assert (found["action"], found["reasons"], found["event"]) == ("hold", ["drift: heat moved"], None)
    assert found["incidents"] == [broken.words]
    (live,) = [each for each in overview(built.project) if each["workspace"] == "live"]
    assert live["decision"]["incidents"][0]["column"] == "heat"
    assert retrain(cause="scheduled") == {"decision": "held"}
    assert "train" not in built.steps
    assert retrain(cause="a person knows better")["decision"] == "promoted"
    monkeypatch.setattr(incidents, "find_incidents", lambda *_: (replace(broken, until=AS_OF.date()),))
    assert watch()["action"] == "retrain"
    assert broken.what in events[0].words
    assert retrain(cause="scheduled")["decision"] != "held"


def test_new_labels_ask_for_a_retrain_which_counts_anew(built: Plant, events: list[Cause]) -> None:
    built.configure(triggers={"new_labels": 2 * A_DAY})
    seed_live(built.project, "breakdown")
    advance_world(built.project, "breakdown", 1)
    assert watch()["reasons"] == []
    advance_world(built.project, "breakdown", 2)
    (reason,) = watch()["reasons"]
    assert "labels matured" in reason
    retrain(cause=events[0].words, event=events[0].id)
    advance_world(built.project, "breakdown", 1)
    assert watch()["reasons"] == []
    assert len(events) == 1


def test_performance_is_measured_on_rows_newer_than_the_champion(built: Plant, events: list[Cause]) -> None:
    from pipelines.steps.signals import measure_champion

    built.configure(gate={"resamples": 100, "minimum_units": 60})
    seed_live(built.project, "breakdown")

    def measured() -> Any:
        from pipelines.flows.live import bind_live

        run = bind_live(built.project, "breakdown")
        watch()
        return measure_champion(
            *(run.case, run.workspace, run.as_of, run.params, run.project.platform, run.protocol),
            *(run.config.gate, run.registry),
        )

    assert measured() is None  # no champion yet
    retrain()
    assert measured() is None  # nothing is newer than it
    advance_world(built.project, "breakdown", 1)
    assert measured() is None  # too few units
    advance_world(built.project, "breakdown", 1)
    found = measured()
    assert found.now.n == 2 * A_DAY
    assert found.then == pytest.approx(0.8, abs=0.1)
