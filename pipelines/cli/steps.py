"""`loop step`, `loop rollback`, `loop registry`: one step at a time, as DVC's stages call them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.output import say, summary
from pipelines.errors import UsageError
from pipelines.settings import Project

registry_app = typer.Typer(help="The model registry's store.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(step)
    app.command()(rollback)
    app.add_typer(registry_app, name="registry")


def step(
    name: Annotated[str, typer.Argument(help="ingest, features, train, evaluate, promote or monitor")],
    case: Annotated[str, typer.Argument(help="the case study")],
    live: Annotated[bool, typer.Option("--live", help="work in live/ instead of runs/")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(help="the moment (ISO 8601, UTC); default params.yaml's, or the live clock's"),
    ] = None,
) -> None:
    """Run one step of a case in its workspace.

    A live one ingests what its action log received, and its features go online, as in a watch.
    """
    from pipelines.flows import clock, work
    from pipelines.flows.edge import bind, perform
    from pipelines.flows.live import bind_live

    project, at = Project.find(), moment(as_of)
    run = bind_live(project, case, as_of=at) if live else bind(project, case, as_of=at)
    say(f"{name} {case} ...")
    if live and name == "ingest":
        result = work.take_in(run, at or clock.read(run.workspace).now())
    else:
        result = perform(run, name)
    say(f"{name} {case}: {summary(result)}")
    if live and name == "features":
        work.materialize(run)


def rollback(
    case: Annotated[str, typer.Argument(help="the case study, or a registered model's name")],
) -> None:
    """Make the previous champion the champion again."""
    from pipelines.steps.promote import rollback as roll_back
    from pipelines.stores.registry import Registry

    project = Project.find()
    registry = Registry(project.tracking_uri, project.artifact_root, case)
    say(summary(roll_back(registry)))


@registry_app.command()
def retire(
    model: Annotated[str, typer.Argument(help="the registered model's name")],
    reason: Annotated[str, typer.Option(help="why, for the record")] = "asked for",
) -> None:
    """Let the champion step down where it can no longer be scored; nothing serves until the next one."""
    from pipelines.steps.promote import retire as step_down
    from pipelines.stores.registry import Registry

    project = Project.find()
    say(step_down(Registry(project.tracking_uri, project.artifact_root, model), reason))


@registry_app.command("id")
def registry_id(path: Annotated[Path, typer.Argument(help="the file to write it to")]) -> None:
    """Make sure that the registry's store exists, and write its identity.

    The identity changes when the store is wiped, so that DVC promotes into the new one again.
    """
    from pipelines.stores.registry import store_identity

    identity = store_identity(Project.find().tracking_uri)
    if not path.exists() or path.read_text() != identity:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(identity)


def moment(text: str | None) -> datetime | None:
    """Read an aware time stamp."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--as-of '{text}' is no ISO 8601 time, such as 2026-03-01T00:00:00Z") from None
    if found.tzinfo is None:
        written = text if "T" in text or " " in text else f"{text}T00:00:00"
        raise UsageError(f"--as-of '{text}' names no time zone: write {written}Z for UTC")
    return found
