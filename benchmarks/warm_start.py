"""Tell how much of a retrain a warm start could save at most: the time that optimisers take in it.

    python benchmarks/warm_start.py [--case ad_click]

A retrain that continues from the champion saves steps of its optimisers and nothing else: rows are folded, features
joined, models measured as before. For each case of `runs/` (`make demo` makes them) a copy is retrained from
scratch, features to evaluation; `at most` is the optimisers' share of its processor time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightgbm

from pipelines import catalog
from pipelines.cli.output import table
from pipelines.flows.edge import bind, perform
from pipelines.learning.hashed_logistic import fit_hashed_logistic
from pipelines.learning.logistic import fit_logistic
from pipelines.learning.two_tower import fit_two_tower
from pipelines.settings import Project

STEPS = ("features", "train", "evaluate")
OPTIMISERS: dict[Callable[..., Any], str] = {
    lightgbm.train: "trees",
    fit_hashed_logistic: "logistic regression",
    fit_logistic: "logistic regression",
    fit_two_tower: "two-tower network",
}
COPIED = ("configs", "feature_repo", "params.yaml")
COLUMNS = ("case", "a retrain, s", "of it training", "optimisers, s", "at most")


def main() -> None:
    """Measure what is asked for and print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=catalog.names())
    rows = []
    for name in parser.parse_args().case or catalog.names():
        root = Project.find().root
        if not (root / "runs" / name / "model").is_dir():
            sys.exit(f"runs/{name} holds no run: run `make demo` first")
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, root, Path(folder)))
        sys.stderr.write("  ".join(rows[-1]) + "\n")
    table(COLUMNS, rows)


def measure(name: str, root: Path, folder: Path) -> Sequence[str]:
    """Retrain a copy of a run, and lay out what its optimisers took."""
    for each in (*COPIED, f"runs/{name}"):
        copy = shutil.copytree if (root / each).is_dir() else shutil.copy
        copy(root / each, folder / each)
    with patch.dict(os.environ, {"LOOP_ROOT": str(folder)}):
        run = bind(Project.find(), name)
    spent: dict[str, float] = {}
    with watched(spent):
        for step in STEPS:
            with timed(spent, step):
                perform(run, step)
    whole = sum(spent[step] for step in STEPS)
    parts = {what: spent[what] for what in OPTIMISERS.values() if what in spent}
    told = ", ".join(f"{what} {seconds:.1f}" for what, seconds in parts.items())
    return (
        name,
        f"{whole:.1f}",
        f"{spent['train']:.1f}",
        told,
        f"{sum(parts.values()) / whole:.0%}",
    )


@contextmanager
def watched(spent: dict[str, float]) -> Iterator[None]:
    """Add up the processor time of every optimiser that a case calls, by whatever name it imported it."""
    cases = [module for name, module in sys.modules.items() if name.startswith("pipelines.cases.")]
    with ExitStack() as stack:
        for call, what in OPTIMISERS.items():
            for holder in (sys.modules["lightgbm"], *cases):
                if vars(holder).get(call.__name__) is call:
                    stack.enter_context(patch.object(holder, call.__name__, noted(call, what, spent)))
        yield


def noted(call: Callable[..., Any], what: str, spent: dict[str, float]) -> Callable[..., Any]:
    """Time each call of a function under a name."""

    def wrapped(*given: Any, **named: Any) -> Any:
        with timed(spent, what):
            return call(*given, **named)

    return wrapped


@contextmanager
def timed(spent: dict[str, float], what: str) -> Iterator[None]:
    """Add processor seconds to a name."""
    started = time.process_time()
    yield
    spent[what] = spent.get(what, 0.0) + time.process_time() - started


if __name__ == "__main__":
    main()
