"""Remember the last answer: all scorers of a protocol are measured on the same prepared rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pipelines.case_study import Dataset

Prepared = TypeVar("Prepared")


class Remembered(Generic[Prepared]):
    """Prepare once for a pair of data sets (by identity), and keep only the latest."""

    def __init__(self, prepare: Callable[[Dataset, Dataset], Prepared]) -> None:
        self._prepare = prepare
        self._last: tuple[Dataset, Dataset, Prepared] | None = None

    def __call__(self, train: Dataset, test: Dataset) -> Prepared:
        """Return what was prepared for these very data sets."""
        if self._last is None or self._last[0] is not train or self._last[1] is not test:
            self._last = (train, test, self._prepare(train, test))
        return self._last[2]
