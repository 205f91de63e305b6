"""What a world carries from one day to the next, as a folder that is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.errors import DataError
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.world.policy import Memory

_CLOCK = "world.json"


@dataclass
class State:
    """Where a world stands: `origin` and `next_day` count days since 1970.

    `pending` are rows that happened but have not arrived yet, by table.
    """

    params: Mapping[str, Any]
    seed: int
    origin: int
    next_day: int
    memory: Memory
    pending: Mapping[str, pl.DataFrame]

    def save(self, folder: Path) -> None:
        """Replace the folder with this state."""
        with write_folder_aside(folder) as aside:
            memory = self.memory
            np.savez_compressed(
                aside / "memory.npz",
                first=np.array([memory.first_actor, memory.first_item]),
                score=memory.score,
                shape=np.array(memory.seen.shape),
                seen=np.packbits(memory.seen),
            )
            for table, rows in self.pending.items():
                rows.write_parquet(aside / f"{table}.parquet")
            clock = {"origin": self.origin, "next_day": self.next_day, "seed": self.seed}
            write_json(aside / _CLOCK, clock | {"params": self.params})

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """Read the folder; None where no world has begun."""
        if not (folder / _CLOCK).is_file():
            return None
        clock = read_json(folder / _CLOCK)
        with np.load(folder / "memory.npz", allow_pickle=False) as stored:
            actors, items = (int(size) for size in stored["shape"])
            seen = np.unpackbits(stored["seen"], count=actors * items).astype(bool).reshape(actors, items)
            first_actor, first_item = (int(row) for row in stored["first"])
            memory = Memory(first_actor, first_item, stored["score"], seen)
        pending = {path.stem: pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
        return cls(clock["params"], clock["seed"], clock["origin"], clock["next_day"], memory, pending)


def midnight(day: int) -> datetime:
    """Write a world day as the UTC midnight that begins it."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)


def world_day(moment: datetime) -> int:
    """Count the days from 1970 to a UTC midnight; any other moment is a DataError."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    if since % timedelta(days=1):
        raise DataError(f"a world's days begin at midnight UTC, not at {moment.isoformat()}")
    return since.days


@dataclass(frozen=True)
class Clock:
    """When a stored world began, and which day it will write next (UTC midnights)."""

    origin: datetime
    next_day: datetime


def read_clock(folder: Path) -> Clock | None:
    """Tell where the world in a state folder stands; None where none has begun."""
    if not (folder / _CLOCK).is_file():
        return None
    clock = read_json(folder / _CLOCK)
    return Clock(midnight(clock["origin"]), midnight(clock["next_day"]))
