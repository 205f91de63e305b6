"""The `loop` command. `loop --help` lists what it does; heavy libraries are imported by what needs them."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from pipelines.errors import LoopError

app = typer.Typer(
    name="loop",
    help="Machine-learning systems as closed loops: from raw events to a champion, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def choose(
    profile: Annotated[
        str | None,
        typer.Option(
            help="the platform's settings, configs/<profile>.yaml; default LOOP_PROFILE, or embedded"
        ),
    ] = None,
) -> None:
    """Choose the profile for this command and for every process that it starts."""
    if profile is not None:
        os.environ["LOOP_PROFILE"] = profile


def main() -> None:
    """Run the command line; print a mendable error as one message, without a traceback."""
    quiet_libraries()
    from pipelines.cli import data, experiment, live, new, reproduce, run, serve, status, steps, timelapse

    for part in (new, steps, run, reproduce, status, data, live, serve, experiment, timelapse):
        part.register(app)
    try:
        app()
    except LoopError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None


def quiet_libraries() -> None:
    """Switch off telemetry, unsafe loading and libraries' chatter, whatever the shell says."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    # Libraries' advice to their own authors; what a user can mend is said by our own errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
