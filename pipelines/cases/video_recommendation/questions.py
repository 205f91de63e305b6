"""What a protocol (or a service) asks of a scorer: whom to answer, from which catalogue, without what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import (
    Histories,
    codes,
    rows_histories,
    served_histories,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Questions:
    """n requests at one day's state of the world.

    `people` (n rows) has user_id, device, user_country, user_language and, where there is an order of time,
    the user's service features. `catalogue` are the videos that may be answered (video_id and profile, sorted),
    `videos` their service features or None, `day` the moment of both (UTC days since 1970), `now` (n,) each
    request's own. `seen` (n, catalogue) is nonzero where a video must not be answered. `watches` are what
    histories are read from where the service's are missing.
    """

    people: pl.DataFrame
    catalogue: pl.DataFrame
    videos: pl.DataFrame | None
    day: float
    now: NDArray[np.float64]
    seen: csr_matrix
    watches: pl.DataFrame | None = None

    def __len__(self) -> int:
        return self.people.height

    def histories(self, ids: list[str]) -> Histories:
        """Read each request's history over a catalogue of ids: the service's, or all watches."""
        if "recent_videos" in self.people.columns:
            return served_histories(self.people, ids, self.now)
        assert self.watches is not None, "requests need a history: the service's, or the watches themselves"
        return rows_histories(self.watches, self.people["user_id"], ids, self.now)

    def placed(self, ids: list[str]) -> Placed:
        """Lay the allowed videos over another catalogue, which must hold them all."""
        return Placed(codes(self.catalogue["video_id"], ids), len(ids), self.seen)


@dataclass(frozen=True)
class Placed:
    """Which videos of another catalogue (of `size`) may be answered: `place` (allowed,) are their rows."""

    place: Ints
    size: int
    seen: csr_matrix

    def part(self, low: int, high: int) -> Placed:
        """Take the requests [low, high)."""
        return Placed(self.place, self.size, self.seen[low:high])

    def matrix(self) -> NDArray[np.bool_]:
        """Return what may be answered, (n, size)."""
        allowed = np.zeros((self.seen.shape[0], self.size), dtype=bool)
        allowed[:, self.place] = np.asarray(self.seen.todense()) == 0
        return allowed

    def back(self, items: Ints) -> Ints:
        """Turn rows of the other catalogue into rows of the asked one; -1 stays."""
        row = np.full(self.size + 1, -1, dtype=np.int64)
        row[self.place] = np.arange(len(self.place))
        return row[items]
