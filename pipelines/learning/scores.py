"""What the scorers of one protocol reached, resampled in pairs, kept on disk and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.case_study import Measured, Statistic
from pipelines.errors import LoopError
from pipelines.learning.bootstrap import Resampled, resample

EVERYWHERE = ""
"""The slice of all units."""

Key = tuple[str, str, str]
"""(scorer, metric, slice)"""


@dataclass(frozen=True)
class Scores:
    """Resampled statistics by (scorer, metric, slice), and what units each metric was measured on."""

    found: Mapping[Key, Resampled]
    units: Mapping[str, str]

    def get(self, scorer: str, metric: str, slice_: str = EVERYWHERE) -> Resampled | None:
        """Return what a scorer reached; None where the metric does not apply to it."""
        return self.found.get((scorer, metric, slice_))

    def difference(self, scorer: str, other: str, metric: str, slice_: str = EVERYWHERE) -> Resampled | None:
        """Subtract the other scorer's metric, in pairs; None where one of the two has none."""
        mine, theirs = self.get(scorer, metric, slice_), self.get(other, metric, slice_)
        return None if mine is None or theirs is None else mine - theirs

    def scorers(self) -> list[str]:
        """List the scorers, in the order in which they were measured."""
        return list(dict.fromkeys(scorer for scorer, _, _ in self.found))

    def metrics(self, scorer: str) -> list[str]:
        """List the metrics that apply to a scorer."""
        return [metric for who, metric, where in self.found if who == scorer and where == EVERYWHERE]

    def slices(self) -> list[str]:
        """List the slices."""
        return list(dict.fromkeys(where for _, _, where in self.found if where != EVERYWHERE))

    def merged(self, other: Scores) -> Scores:
        """Add scorers that were measured later; raise LoopError where the units are not the same."""
        for metric, units in other.units.items():
            if self.units.get(metric, units) != units:
                raise LoopError(
                    f"'{metric}' was measured on other units than before: the rows changed between the two; "
                    "evaluate again"
                )
        return Scores({**self.found, **other.found}, {**self.units, **other.units})

    def save(self, path: Path) -> None:
        """Write the scores with all their resamples (Parquet)."""
        rows = [
            {
                "scorer": scorer,
                "metric": metric,
                "slice": where,
                "units": self.units[metric],
                "n": each.n,
                "value": each.value,
                "resamples": each.replicates,
            }
            for (scorer, metric, where), each in self.found.items()
        ]
        pl.DataFrame(rows).write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read what `save` wrote."""
        found: dict[Key, Resampled] = {}
        units: dict[str, str] = {}
        for row in pl.read_parquet(path).iter_rows(named=True):
            key = (row["scorer"], row["metric"], row["slice"])
            found[key] = Resampled(row["value"], np.array(row["resamples"], dtype=float), row["n"])
            units[row["metric"]] = row["units"]
        return cls(found, units)


def narrowed(measured: Measured, *metrics: str) -> Measured:
    """Keep some metrics and no slices: resampling what nobody asks for takes most of the time."""
    found = measured.statistics
    return Measured({name: found[name] for name in metrics if name in found}, {})


def score(measured: Mapping[str, Measured], primary: str, resamples: int, seed: int) -> Scores:
    """Resample every metric of every scorer, and the primary metric on every slice.

    Metrics over the same units share their draws, across scorers and metrics alike. Raise LoopError
    where two scorers were measured on different units, which no pairing could mend.
    """
    groups: dict[str, dict[Key, tuple[Statistic, np.ndarray | None]]] = {}
    units: dict[str, str] = {}
    for scorer, each in measured.items():
        for metric, statistic in each.statistics.items():
            identity = _identity(statistic.units)
            if units.setdefault(metric, identity) != identity:
                raise LoopError(
                    f"'{scorer}' was measured on other units than the scorers before it, by '{metric}': a "
                    "protocol's "
                    "measure must return the same units in the same order for every scorer"
                )
            group = groups.setdefault(identity, {})
            group[scorer, metric, EVERYWHERE] = (statistic, None)
            if metric == primary:
                for name, mask in _slices(scorer, each, statistic):
                    group[scorer, metric, name] = (statistic, mask)
    found: dict[Key, Resampled] = {}
    for group in groups.values():
        found.update(resample(group, resamples, seed))
    order = {scorer: place for place, scorer in enumerate(measured)}
    return Scores(dict(sorted(found.items(), key=lambda item: order[item[0][0]])), units)


def _slices(scorer: str, measured: Measured, statistic: Statistic) -> Iterator[tuple[str, np.ndarray]]:
    for name, mask in measured.slices.items():
        if len(mask) != len(statistic.units):
            raise LoopError(
                f"slice '{name}' of '{scorer}' marks {len(mask)} units, its primary metric has "
                f"{len(statistic.units)}"
            )
        if np.any(mask):
            yield name, np.asarray(mask, dtype=bool)


def _identity(units: np.ndarray) -> str:
    digest = hashlib.sha256()
    for unit in units.tolist():
        digest.update(f"{unit}\n".encode())
    return digest.hexdigest()[:16]
