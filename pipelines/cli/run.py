"""`loop run`: one system on real rows, from the files a publisher gives to a registered version."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.output import emit, say, table
from pipelines.cli.steps import moment
from pipelines.settings import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(run)


def run(
    case: Annotated[str, typer.Argument(help="the case study")],
    source: Annotated[str, typer.Option(help="the kind of files, by name; an unknown one lists the known")],
    data: Annotated[str, typer.Option(help="the folder or base URL that holds the files")],
    protocol: Annotated[
        str, typer.Option(help="how to judge: one of the source's protocols, or all")
    ] = "all",
    as_of: Annotated[str | None, typer.Option(help="read only what had arrived by then (ISO 8601)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")] = False,
) -> None:
    """Ingest real data, train, evaluate, register and gate, in a workspace of its own."""
    from pipelines.flows.real import describe, run_source

    result = run_source(Project.find(), case, source, data, protocol, moment(as_of), say)
    if as_json:
        emit(result)
        return
    for each in result["protocols"]:
        say(f"\nprotocol {each['protocol']}")
        for name, text in each["describe"].items():
            say(f"  {name}: {text}")
        table(*describe(each))
        say(each["verdict"])
        for note in each["notes"]:
            say(f"  {note}")
    rows = result["rows"]
    say(
        f"\nrows: {rows['read']} read = {rows['kept']} kept + {rows['duplicate']} duplicate "
        f"+ {rows['quarantined']} quarantined"
    )
    say(
        f"registered {result['model']} version {result['version']} ({result['alias'] or 'no alias'}): "
        f"{result['why']}"
    )
    say("seconds: " + ", ".join(f"{step} {spent:.1f}" for step, spent in result["seconds"].items()))
