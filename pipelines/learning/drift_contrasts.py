"""Counts become contrasts: a few numbers a day that say how a column's rows lie against the reference's.

A numeric column gives the components of Neyman's smooth test: averages of orthonormal polynomials of the
row's rank in the reference (level, spread, skew, shape). A categorical one gives the share of each level.
Both also give the shares of missing values and of values that the reference never held. Every contrast
is in units of one row's standard deviation, so that a normal column shifted by 0.3 sd shows about 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.learning.drift_cells import Column

UNSEEN = ("outside", "new levels")  # what the reference never held
DEGREES = ("level", "spread", "skew", "shape")
RARE = 0.001  # a share's standard deviation is taken at least as if the share were this
EXPECTED_ROWS = 5.0  # … or as if this many rows a day were expected: below, counts are far from normal


@dataclass(frozen=True)
class Contrasts:
    """A column's contrasts: names, and the weights (cells, k) whose row-average each of the cells' is.

    `missing` (share, unit) is the reference's share of missing values, None where it is not watched; its
    contrast is the last. `rare` marks those that the reference shows too little of to know their noise,
    and `inflation` how many times noisier than independent rows the column's other contrasts were.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    missing: tuple[float, float] | None
    rare: tuple[bool, ...]
    inflation: float


def make_contrasts(
    column: Column, cells: np.ndarray, rows: np.ndarray, unseen: float, inflation: float = 1.0
) -> Contrasts:
    """Choose a column's contrasts from its reference cells (D, k) and rows (D,).

    `unseen` is the share of rows that would be new, had the reference ended in its middle.
    """
    total = cells.sum(axis=0).astype(float)
    share = total / max(total.sum(), 1.0)
    least = _least(cells.sum(axis=1), inflation)
    names, weights = _polynomials(share) if column.kind == "numeric" else ([], [])
    rare = [False] * len(names)
    for name, inside, usual in _parts(column, share, unseen):
        names.append(name)
        weights.append((inside - usual) / _unit(usual, least))
        rare.append(name in UNSEEN or not least <= usual <= 1 - least)
    missing = None
    if column.role != "label":  # a label that is not there yet is not missing
        absent = 1 - float(total.sum()) / max(float(rows.sum()), 1.0)
        missing = (absent, _unit(absent, _least(rows, inflation)))
        names.append("missing")
        rare.append(True)
    weights_of = np.array(weights).reshape(-1, column.cells).T
    return Contrasts(tuple(names), weights_of, missing, tuple(rare), inflation)


def inflation_of(contrasts: Contrasts, values: np.ndarray, rows: np.ndarray) -> float | None:
    """Estimate how many times noisier than independent rows a column's days (D, k) are; None if unknown.

    From day to day, so that slow movements do not count.
    """
    usual = [place for place, rare in enumerate(contrasts.rare) if not rare]
    if not usual or len(values) < 3:
        return None
    noise = np.nanmean(np.diff(values[:, usual], axis=0) ** 2, axis=0) / 2
    return float(max(1.0, np.median(noise * np.median(rows[:, usual], axis=0))))


def _parts(column: Column, share: np.ndarray, unseen: float) -> list[tuple[str, np.ndarray, float]]:
    """List the shares that are watched: name, which cells (1 or 0), and the usual share."""
    cell = np.eye(column.cells)
    if column.kind == "numeric":
        return [("outside", cell[0] + cell[-1], unseen)]
    first = column.shown - 1 if column.kind == "boolean" else 0
    parts = [(f"level {column.levels[k]}", cell[k], float(share[k])) for k in range(first, column.shown)]
    if len(column.levels) > column.shown or not column.closed:
        parts.append(("other levels", cell[column.shown], float(share[column.shown])))
    if column.closed:
        parts.append(("new levels", cell[-1], unseen))
    return parts


def _least(rows: np.ndarray, inflation: float) -> float:
    """Find the least share whose daily counts are anything like normal."""
    return min(0.5, max(RARE, EXPECTED_ROWS * inflation / max(float(np.median(rows)), 1.0)))


def prominence(contrasts: Contrasts, shift: np.ndarray) -> np.ndarray:
    """Weigh which shift (k,) to name: by its size; missing and unseen values by five times their share."""
    weights = np.abs(shift)
    for place, name in enumerate(contrasts.names):
        if name in UNSEEN:
            weights[place] *= 5 / float(
                contrasts.weights[:, place].max() - contrasts.weights[:, place].min() or 1.0
            )
        elif name == "missing" and contrasts.missing is not None:
            weights[place] *= 5 * contrasts.missing[1]
    return weights


def daily_values(contrasts: Contrasts, cells: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute each day's contrasts (D, k) and the rows behind them (D, k); NaN where there were none."""
    seen = cells.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = cells @ contrasts.weights / seen[:, None]
        behind = np.repeat(seen[:, None], values.shape[1], axis=1)
        if contrasts.missing is not None:
            share, unit = contrasts.missing
            lacking = (1 - seen / rows - share) / unit
            values = np.column_stack([values, lacking])
            behind = np.column_stack([behind, rows])
    return values, behind


def _polynomials(share: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Orthonormalise powers of the mid-rank under the reference's own shares of the cells."""
    degrees = min(len(DEGREES), int((share > 0).sum()) - 1)
    if degrees < 1:
        return [], []
    rank = np.cumsum(share) - share / 2
    powers = np.polynomial.legendre.legvander(2 * rank - 1, degrees)
    _, triangle = np.linalg.qr(np.sqrt(share)[:, None] * powers)
    basis = powers @ np.linalg.inv(triangle)
    basis = basis * np.sign(np.diag(triangle))
    return list(DEGREES[:degrees]), list(basis[:, 1:].T)


def _unit(share: float, least: float) -> float:
    held = min(max(share, least), 0.5) if share < 0.5 else max(min(share, 1 - least), 0.5)
    return float(np.sqrt(held * (1 - held)))
