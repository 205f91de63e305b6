"""`loop serve` and `loop parity`: answers over HTTP, and whether they see what training sees."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.output import emit, say
from pipelines.errors import LoopError
from pipelines.settings import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(serve)
    app.command()(parity)


def serve(
    cases: Annotated[
        list[str] | None, typer.Argument(help="cases to serve; default all that are live")
    ] = None,
    port: Annotated[int, typer.Option(help="the port; 0 takes a free one")] = 8000,
    host: Annotated[
        str, typer.Option(help="the address; others than this machine's need LOOP_API_KEYS")
    ] = "127.0.0.1",
) -> None:
    """Serve the champions: /v1/<case>/decide, /v1/<case>/actions; /docs describes them."""
    import os

    from pipelines.serving.keys import VARIABLE, Keys

    keys = Keys.parse(os.environ.get(VARIABLE, ""))
    keys.check_bind(host)
    say("loading ...")
    from pipelines.flows.serve import open_services
    from pipelines.serving.app import make_app
    from pipelines.serving.run import run

    services = open_services(Project.find(), cases or ())
    for name, service in services.items():
        first = service.state.first
        who = (
            f"version {first.version}, the champion"
            if first.version
            else "the heuristic: there is no champion yet"
        )
        say(f"{name}: {who}")
    run(make_app(services, keys), host, port, say)
    for service in services.values():
        service.close()


def parity(
    case: Annotated[str, typer.Argument(help="the case study")],
    days: Annotated[int, typer.Option(min=1, help="how many days back to look")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare the features that answers were given with to what training would be given."""
    from pipelines.flows.serve import check_parity

    found = check_parity(Project.find(), case, days)
    if as_json:
        emit(found.to_json())
    else:
        say(found.summary())
    if not found.equal:
        named = "; ".join(
            f"{each['feature']} of request {each['request_id']}: served {each['served']}, expected {each['expected']}"
            for each in found.examples
        )
        raise LoopError(f"serving and training do not see the same features: {named}")
