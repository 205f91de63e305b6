"""`loop quarantine`: rows that were refused, why, and how they come back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from pipelines.cli.output import emit, say, summary, table
from pipelines.flows.edge import Run, bind, bind_source
from pipelines.settings import Project

quarantine_app = typer.Typer(
    help="Rows that ingest refused: with row, field and reason.", no_args_is_help=True
)

Case = Annotated[str, typer.Argument(help="the case study")]
Live = Annotated[bool, typer.Option("--live", help="look in live/ instead of runs/")]
Source = Annotated[str | None, typer.Option(help="look in the workspace of `loop run --source`")]
Table = Annotated[str | None, typer.Option(help="one table; default all")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON on stdout")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(quarantine_app, name="quarantine")


@quarantine_app.command("list")
def list_(case: Case, live: Live = False, source: Source = None, as_json: AsJson = False) -> None:
    """Count the refused rows by table, field and reason."""
    from pipelines.steps.quarantine import list_quarantine

    rows = [asdict(problem) for problem in list_quarantine(_bind(case, live, source).workspace)]
    if as_json:
        emit(rows)
    elif rows:
        table(list(rows[0]), [list(map(str, row.values())) for row in rows], asked=True)
    else:
        say("the quarantine is empty", asked=True)


@quarantine_app.command()
def show(
    case: Case,
    live: Live = False,
    source: Source = None,
    table: Table = None,
    limit: Annotated[int, typer.Option(help="how many rows at most")] = 20,
) -> None:
    """Print refused rows as JSON: origin, row number, problems, and the row as it was read."""
    from pipelines.steps.quarantine import show_quarantine

    emit(show_quarantine(_bind(case, live, source).workspace, table, limit))


@quarantine_app.command()
def replay(case: Case, live: Live = False, source: Source = None, table: Table = None) -> None:
    """Ingest the refused rows again, as they stand in the quarantine's files now."""
    from pipelines.steps.quarantine import replay_quarantine

    run = _bind(case, live, source)
    with run.workspace.lock():
        say(summary(replay_quarantine(run.case, run.workspace, _present(run, live), table, run.limits)))


def _present(run: Run, live: bool) -> datetime:
    """Return by when rows may have arrived: now, or in a run that ended as its newest rows were taken in."""
    from pipelines.flows import clock
    from pipelines.steps.ingest import manifests

    if live:
        return clock.read(run.workspace).now()
    return max([run.as_of, *(datetime.fromisoformat(each["as_of"]) for each in manifests(run.workspace))])


def _bind(case: str, live: bool, source: str | None) -> Run:
    project = Project.find()
    if source is not None:
        return bind_source(project, case, source)
    if live:
        from pipelines.flows.live import bind_live

        return bind_live(project, case)
    return bind(project, case)
