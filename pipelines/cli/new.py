"""`loop new`: a case study that works from the first minute, to be replaced part by part."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.output import say
from pipelines.settings import Project


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(new)


def new(
    case: Annotated[str, typer.Argument(help="its name: lower case letters, digits, underscores")],
) -> None:
    """Write the files of a new case study: a small system with a simulated world, whole and served."""
    from pipelines.flows.new_case import new_case

    root = Project.find().root
    for path in new_case(root, case):
        say(f"  {path.relative_to(root)}")
    say(
        f"\n{case} works as it stands. Next:\n"
        "  loop sync                                # its deployments, in prefect.yaml\n"
        f"  pytest tests/contract -k {case}\n"
        f"  dvc repro monitor@{case} promote@{case}\n"
        f"Then replace it part by part: pipelines/cases/{case}/tables.py comes first, with world.py.\n"
        "docs/how-to/add-a-case.md says in which order, and what shows that each part works."
    )
