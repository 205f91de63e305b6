"""A process that appends from several threads until it is killed; run by test_action_log_faults.py.

Usage: log_writer.py FOLDER ENGINE SEED. Each acknowledged append is told in a line: its id and its offset.
The id ends in the number of its rows. With LOG_ROOM=BYTES, files may grow so far: it tells "full" when they
have, gives itself more room, appends once more, and ends.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.settings import PostgresLog, SqliteLog
from pipelines.stores.action_log import ActionLog, LogFull, open_action_log
from pipelines.stores.workspace import Workspace

THREADS = 4


def tell(*words: object) -> None:
    """Write a line at once: what was told survives the kill."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def write(log: ActionLog, seed: int, thread: int) -> None:
    """Append batches of 1 to 200 rows, every one with the append's id and some ballast."""
    rng = np.random.default_rng([seed, thread])
    for number in range(10_000):
        rows = int(rng.integers(1, 200))
        name = f"{seed}-{thread}-{number}-{rows}"
        frame = pl.DataFrame({"id": [name] * rows, "ballast": rng.bytes(32 * rows).hex()[:rows]})
        tell(name, log.append("actions", frame))


def fill(log: ActionLog) -> None:
    """Append until the disk is full, then once more with room again."""
    rng = np.random.default_rng(0)
    for number in range(10_000):
        name = f"0-0-{number}-100"
        ballast = [rng.bytes(100).hex() for _ in range(100)]
        frame = pl.DataFrame({"id": [name] * 100, "ballast": ballast})
        try:
            tell(name, log.append("actions", frame))
        except LogFull:
            tell("full", number)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            tell(
                f"1-0-{number}-100", log.append("actions", frame.with_columns(id=pl.lit(f"1-0-{number}-100")))
            )
            return


def main() -> None:
    folder, engine, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    settings = SqliteLog() if engine == "sqlite" else PostgresLog(engine="postgres", url=engine)
    log = open_action_log(settings, Workspace(folder))
    if room := os.environ.get("LOG_ROOM"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        fill(log)
        return
    threads = [threading.Thread(target=write, args=(log, seed, thread)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
