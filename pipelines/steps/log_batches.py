"""A log's many small batches, gathered into few large ones: checking a batch costs more than its rows do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.case_study import Batch

_ROWS = 50_000


@dataclass(frozen=True)
class Stretch:
    """What a log holds up to the offset `end`, since the stretch before: a batch a table and schema.

    The batches in `known` had been seen by an earlier reading, those in `new` had not.
    """

    end: int
    known: tuple[Batch, ...]
    new: tuple[Batch, ...]


def stretches(read: Iterable[tuple[int, Batch]], seen: int) -> Iterator[Stretch]:
    """Gather (offset, batch) into stretches of some 50,000 rows; what stands up to offset `seen` is known.

    A table's rows keep their order. A gathered batch is named by the first and the last that it was made of.
    """
    known: list[Batch] = []
    new: list[Batch] = []
    rows = end = 0
    for end, batch in read:
        (known if end <= seen else new).append(batch)
        rows += batch.rows.height
        if rows >= _ROWS:
            yield Stretch(end, _gather(known), _gather(new))
            known, new, rows = [], [], 0
    if known or new:
        yield Stretch(end, _gather(known), _gather(new))


def _gather(batches: Sequence[Batch]) -> tuple[Batch, ...]:
    alike: defaultdict[object, list[Batch]] = defaultdict(list)
    for batch in batches:
        alike[batch.table, tuple(batch.rows.schema.items())].append(batch)
    return tuple(
        some[0]
        if len(some) == 1
        else Batch(
            some[0].table,
            pl.concat((batch.rows for batch in some), rechunk=True),
            f"{some[0].origin} to {some[-1].origin}",
        )
        for some in alike.values()
    )
