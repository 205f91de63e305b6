"""Feature frames without a world: many stationary or shifted windows, fast, for calibrating monitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.errors import UsageError, nearest
from pipelines.world.scenarios import blank, rescale
from pipelines.world.streams import Purpose, stream

NUMBERS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "normal": lambda z: z,
    "skewed": np.exp,
    "heavy": lambda z: np.sinh(1.5 * z),
    "share": lambda z: 1 / (1 + np.exp(-z)),
    "count": lambda z: np.floor(np.exp(1.2 * z)),
    "mostly_zero": lambda z: np.where(z > 0.8, np.exp(z), 0.0),
    "with_nulls": lambda z: np.where(np.abs(z) > 1.3, np.nan, z),
    "constant": lambda z: np.where(z > 3.7, 1.0, 0.0),
}
"""Numeric columns by name, each a transform of a standard normal: shapes that real features have."""
CATEGORIES: Mapping[str, int] = {"flag": 2, "few": 5, "some": 13, "many": 43}
"""Categorical columns by name, and their numbers of levels; frequencies fall as 1 / rank."""
COLUMNS = (*NUMBERS, *CATEGORIES)


@dataclass(frozen=True)
class Shift:
    """What changes in one column, and by how much.

    `mean`: by `size` standard deviations (of the underlying normal); `spread`: its standard deviation
    times 1 + size; `unit`: values times 1000 in a share `size` of rows; `nulls`: a share `size` of rows
    empty; `mix`: a share `size` of rows falls on a category's last level.
    """

    column: str
    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.column not in COLUMNS:
            raise UsageError(f"no column '{self.column}': {nearest(self.column, COLUMNS)}")
        kinds = ("mix", "nulls") if self.column in CATEGORIES else ("mean", "nulls", "spread", "unit")
        if self.kind not in kinds:
            raise UsageError(f"no shift '{self.kind}' of column '{self.column}': {nearest(self.kind, kinds)}")


def window(rng: np.random.Generator, rows: int, shifts: tuple[Shift, ...] = ()) -> pl.DataFrame:
    """Draw one window of independent rows with all COLUMNS; numbers correlate by 0.3 among themselves."""
    by_column: dict[str, list[Shift]] = {}
    for shift in shifts:
        by_column.setdefault(shift.column, []).append(shift)
    shared = rng.standard_normal(rows)
    columns: dict[str, pl.Series] = {}
    for name, shape in NUMBERS.items():
        z = np.sqrt(0.3) * shared + np.sqrt(0.7) * rng.standard_normal(rows)
        for shift in by_column.get(name, []):
            z = z + shift.size if shift.kind == "mean" else z * (1 + shift.size * (shift.kind == "spread"))
        columns[name] = pl.Series(shape(z)).fill_nan(None)
    for name, levels in CATEGORIES.items():
        share = 1 / np.arange(1, levels + 1)
        code = rng.choice(levels, rows, p=share / share.sum())
        mixed = sum(shift.size for shift in by_column.get(name, []) if shift.kind == "mix")
        code = np.where(rng.random(rows) < mixed, levels - 1, code)
        columns[name] = pl.Series([f"{name}_{level:02d}" for level in range(levels)]).gather(code)
    frame = pl.DataFrame(columns)
    for shift in shifts:
        struck = rng.random(rows) < shift.size
        if shift.kind == "unit":
            frame = rescale(frame, shift.column, 1000.0, struck)
        if shift.kind == "nulls":
            frame = blank(frame, shift.column, struck)
    return frame


def windows(
    seed: int, count: int, rows: int, shifts: tuple[Shift, ...] = (), since: int = 0
) -> Iterator[pl.DataFrame]:
    """Yield `count` windows of equal law, each from its own seed; shifted from window `since` on."""
    for number in range(count):
        rng = stream(seed, number, Purpose.VISITS)
        yield window(rng, rows, shifts if number >= since else ())
