"""Train, evaluate, promote on the stub system and a real MLflow store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stub_case
from stub_case import AS_OF, CASE, Truth

from pipelines.case_study import CaseStudy
from pipelines.errors import DataError, LoopError, UsageError
from pipelines.settings import Gate, Platform
from pipelines.steps.evaluate import Evaluation, evaluate
from pipelines.steps.promote import Promotion, promote, retire, rollback
from pipelines.steps.train import train
from pipelines.stores.files import read_json
from pipelines.stores.registry import Registry, open_store, store_identity
from pipelines.stores.workspace import Workspace

PLATFORM = Platform()
GATE = Gate(resamples=200)


def built(
    ws: Workspace, skill: float, *, case: CaseStudy = CASE, judge: Truth | None = None, **train_: Any
) -> Evaluation:
    """Train and evaluate a model of the given skill."""
    params = stub_case.params(skill=skill, **train_)
    train(case, ws, AS_OF, params, PLATFORM, "logged")
    return evaluate(case, ws, AS_OF, params, PLATFORM, "logged", judge, gate=GATE)


def promoted(
    ws: Workspace, registry: Registry, skill: float, *, case: CaseStudy = CASE, **options: Any
) -> Promotion:
    """Train, evaluate and promote."""
    built(ws, skill, case=case)
    options = {"origin": ws.origin, "gate": GATE} | options
    gate = options.pop("gate")
    return promote(case, ws, AS_OF, stub_case.params(skill=skill), PLATFORM, gate, registry, **options)


# --- train and evaluate ----------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_digest_and_figures_in_any_workspace(
    tmp_path: Path, stub: None
) -> None:
    found = []
    for origin in ("runs", "live"):
        ws = stub_case.workspace(tmp_path, origin=origin)
        built(ws, 0.6)
        manifest = (ws.model / "manifest.json").read_text()
        found.append((manifest, (ws.evaluation / "evaluation.json").read_text()))
    assert found[0] == found[1]


def test_other_parameters_or_data_give_another_digest(breakdown: Workspace) -> None:
    one = built(breakdown, 0.6).content["model"]
    assert built(breakdown, 0.7).content["model"] != one
    late = stub_case.readings(seed=2).with_columns(reading_id="late" + stub_case.pl.col("reading_id"))
    stub_case.Lake(breakdown.lake, CASE.tables).append("readings", late)
    assert built(breakdown, 0.6).content["model"] != one


def test_training_needs_labels(tmp_path: Path, stub: None) -> None:
    ws = stub_case.workspace(tmp_path, days=5)
    with pytest.raises(DataError, match="no mature label"):
        train(CASE, ws, AS_OF, stub_case.params(), PLATFORM, "logged")
    assert not ws.model.exists()


def test_an_unknown_protocol_names_the_nearest(breakdown: Workspace) -> None:
    with pytest.raises(UsageError, match="did you mean 'time'"):
        train(CASE, breakdown, AS_OF, stub_case.params(), PLATFORM, "tim")


def test_evaluation_shows_every_scorer_with_its_interval(breakdown: Workspace) -> None:
    evaluation = built(breakdown, 0.6, judge=Truth())
    assert list(evaluation.content["scorers"]) == ["model", "always", "thermometer", "oracle"]
    model, oracle = evaluation.estimate("model"), evaluation.estimate("oracle")
    assert model is not None and model.low < model.value < model.high and model.n == 420
    assert oracle is not None and oracle.value == 1.0
    assert evaluation.heuristic == "thermometer"
    flat = read_json(breakdown.evaluation / "metrics.json")
    assert all(isinstance(value, float) for value in flat.values())
    assert flat["closeness_gain_low"] > 0 and flat["closeness_oracle"] == 1.0
    days = read_json(breakdown.evaluation / "plots" / "days.json")
    assert len({row["day"] for row in days}) == 7
    bins = read_json(breakdown.evaluation / "plots" / "reliability.json")
    assert sum(row["n"] for row in bins) == 420


def test_without_a_judge_there_is_no_oracle(breakdown: Workspace) -> None:
    evaluation = built(breakdown, 0.6)
    assert evaluation.estimate("oracle") is None
    assert "closeness_oracle" not in read_json(breakdown.evaluation / "metrics.json")


def test_a_model_of_another_moment_is_not_evaluated(breakdown: Workspace) -> None:
    built(breakdown, 0.6)
    with pytest.raises(LoopError, match="train again"):
        evaluate(CASE, breakdown, AS_OF + stub_case.DAY, stub_case.params(), PLATFORM, "logged", gate=GATE)


def test_a_protocol_may_name_its_own_moment(breakdown: Workspace) -> None:
    record = train(CASE, breakdown, AS_OF, stub_case.params(), PLATFORM, "time").record
    assert record["window"] == {"start": "2026-02-02T00:00:00+00:00", "end": "2026-02-15T00:00:00+00:00"}
    found = evaluate(CASE, breakdown, AS_OF, stub_case.params(), PLATFORM, "time", gate=GATE)
    model = found.estimate("model")
    assert model is not None and model.n == 14 * 60


def test_held_out_rows_are_nowhere_to_be_seen(breakdown: Workspace) -> None:
    trained = train(CASE, breakdown, AS_OF, stub_case.params(), PLATFORM, "random")
    found = evaluate(CASE, breakdown, AS_OF, stub_case.params(), PLATFORM, "random", gate=GATE)
    model = found.estimate("model")
    total = 27 * 60
    assert model is not None and model.n == total // 4
    examples = stub_case.pl.read_parquet(trained.folder / "examples.parquet")
    assert examples.height == total - total // 4
    rest = stub_case.Lake(breakdown.root / "hold_out" / "random" / "rest" / "lake", CASE.tables)
    held = stub_case.Lake(breakdown.root / "hold_out" / "random" / "held" / "lake", CASE.tables)
    assert not set(rest.scan("readings").collect()["reading_id"]) & set(
        held.scan("readings").collect()["reading_id"]
    )


# --- promote ---------------------------------------------------------------------------------------


def test_the_first_model_that_beats_the_heuristic_becomes_champion(
    breakdown: Workspace, registry: Registry, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    promotion = promoted(breakdown, registry, 0.6, receipt=receipt, mode="canary")
    champion = registry.champion()
    assert promotion.decision == "promoted" and champion is not None
    assert champion.digest == promotion.digest
    assert champion.tags["decision"] == "promoted" and champion.tags["gate.against"] == "none"
    assert champion.tags["gate.heuristic"].startswith("passed: closeness is 0.1")
    assert "gate.slice site_a" in champion.tags  # the slice is called site=a, which MLflow would not take
    assert read_json(receipt)["decision"] == "promoted"


def test_a_rejected_model_is_registered_with_the_reasons(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    promotion = promoted(breakdown, registry, 0.1)
    version = registry.version(promotion.version)
    assert promotion.decision == "rejected" and promotion.champion == "1"
    assert version.tags["decision"] == "rejected"
    assert version.tags["gate.champion"].startswith("failed: closeness is 0.1")
    run = registry.client.get_run(version.run_id)
    assert run.data.tags["decision"] == "rejected" and run.data.tags["why"] == promotion.why
    assert registry.aliases() == {"champion": "1"}


def test_a_better_model_takes_over_and_rollback_gives_back(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    assert promoted(breakdown, registry, 0.9).decision == "promoted"
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    rollback(registry, "it annoyed people")
    assert registry.aliases() == {"champion": "1", "previous": "2"}
    assert registry.version("2").tags["rolled_back"] == "it annoyed people"
    again = promoted(breakdown, registry, 0.9)
    assert again.decision == "rejected" and "was rolled back (it annoyed people)" in again.why
    rollback(registry)
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    assert "rolled_back" not in registry.version("2").tags


def test_rollback_needs_somewhere_to_go(breakdown: Workspace, registry: Registry) -> None:
    with pytest.raises(LoopError, match="no previous champion"):
        rollback(registry)
    promoted(breakdown, registry, 0.6)
    with pytest.raises(LoopError, match="no previous champion"):
        rollback(registry)


def test_promoting_twice_changes_nothing(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    assert promoted(breakdown, registry, 0.6).decision == "unchanged"
    for _ in range(2):
        assert promoted(breakdown, registry, 0.1).decision == "rejected"
    assert [version.number for version in registry.versions()] == ["2", "1"]
    assert len(runs(registry)) == 2


def test_a_canary_waits_for_live_users(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    promotion = promoted(breakdown, registry, 0.9, mode="canary")
    assert promotion.decision == promotion.alias == "challenger"
    assert registry.aliases() == {"champion": "1", "challenger": "2"}
    assert promoted(breakdown, registry, 0.9).decision == "promoted"
    assert registry.aliases() == {"champion": "2", "previous": "1"}


def test_inside_an_experiment_no_alias_moves(breakdown: Workspace, registry: Registry) -> None:
    promotion = promoted(breakdown, registry, 0.6, move_alias=False)
    assert promotion.decision == "passed" and registry.aliases() == {}
    assert promoted(breakdown, registry, 0.6).decision == "promoted"
    assert registry.aliases() == {"champion": "1"}


def test_a_run_never_replaces_a_live_champion(tmp_path: Path, stub: None, registry: Registry) -> None:
    live = stub_case.workspace(tmp_path, origin="live")
    runs_ = stub_case.workspace(tmp_path, origin="runs")
    promoted(live, registry, 0.6)
    promotion = promoted(runs_, registry, 0.9)
    assert promotion.decision == "passed" and "comes from 'live'" in promotion.why
    assert registry.aliases() == {"champion": "1"}
    assert promoted(live, registry, 0.95).decision == "promoted"


def test_a_stale_evaluation_is_refused(breakdown: Workspace, registry: Registry) -> None:
    built(breakdown, 0.6)
    params = stub_case.params(skill=0.9)
    train(CASE, breakdown, AS_OF, params, PLATFORM, "logged")
    with pytest.raises(LoopError, match="evaluate again"):
        promote(CASE, breakdown, AS_OF, params, PLATFORM, GATE, registry)
    built(breakdown, 0.9)
    with pytest.raises(LoopError, match="resamples 200, not 300"):
        promote(CASE, breakdown, AS_OF, params, PLATFORM, Gate(resamples=300), registry)


# --- when things break -----------------------------------------------------------------------------


def test_a_champion_that_cannot_be_scored_blocks_and_says_so(
    breakdown: Workspace, registry: Registry, tmp_path: Path
) -> None:
    promoted(breakdown, registry, 0.6)

    def measure(model: Any, *rest: Any) -> Any:
        if getattr(model, "skill", 0) == 0.6:
            raise KeyError("column 'cold' is gone")
        return stub_case.measure(model, *rest)

    protocol = replace(CASE.protocols["logged"], measure=measure)
    case = replace(CASE, protocols={"logged": protocol})
    receipt = tmp_path / "receipt.json"
    with pytest.raises(LoopError, match=r"champion, version 1, could not be rescored.*'cold' is gone"):
        promoted(breakdown, registry, 0.9, case=case, receipt=receipt)
    assert registry.aliases() == {"champion": "1"}
    assert registry.version("2").tags["decision"] == "blocked"
    assert read_json(receipt)["decision"] == "blocked"
    retire(registry, "its column is gone")
    assert registry.champion() is None
    assert registry.version("1").tags["why"] == "version 1 was retired: its column is gone"
    assert promoted(breakdown, registry, 0.9, case=case).decision == "promoted"
    assert registry.aliases() == {"champion": "2"}


def test_a_champion_whose_files_changed_blocks_too(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    champion = registry.champion()
    assert champion is not None
    (registry.load(champion) / "model" / "mixture.json").write_text('{"skill": 0.0, "seed": 0}')
    with pytest.raises(LoopError, match=r"mixture.json is not what its manifest says"):
        promoted(breakdown, registry, 0.9)
    assert registry.aliases() == {"champion": "1"}


def test_an_outage_is_never_read_as_no_champion(
    breakdown: Workspace, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(breakdown, registry, 0.6)
    store = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    good = store.read_bytes()
    store.write_bytes(b"no database at all" * 1000)
    broken = Registry(registry.tracking_uri, registry.artifact_root, registry.name)
    with pytest.raises(LoopError, match="cannot be used"):
        broken.champion()
    with pytest.raises(LoopError, match="cannot be used"):
        promoted(breakdown, broken, 0.9)
    store.write_bytes(good)
    assert Registry(registry.tracking_uri, registry.artifact_root, registry.name).aliases() == {
        "champion": "1"
    }


def test_a_dead_server_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry("http://127.0.0.1:9", str(tmp_path), "breakdown")
    with pytest.raises(LoopError, match="cannot be used"):
        registry.champion()


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_move_that_is_killed_anywhere_leaves_one_champion(
    breakdown: Workspace, registry: Registry, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Die after each of the writes that crown a version; the next promotion mends what is left."""
    promoted(breakdown, registry, 0.5)
    promoted(breakdown, registry, 0.6)
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    dying = Registry(registry.tracking_uri, registry.artifact_root, registry.name)
    client = dying.client
    writes = 0

    def dies(write: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal writes
            result = write(*args, **kwargs)
            writes += 1
            if writes == stop:
                raise KeyboardInterrupt("killed")
            return result

        return wrapper

    for name in (
        "set_registered_model_tag",
        "set_registered_model_alias",
        "delete_registered_model_alias",
        "delete_registered_model_tag",
    ):
        monkeypatch.setattr(client, name, dies(getattr(client, name)))
    with pytest.raises(KeyboardInterrupt):
        promoted(breakdown, dying, 0.9)
    champion = registry.champion()
    assert champion is not None and champion.number in {"2", "3"}
    registry.load(champion)
    decision = promoted(breakdown, registry, 0.9).decision
    assert decision == ("promoted" if champion.number == "2" else "unchanged")
    assert registry.aliases() == {"champion": "3", "previous": "2"}
    assert "intent" not in registry.client.get_registered_model(registry.name).tags
    assert len(registry.versions()) == 3


def test_a_rejected_move_that_was_killed_is_undone(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.5)
    promoted(breakdown, registry, 0.6)
    intent = {"to": "9", "from": "2", "previous": "1"}
    registry.client.set_registered_model_tag(registry.name, "intent", json.dumps(intent))
    registry.client.set_registered_model_alias(registry.name, "previous", "2")
    with registry.lock():
        assert registry.aliases() == {"champion": "2", "previous": "1"}


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import stub_case
import pipelines.steps.split as split
split.open_dataset = stub_case.open_stub
from pipelines.settings import Gate, Platform
from pipelines.steps.promote import promote
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace
ws = Workspace(Path({root!r}))
registry = Registry({uri!r}, {artifacts!r}, "breakdown")
print("ready", flush=True)
promotion = promote(stub_case.CASE, ws, stub_case.AS_OF, stub_case.params(), Platform(),
                    Gate(resamples=200), registry, origin=ws.origin)
print(promotion.decision, flush=True)
"""


def child(ws: Workspace, registry: Registry) -> subprocess.Popen[str]:
    """Promote in a process of its own."""
    code = CHILD.format(
        tests=str(Path(__file__).parent.parent),
        root=str(ws.root),
        uri=registry.tracking_uri,
        artifacts=registry.artifact_root,
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_second_promotion_waits_and_meets_the_new_champion(
    tmp_path: Path, stub: None, registry: Registry
) -> None:
    mine, theirs = (stub_case.workspace(tmp_path / str(i), origin="live") for i in range(2))
    built(mine, 0.8)
    built(theirs, 0.7)
    with registry.lock():
        process = child(theirs, registry)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(6)  # time enough to read that there is no champion, were it allowed to
        promotion = promote(CASE, mine, AS_OF, stub_case.params(), PLATFORM, GATE, registry, origin="live")
        assert promotion.decision == "promoted"
    assert process.wait(120) == 0
    assert process.stdout.read() == "rejected\n"
    assert registry.aliases() == {"champion": "1"}


@pytest.mark.slow
def test_two_promotions_at_once_leave_one_champion(tmp_path: Path, stub: None, registry: Registry) -> None:
    workspaces = [stub_case.workspace(tmp_path / str(i), origin="live") for i in range(2)]
    for ws, skill in zip(workspaces, (0.7, 0.8), strict=True):
        built(ws, skill)
    children = [child(ws, registry) for ws in workspaces]
    for process in children:
        assert process.wait(120) == 0
    decisions = [process.stdout.read().split()[-1] for process in children if process.stdout]
    champion = registry.champion()
    assert champion is not None and len(registry.versions()) == 2
    assert champion.digest == read_json(workspaces[1].model / "manifest.json")["digest"]
    assert decisions in (["promoted", "promoted"], ["rejected", "promoted"])


def test_a_wiped_store_has_another_identity(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/registry/mlflow.db"
    one = store_identity(uri)
    assert store_identity(uri) == one
    (tmp_path / "registry" / "mlflow.db").unlink()
    assert store_identity(uri) != one


# --- what people see -------------------------------------------------------------------------------


def test_mlflow_loads_the_champion_by_its_alias(breakdown: Workspace, registry: Registry) -> None:
    import mlflow

    promoted(breakdown, registry, 0.6)
    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/breakdown@champion")
    rows = model.input_example
    assert list(rows.columns) == ["heat", "site", "read_at"]
    assert [each.name for each in model.metadata.signature.inputs] == ["heat", "site", "read_at"]
    expected = stub_case.Mixture(0.6, 0).predict(stub_case.pl.from_pandas(rows))
    np.testing.assert_allclose(model.predict(rows), expected)
    stored = Path(mlflow.artifacts.download_artifacts("models:/breakdown@champion"))
    assert not [path for path in stored.rglob("*") if path.suffix in {".pkl", ".pickle"}]


def test_a_run_shows_what_it_was_made_of(pictures: None, breakdown: Workspace, registry: Registry) -> None:
    promotion = promoted(breakdown, registry, 0.6)
    run = registry.client.get_run(registry.version(promotion.version).run_id)
    assert run.data.params["skill"] == "0.6" and run.data.params["train_days"] == "20"
    assert run.data.metrics["closeness"] > run.data.metrics["thermometer/closeness"]
    assert len(registry.client.get_metric_history(run.info.run_id, "curves/loss")) == 3
    data = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    training = data["breakdown training"]
    record = read_json(breakdown.model / "record.json")
    assert training.dataset.digest == record["data"][:36]
    assert {tag.key: tag.value for tag in training.tags}["window_start"] == "2026-02-02T00:00:00+00:00"
    artifacts = {each.path for each in registry.client.list_artifacts(run.info.run_id)}
    assert artifacts == {
        "model_card.md",
        "evaluation.json",
        "metrics.json",
        "plots",
        "promotion.json",
        "training_record.json",
    }
    plots = {each.path for each in registry.client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {
        f"plots/{name}.png" for name in ("primary", "slices", "days", "reliability", "curves", "importance")
    }
    experiment = registry.client.get_experiment(run.info.experiment_id)
    assert experiment.tags["business_objective"] == CASE.framing.business_objective
    assert "Repair machines" in experiment.tags["mlflow.note.content"]


def runs(registry: Registry) -> list[Any]:
    """Return all runs of the registry's experiment."""
    client = open_store(registry.tracking_uri)
    experiment = client.get_experiment_by_name(registry.name)
    return list(client.search_runs([experiment.experiment_id]))
