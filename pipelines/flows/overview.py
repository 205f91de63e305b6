"""What stands: every workspace's rows, figures, champion, drift and last retrain, read from its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines import catalog
from pipelines.flows.edge import SEED
from pipelines.flows.work import DECISION
from pipelines.settings import Project
from pipelines.stores.files import read_json
from pipelines.stores.workspace import Workspace


def overview(project: Project) -> list[dict[str, Any]]:
    """Describe each workspace that holds a lake: the document of `loop status --json`."""
    return [_describe(project, *found) for found in workspaces(project)]


def workspaces(project: Project) -> Iterator[tuple[Workspace, str, str]]:
    """Yield (workspace, case, source) for every workspace that has been ingested into."""
    for name in catalog.names():
        sources = {name: "world"} | {f"{name}-{each.name}": each.name for each in catalog.case(name).sources}
        for place in ("runs", "live"):
            for folder, source in sources.items():
                workspace = Workspace(project.root / place / folder)
                if workspace.lake.is_dir():
                    yield workspace, name, source


def _describe(project: Project, workspace: Workspace, case: str, source: str) -> dict[str, Any]:
    evaluation = _read(workspace.evaluation / "evaluation.json")
    scorers = evaluation.get("scorers", {})
    primary = evaluation.get("primary")
    verdict = _read(workspace.monitor / "verdict.json")
    return {
        "case": case,
        "source": _grown_from(workspace, case) or source,
        "workspace": workspace.origin,
        "as_of": evaluation.get("as_of"),
        "rows": rows(workspace),
        "quarantine": quarantined(workspace),
        "limited": limited(workspace),
        "metric": primary,
        "model": scorers.get("model", {}).get(primary),
        "heuristic": scorers.get(evaluation.get("best_heuristic"), {}).get(primary),
        "heuristic_name": evaluation.get("best_heuristic"),
        "oracle": scorers.get("oracle", {}).get(primary),
        "champion": champion(project, workspace),
        "drift": verdict.get("level"),
        "actions": actions(project, workspace, case),
        "decision": _read(workspace.root / DECISION) or None,
        "experiment": experiment(workspace),
        "last_retrain": _read(workspace.root / "last_retrain.json") or None,
        "seconds": _read(workspace.root / "seconds.json"),
    }


def _grown_from(workspace: Workspace, case: str) -> str | None:
    """Name the source that a live workspace was seeded from; None where it was the world, or none was told."""
    run = str(_read(workspace.root / SEED).get("from", ""))
    return run.partition(f"runs/{case}-")[2] or None


def rows(workspace: Workspace) -> dict[str, int]:
    """Add up what every ingest into the workspace read, kept, folded away and refused."""
    total = dict.fromkeys(("read", "kept", "duplicate", "quarantined"), 0)
    for path in sorted((workspace.lake / "_manifests").glob("*.json")):
        counted = read_json(path)["total"]
        for name in total:
            total[name] += counted[name]
    return total


def quarantined(workspace: Workspace) -> int:
    """Count the rows that stand in quarantine now: each once, however often it was read."""
    total = 0
    for path in workspace.quarantine.glob("*/*.jsonl"):
        with path.open("rb") as stream:
            total += sum(1 for _ in stream)
    return total


def limited(workspace: Workspace) -> dict[str, int]:
    """Count the rows in quarantine for being over a limit, by table, columns and reason."""
    from pipelines.steps.ingest import LIMITS
    from pipelines.steps.quarantine import list_quarantine

    ingests = (read_json(path) for path in (workspace.lake / "_manifests").glob("*.json"))
    if not any(
        each.get("limited") for each in ingests
    ):  # most have none, and quarantine takes its time to read
        return {}
    found = (each for each in list_quarantine(workspace) if each.source == LIMITS)
    return {f"{each.table}, {each.field}: {each.reason}": each.rows for each in found}


def actions(project: Project, workspace: Workspace, case: str) -> dict[str, int] | None:
    """Count what users did that no model has learned from yet; None where nothing is served.

    `waiting` actions are in the log and not in the lake yet; `immature` ones, in either, are so young that
    the label of their impression may still change.
    """
    found = catalog.case(case)
    if workspace.origin != "live" or found.serving is None or not (workspace.root / "clock.json").is_file():
        return None
    import polars as pl

    from pipelines.flows import clock
    from pipelines.steps.ingest import watermark
    from pipelines.stores.action_log import open_action_log
    from pipelines.stores.lake import Lake
    from pipelines.stores.schemas import Actions, polars_schema

    table = found.shaped(Actions)[0]
    since = clock.read(workspace).now() - found.framing.attribution
    mark = watermark(workspace)
    columns = [*table.key, table.time]
    parts = [pl.DataFrame(schema={name: polars_schema(table.schema)[name] for name in columns})]
    with open_action_log(project.platform.action_log, workspace) as log:
        for offset, batch in log.read(mark.offset):
            if batch.table == table.name:
                unread = offset > mark.seen or pl.col("arrived_at") > mark.as_of
                parts.append(batch.rows.filter(unread).select(columns))
    waiting = pl.concat(parts).unique(table.key, keep="first", maintain_order=True)
    lake = Lake(workspace.lake, found.tables).scan(table.name, since).select(pl.len()).collect().item()
    young = waiting.filter(pl.col(table.time) > since).height
    return {"waiting": waiting.height, "immature": young + lake}


def experiment(workspace: Workspace) -> dict[str, str] | None:
    """Tell which version live users try, since when, and at what stage; None where none is on trial."""
    from pipelines.experiments.running import read_open

    running = read_open(workspace)
    if running is None:
        return None
    since = running.started.isoformat()
    return {"version": running.challenger.number, "since": since, "stage": running.stage}


def champion(project: Project, workspace: Workspace) -> dict[str, str] | None:
    """Read the champion of the workspace's registered model; None where none was ever promoted."""
    from pipelines.stores.registry import Registry

    found = Registry(project.tracking_uri, project.artifact_root, workspace.name).champion()
    return (
        None if found is None else {"version": found.number, "digest": found.digest, "origin": found.origin}
    )


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    return found
