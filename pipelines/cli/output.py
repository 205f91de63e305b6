"""What the command line says: on its way, to stderr; what was asked for, as JSON or in words, to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def say(text: str, *, asked: bool = False) -> None:
    """Tell a person; what was `asked` for can be piped on."""
    (sys.stdout if asked else sys.stderr).write(text + "\n")


def emit(result: Any) -> None:
    """Give a machine its JSON: keys sorted, and nothing else on stdout."""
    sys.stdout.write(json.dumps(result, indent=2, sort_keys=True, default=str) + "\n")


def summary(result: Any) -> str:
    """Say in a line what a step did."""
    return str(result.summary()) if hasattr(result, "summary") else str(result)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, asked: bool = False) -> None:
    """Show a person a table, `asked` for as in `say`.

    Figures stand to the right, and no cell is broken over lines.
    """
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    # A narrow terminal, or none, wraps whole lines: better than columns of two letters.
    console = Console(stderr=not asked, highlight=False)
    natural = console.measure(shown, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, natural)
    console.print(shown)
