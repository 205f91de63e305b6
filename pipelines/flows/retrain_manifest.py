"""What a retrain went by: `live/<case>/retrains/<number>/` holds its manifest and the actions that were new to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from prefect.artifacts import create_markdown_artifact

from pipelines.flows.artifacts import key
from pipelines.flows.edge import Run
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.steps.ingest import Manifest

_SHOWN = 20


@dataclass(frozen=True)
class Learned:
    """A retrain's manifest. `actions` counts those that arrived in [since, as_of): actions.txt names each."""

    at: datetime
    cause: str
    as_of: datetime
    since: datetime
    actions: int
    ingest: int
    lake: str
    version: str
    decision: str
    digest: str


def write_manifest(run: Run, at: datetime, ingested: Manifest, outcome: dict[str, Any]) -> Path:
    """Write a retrain's manifest and its list of actions, and show both in Prefect; return the folder."""
    earlier = manifests(run.workspace)
    since = datetime.fromisoformat(earlier[-1]["as_of"]) if earlier else run.params.as_of
    names = new_actions(run, since)
    learned = Learned(
        at, run.cause, run.as_of, since, len(names), ingested.number, ingested.digest, **outcome
    )
    folder = _folder(run.workspace) / f"{len(earlier) + 1:06d}"
    with write_folder_aside(folder) as aside:
        (aside / "actions.txt").write_text("".join(f"{name}\n" for name in names))
        write_json(aside / "manifest.json", _plain(learned))
    create_markdown_artifact(markdown=_text(run, learned, names, folder), key=key(run, "manifest"))
    return folder


def manifests(ws: Workspace) -> list[dict[str, Any]]:
    """Read a workspace's retrain manifests, oldest first."""
    return [read_json(path) for path in sorted(_folder(ws).glob("*/manifest.json"))]


def new_actions(run: Run, since: datetime) -> list[str]:
    """List the ids of the actions that arrived in [since, as_of), in the order of their arrival."""
    names: list[str] = []
    for table in run.case.shaped(Actions):
        rows = Lake(run.workspace.lake, run.case.tables).scan(table.name, arrived_before=run.as_of)
        found = rows.filter(pl.col("arrived_at") >= since).select("arrived_at", "action_id").collect()
        names += found.sort("arrived_at", "action_id")["action_id"].to_list()
    return names


def _folder(ws: Workspace) -> Path:
    return ws.root / "retrains"


def _plain(learned: Learned) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(learned).items()
    }


def _text(run: Run, learned: Learned, names: list[str], folder: Path) -> str:
    more = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return "\n".join(
        [
            f"# {run.case.name}: retrained for version {learned.version}",
            "",
            f"- **cause**: {learned.cause}",
            f"- **new actions**: {learned.actions:,}, arrived from {learned.since:%Y-%m-%d %H:%M}"
            f" until {learned.as_of:%Y-%m-%d %H:%M} UTC",
            f"- **their ids**: {', '.join(f'`{name}`' for name in names[:_SHOWN]) or 'none'}{more}",
            f"- **whole list**: `{folder.relative_to(run.project.root) / 'actions.txt'}`",
        ]
    )
