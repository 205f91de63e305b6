"""The jobs that are killed: what stands before each, what it does, and what readers see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import stub_case
from features_help import START as EVENTS_START
from features_help import Event, append, video_case
from log_help import file_log
from stub_case import AS_OF, CASE
from tiny import START, tiny_batches, tiny_case

from pipelines.case_study import Batch
from pipelines.cases.video_recommendation.features import FEATURES
from pipelines.settings import Gate, Platform
from pipelines.steps import hold_out, run_content, split
from pipelines.steps.evaluate import evaluate, read_evaluation
from pipelines.steps.features import build_features
from pipelines.steps.ingest import ingest, ingest_log, manifests
from pipelines.steps.promote import promote
from pipelines.steps.quarantine import replay_quarantine, show_quarantine
from pipelines.steps.train import train
from pipelines.stores.files import file_digest, folder_digest
from pipelines.stores.lake import Lake
from pipelines.stores.models import check
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

Seen = Mapping[str, Any]
LATER = START.replace(month=3)
PLATFORM = Platform()
GATE = Gate(resamples=100)


@dataclass(frozen=True)
class Job:
    """One job: `see` tells what readers see, `end` what must be equal after a second run.

    Where `whole` is true a reader sees all of it or nothing; else piece by piece, each of them whole.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]
    see: Callable[[Path], Seen]
    end: Callable[[Path], Seen]
    whole: bool = True


# --- ingest ------------------------------------------------------------------------------------


def spoiled() -> list[Batch]:
    """Make tiny batches with two bad rows among them."""
    batches = tiny_batches(days=4)
    bad = batches[3].rows.with_columns(
        propensity=pl.when(pl.int_range(pl.len()) < 2).then(7.25).otherwise("propensity")
    )
    return [*batches[:3], Batch("impressions", bad, "impressions.csv"), batches[4]]


def tiny(root: Path) -> Workspace:
    return Workspace(root / "runs" / "tiny")


def ingested(days: int) -> Callable[[Path], None]:
    """Let some days stand in the lake already."""
    return lambda root: void(
        ingest(tiny_case(), tiny(root), tiny_batches(days=days), source="before", as_of=LATER)
    )


def ingest_spoiled(root: Path) -> object:
    return ingest(tiny_case(), tiny(root), spoiled(), source="tiny", as_of=LATER)


def logged(root: Path) -> None:
    with file_log(tiny(root)) as log:
        for batch in tiny_batches(days=4):
            log.append(batch.table, batch.rows)


def ingest_from_log(root: Path) -> object:
    """Read what the log gained; the watermark moves with it."""
    ws = tiny(root)
    return ingest_log(tiny_case(), ws, file_log(ws), as_of=LATER)


def corrected(root: Path) -> None:
    """Refuse two rows, and correct one of them."""
    ingested(1)(root)
    ingest_spoiled(root)
    for path in tiny(root).quarantine.rglob("*.jsonl"):
        path.write_text(path.read_text().replace('"propensity":7.25', '"propensity":0.5', 1))


def replay(root: Path) -> object:
    return replay_quarantine(tiny_case(), tiny(root), LATER)


def see_lake(root: Path) -> Seen:
    """Read every row back; count manifests too, of which a second run writes one of its own."""
    return {**see_rows(root), "manifests": [each["total"] for each in manifests(tiny(root))]}


def end_of_ingest(root: Path) -> Seen:
    """Read every row back; nothing is left of a commit in the making."""
    return {**see_rows(root), "left": sorted(path.name for path in tiny(root).root.glob(".*.txn"))}


def see_rows(root: Path) -> Seen:
    ws, case = tiny(root), tiny_case()
    lake = Lake(ws.lake, case.tables)
    rows = {table.name: lake.scan(table.name).collect() for table in case.tables}
    for table in case.tables:
        assert not rows[table.name].select(table.key).is_duplicated().any()
        assert rows[table.name].height == lake.rows(table.name)
    refused = [[entry["id"], str(entry["problems"])] for entry in show_quarantine(ws, limit=None)]
    return {
        "digest": lake.digest(),
        "rows": {name: frame.height for name, frame in rows.items()},
        "refused": sorted(refused),
    }


# --- features ----------------------------------------------------------------------------------

FEATURE_CASE = video_case(FEATURES[:1])
DAY = timedelta(days=1)


def fed(root: Path) -> None:
    """Build twelve days, then let late rows reach the lake."""
    kinds = ["impression", "watch", "like", "click", "rate"]
    drawn = [
        Event(
            kinds[n % 5], f"u{n % 7}", f"v{n % 11}", EVENTS_START + n * timedelta(hours=3), n % 4 * DAY, 0.7
        )
        for n in range(120)
    ]
    append(tiny(root), drawn[::2])
    build_features(FEATURE_CASE, tiny(root), EVENTS_START + 12 * DAY)
    append(tiny(root), drawn[1::2], len(drawn))


def build(root: Path) -> object:
    return build_features(FEATURE_CASE, tiny(root), EVENTS_START + 16 * DAY)


def see_snapshots(root: Path) -> Seen:
    """Read every snapshot that stands, and tell its bytes."""
    folder = tiny(root).features / FEATURES[0].name
    found = {}
    for path in sorted(folder.glob("*/*.parquet")):
        pl.read_parquet(path)
        found[path.relative_to(folder).as_posix()] = file_digest(path)
    return found


# --- train, evaluate, promote: the stub system, which needs no Feast ---------------------------


def stub() -> None:
    """Let steps open the stub's data sets, and draw no figures."""
    for room in (split, hold_out):
        room.open_dataset = stub_case.open_stub  # type: ignore[assignment]
    run_content.draw_all = lambda *_: []  # type: ignore[assignment]


def machines(root: Path) -> Workspace:
    return Workspace(root / "runs" / "breakdown")


def trained(root: Path, skill: float) -> object:
    if not machines(root).lake.exists():
        stub_case.workspace(root)
    return train(CASE, machines(root), AS_OF, stub_case.params(skill=skill), PLATFORM, "logged")


def evaluated(root: Path, skill: float, gate: Gate = GATE) -> object:
    return evaluate(CASE, machines(root), AS_OF, stub_case.params(skill=skill), PLATFORM, "logged", gate=gate)


def see_model(root: Path) -> Seen:
    """Check every file of the model directory against its manifest."""
    return {"model": check(machines(root).model)["digest"]}


def prepare_evaluation(root: Path) -> None:
    trained(root, 0.6)
    evaluated(root, 0.6, Gate(resamples=150))


def see_evaluation(root: Path) -> Seen:
    read_evaluation(machines(root))
    return {"folder": folder_digest(machines(root).evaluation)}


def registry(root: Path) -> Registry:
    return Registry(f"sqlite:///{root}/registry/mlflow.db", str(root / "registry" / "artifacts"), "breakdown")


def challenge(root: Path) -> object:
    params = stub_case.params(skill=0.9)
    return promote(CASE, machines(root), AS_OF, params, PLATFORM, GATE, registry(root), origin="runs")


def unknown(root: Path) -> None:
    """Train and evaluate a model; the registry is empty."""
    trained(root, 0.9)
    evaluated(root, 0.9)
    void(registry(root).client)


def rivalled(root: Path) -> None:
    """Let a champion stand, and train a better model."""
    trained(root, 0.5)
    evaluated(root, 0.5)
    challenge(root)
    trained(root, 0.9)
    evaluated(root, 0.9)


def see_champion(root: Path) -> Seen:
    """Read the champion as serving does: whatever it is, it loads."""
    found = registry(root).champion()
    if found is not None:
        registry(root).load(found)
    return {"champion": None if found is None else found.digest}


def end_of_promotion(root: Path) -> Seen:
    """Tell the versions, who is what, and that no run was left open."""
    store = registry(root)
    versions = {version.number: version.digest for version in store.versions()}
    model = store.client.get_registered_model(store.name)
    experiment = store.client.get_experiment_by_name(store.name)
    runs = store.client.search_runs([experiment.experiment_id])
    return {
        "aliases": {alias: versions[number] for alias, number in store.aliases().items()},
        "versions": sorted(versions.values()),
        "intent": model.tags.get("intent"),
        "runs": sorted(run.info.status for run in runs),
    }


def void(_: object) -> None:
    """Drop a result."""


JOBS: dict[str, Job] = {
    "ingest": Job(ingested(2), ingest_spoiled, see_lake, end_of_ingest),
    "log": Job(logged, ingest_from_log, see_lake, end_of_ingest),
    "replay": Job(corrected, replay, see_lake, end_of_ingest),
    "features": Job(fed, build, see_snapshots, see_snapshots, whole=False),
    "train": Job(
        lambda root: void(trained(root, 0.5)), lambda root: trained(root, 0.6), see_model, see_model
    ),
    "evaluate": Job(prepare_evaluation, lambda root: evaluated(root, 0.6), see_evaluation, see_evaluation),
    "first promotion": Job(unknown, challenge, see_champion, end_of_promotion),
    "promotion": Job(rivalled, challenge, see_champion, end_of_promotion),
}
