"""`loop reproduce`: build a registered version again from its record, and compare."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.output import emit, say
from pipelines.errors import LoopError, UsageError, nearest
from pipelines.settings import Project

if TYPE_CHECKING:
    from pipelines.stores.registry import Registry, Version

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(reproduce)


def reproduce(
    model: Annotated[str, typer.Argument(help="models:/<name>@<alias> or models:/<name>/<version>")],
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Rebuild a version from what its run recorded, and compare digests; name the inputs that changed."""
    from pipelines import catalog
    from pipelines.steps.reproduce import reproduce as rebuild
    from pipelines.stores.models import read_record
    from pipelines.stores.registry import Registry
    from pipelines.stores.workspace import Workspace

    project = Project.find()
    name, alias, number = parse_uri(model)
    registry = Registry(project.tracking_uri, project.artifact_root, name)
    version = find_version(registry, alias, number)
    folder = registry.load(version)
    record = read_record(folder)
    case = catalog.case(record["case"])
    ws = Workspace(project.root / version.origin / record["name"])
    where = f"{ws.origin}/{ws.name}"
    say(f"{name} version {version.number}: as of {record['as_of']}, trained in {where}; rebuilding ...")
    ws.root.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with TemporaryDirectory(prefix=f".{ws.name}.", dir=ws.root.parent) as scratch:
        today = project.case_params(case.name)
        found = rebuild(case, ws, folder, today, project.platform, Path(scratch))
    if as_json:
        emit(
            {
                "model": name,
                "version": version.number,
                "case": case.name,
                "workspace": where,
                "as_of": record["as_of"],
                "protocol": record["protocol"],
                "digest": found.digest,
                "rebuilt": found.rebuilt,
                "reproduced": found.same,
                "changes": [asdict(change) for change in found.changes],
                "seconds": round(time.perf_counter() - started, 2),
            }
        )
    said = f"{name} version {version.number}: {found.summary()}"
    if not found.same:
        raise LoopError(said)
    say(said)


def parse_uri(text: str) -> tuple[str, str | None, str | None]:
    """Split a model's URI into name, alias and version, one of the last two."""
    found = _URI.fullmatch(text)
    if found is None:
        raise UsageError(
            f"'{text}' names no model: write models:/<name>@champion, or models:/<name>/<version>, as MLflow does"
        )
    return found["name"], found["alias"], found["number"]


def find_version(registry: Registry, alias: str | None, number: str | None) -> Version:
    """Find a registered version; UsageError where there is none of that name."""
    versions = {version.number: version for version in registry.versions()}
    if not versions:
        raise UsageError(f"no model '{registry.name}' is registered: `loop status` lists what stands")
    aliases = registry.aliases()
    if alias is not None and alias not in aliases:
        raise UsageError(f"{registry.name} has no alias '{alias}': {nearest(alias, aliases)}")
    chosen = aliases[alias] if alias is not None else str(number)
    if chosen not in versions:
        raise UsageError(f"{registry.name} has no version {chosen}: {nearest(chosen, versions)}")
    return versions[chosen]
