"""CSV files as columns of text: a line that cannot be taken as it stands is told apart, and stops no other."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipelines.case_study import SPOILED
from pipelines.errors import DataError
from pipelines.stores.location import reading

_MOST_MORE = 8
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_SHOWN = 9
_CHUNK_BYTES = 2**20


def scan_csv(path: Path, needed: Sequence[str] = ()) -> pl.LazyFrame:
    """Scan the columns that a file's header names as text, and `SPOILED`.

    That says why a line must not be used: it has more fields than the header, or bytes that are no UTF-8. One with
    fewer fields has nulls at its end. Raises DataError where a needed column is missing.
    """
    with reading(path):
        header = pl.scan_csv(path, infer_schema=False, truncate_ragged_lines=True, encoding="utf8-lossy")
        names = header.collect_schema().names()
        more = [f"_{len(names) + n}_{SPOILED}" for n in range(_MOST_MORE)]
        spoiled = [_too_long(more), *([] if is_utf8(path) else [unreadable(names)])]
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"{path.name} has no column {', '.join(map(repr, missing))}: its first line must name "
            f"{', '.join(needed[:_SHOWN])}{' …' if len(needed) > _SHOWN else ''}; it reads {','.join(names)[:120]!r}"
        )
    rows = pl.scan_csv(
        path,
        schema={name: pl.String() for name in (*names, *more)},
        missing_columns="insert",  # no line but a longer one than the header has them
        truncate_ragged_lines=True,
        encoding="utf8-lossy",
    )
    return rows.select(*names, pl.coalesce(spoiled).alias(SPOILED))


def is_utf8(path: Path) -> bool:
    """Say whether a file's bytes are UTF-8 throughout."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as stream:
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def unreadable(columns: Sequence[str]) -> pl.Expr:
    """Say why a row of a file that is not UTF-8 is spoiled, where it is: its bytes were replaced."""
    replaced = pl.any_horizontal(pl.col(columns).str.contains(_UNREADABLE, literal=True).fill_null(False))
    words = f"the line has bytes that are no UTF-8, shown as {_UNREADABLE}"
    return pl.when(replaced).then(pl.lit(words))


def _too_long(more: Sequence[str]) -> pl.Expr:
    beyond = pl.concat_str(more, separator=",", ignore_nulls=True)
    words = pl.format("the line has more fields than the header: '{}'", beyond)
    return pl.when(pl.any_horizontal(pl.col(more).is_not_null())).then(words)
