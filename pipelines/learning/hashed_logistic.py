"""Logistic regression on hashed categories and their crosses: the workhorse of click prediction before trees.

Each category, and each pair of categories that is asked for, owns a weight in a table of 2^bits, found by a
hash of its words (Weinberger et al., ICML 2009; McMahan et al., KDD 2013). The hash is the same in every
process. Weights are fitted with an L2 penalty by L-BFGS (Nocedal & Wright 2006, algorithm 7.5), written out here:
scipy's adds up by threads, so that its weights differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.learning.calibration import logit, sigmoid
from pipelines.stores.files import read_json, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
_MEMORY = 10
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads neighbouring hashes


@dataclass(frozen=True)
class HashedLogistic:
    """Fitted weights (2^bits,) of columns and crosses; `base` is the logit of the rate."""

    columns: tuple[str, ...]
    crosses: tuple[tuple[str, str], ...]
    base: float
    weights: Floats

    def logits(self, rows: pl.DataFrame) -> Floats:
        """Return the log odds of each row, shape (n,); missing columns and values are a category."""
        bits = int(np.log2(len(self.weights)))
        found: Floats = self.base + hashed(rows, self.columns, self.crosses, bits) @ self.weights
        return found

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return the probability of each row, shape (n,)."""
        return sigmoid(self.logits(rows))

    def save(self, folder: Path, name: str) -> None:
        """Write the weights that are not 0 (Parquet), and what they are the weights of (JSON)."""
        used = np.flatnonzero(self.weights)
        pl.DataFrame({"slot": used, "weight": self.weights[used]}).write_parquet(folder / f"{name}.parquet")
        told = {
            "columns": self.columns,
            "crosses": self.crosses,
            "base": self.base,
            "size": len(self.weights),
        }
        write_json(folder / f"{name}.json", told)

    @classmethod
    def load(cls, folder: Path, name: str) -> HashedLogistic:
        """Read what `save` wrote."""
        told = read_json(folder / f"{name}.json")
        used = pl.read_parquet(folder / f"{name}.parquet")
        weights = np.zeros(told["size"])
        weights[used["slot"].to_numpy()] = used["weight"].to_numpy()
        crosses = tuple((one, other) for one, other in told["crosses"])
        return cls(tuple(told["columns"]), crosses, told["base"], weights)


def fit_hashed_logistic(
    rows: pl.DataFrame,
    labels: Floats,
    columns: Sequence[str],
    crosses: Sequence[tuple[str, str]],
    bits: int = 16,
    penalty: float = 5.0,
    steps: int = 40,
) -> HashedLogistic:
    """Fit weights to labels (n,) of 0 and 1; `penalty` is that of the squared weights, over all rows."""
    design = hashed(rows, columns, crosses, bits)
    across = design.T.tocsr()
    base = float(logit((labels.sum() + 0.5) / (len(labels) + 1)))

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = base + design @ weights
        total = (np.logaddexp(0.0, logits) - labels * logits).sum() + penalty / 2 * _dot(weights, weights)
        return float(total), across @ (sigmoid(logits) - labels) + penalty * weights

    weights = _minimise(loss, np.zeros(design.shape[1]), steps)
    return HashedLogistic(tuple(columns), tuple(crosses), base, weights)


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], at: Floats, steps: int) -> Floats:
    """Go down a smooth convex function, `loss` giving value and gradient, for at most so many steps."""
    value, slope = loss(at)
    pairs: list[tuple[Floats, Floats]] = []
    for _ in range(steps):
        way = -_inverse_curvature(slope, pairs)
        size = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(slope).max() + 1e-12))
        fall = _dot(slope, way)
        while (found := loss(at + size * way))[0] > value + 1e-4 * size * fall and size > 1e-10:
            size /= 2
        moved, turned = size * way, found[1] - slope
        if _dot(moved, turned) > 1e-12:
            pairs = [*pairs[1 - _MEMORY :], (moved, turned)]
        at, gained = at + moved, value - found[0]
        value, slope = found
        if gained < 1e-9 * abs(value):
            break
    return at


def _inverse_curvature(slope: Floats, pairs: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Multiply a gradient by the inverse curvature that the latest steps suggest (two loops)."""
    shares = []
    for moved, turned in reversed(pairs):
        shares.append(_dot(moved, slope) / _dot(moved, turned))
        slope = slope - shares[-1] * turned
    if pairs:
        moved, turned = pairs[-1]
        slope = slope * (_dot(moved, turned) / _dot(turned, turned))
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        slope = slope + (share - _dot(turned, slope) / _dot(moved, turned)) * moved
    return slope


def _dot(one: Floats, other: Floats) -> float:
    return float((one * other).sum())


def hashed(
    rows: pl.DataFrame, columns: Sequence[str], crosses: Sequence[tuple[str, str]], bits: int
) -> csr_matrix:
    """Return the rows as a sparse matrix of ones, shape (n, 2^bits)."""
    from scipy.sparse import csr_matrix

    single = {name: _hashes(rows, name) for name in columns}
    parts = [*single.values(), *(_crossed(single[one], single[other]) for one, other in crosses)]
    shift = np.uint64(64 - bits)
    slots = np.column_stack([((each * _MIX) >> shift).astype(np.int64) for each in parts])
    ends = np.arange(0, slots.size + 1, slots.shape[1])
    return csr_matrix((np.ones(slots.size), slots.ravel(), ends), shape=(rows.height, 1 << bits))


def _crossed(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (one ^ (one >> np.uint64(29))) * _MIX + other


def _hashes(rows: pl.DataFrame, name: str) -> NDArray[np.uint64]:
    """Hash a column's words with its name; each distinct word once."""
    if name not in rows.columns:
        return np.full(rows.height, _hash(name, None), dtype=np.uint64)
    words = rows[name].cast(pl.String)
    known = words.unique()
    table = {word: _hash(name, word) for word in known.to_list()}
    return words.replace_strict(table, return_dtype=pl.UInt64).to_numpy()


def _hash(name: str, word: Any) -> int:
    return int.from_bytes(blake2b(f"{name}={word}".encode(), digest_size=8).digest(), "little")
