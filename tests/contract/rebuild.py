"""Build a case from batches that lie in files, in a process that has one core and no world.

Usage: rebuild.py CASE BATCHES, in the project that LOOP_ROOT names. The world comes into reach for
`evaluate` alone, whose judge it is; then it is asked for its rows, and their digest is printed.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import polars as pl

from pipelines.case_study import Batch
from pipelines.flows.edge import bind, perform, world_batches
from pipelines.settings import Project
from pipelines.steps.ingest import ingest
from pipelines.stores.files import read_json


class NoWorld:
    """Keeps every simulated world from being imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.startswith("pipelines.") and "world" in name.split("."):
            raise ImportError(f"the truth is not for training: {name}")
        return None


def batches(folder: Path) -> Iterator[Batch]:
    """Read what the test shelved."""
    for number, entry in enumerate(read_json(folder / "index.json")):
        yield Batch(rows=pl.read_parquet(folder / f"{number}.parquet"), **entry)


def rows_digest(found: Iterable[Batch]) -> str:
    """Hash batches: their rows in order, to the last bit."""
    digest = hashlib.sha256()
    for batch in found:
        digest.update(f"{batch.table} {batch.origin} {batch.first_row}".encode())
        digest.update(batch.rows.write_json().encode())
    return digest.hexdigest()


def main() -> None:
    name, folder = sys.argv[1:]
    guard = NoWorld()
    sys.meta_path.insert(0, guard)  # type: ignore[arg-type]
    run = bind(Project.find(), name)
    ingest(run.case, run.workspace, batches(Path(folder)), source="world", as_of=run.as_of)
    for step in ("features", "train"):
        perform(run, step)
    sys.meta_path.remove(guard)  # type: ignore[arg-type]
    perform(run, "evaluate")
    print(rows_digest(world_batches(run)))


if __name__ == "__main__":
    main()
