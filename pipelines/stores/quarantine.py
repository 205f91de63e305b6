"""Rows that could not be used: JSON Lines a table, each with its origin, problems and the row itself.

`<root>/<table>/<content hash>.jsonl` can be read, corrected in an editor, and replayed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from pipelines.errors import DataError
from pipelines.stores.files import file_digest
from pipelines.stores.sql import connect, quoted
from pipelines.stores.transaction import Transaction, settle

_COLUMNS = {
    "id": "VARCHAR",
    "source": "VARCHAR",
    "origin": "VARCHAR",
    "row_number": "BIGINT",
    "zone": "VARCHAR",
    "problems": "JSON",
    "row": "JSON",
}


LINE, TOKEN = "(line)", "token"
WHOLE = (LINE, TOKEN)
"""Problems of a row as a whole, under no column's name: how its line is written, or that its token is none."""


@dataclass(frozen=True)
class Entry:
    """A quarantined row. `problems` are {field, reason}; `row` is as it came, in JSON's types."""

    id: str
    source: str
    origin: str
    row_number: int
    zone: str | None
    problems: Sequence[Mapping[str, str]]
    row: Mapping[str, Any]

    def line(self) -> str:
        """Write it as a line of JSON."""
        return json.dumps({name: getattr(self, name) for name in _COLUMNS}) + "\n"


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row's values into JSON's types, without loss for those a table may hold."""
    return {name: _plain(value) for name, value in row.items()}


def entry_id(table: str, origin: str, row_number: int, row: Mapping[str, Any]) -> str:
    """Name an entry by where it stood and what it held: reading the file again names it the same."""
    return sha256(f"{table}\0{origin}\0{row_number}\0{json.dumps(row)}".encode()).hexdigest()[:16]


class Quarantine:
    """The quarantined rows of a workspace; `base` and `name` are those of the lake's transactions."""

    def __init__(self, root: Path, lake_name: str) -> None:
        self.root = root
        self._lake_name = lake_name

    def tables(self) -> list[str]:
        """List the tables that have rows in quarantine."""
        settle(self.root.parent, self._lake_name)
        return sorted({path.parent.name for path in self.root.glob("*/*.jsonl")})

    def files(self, table: str) -> list[Path]:
        """List a table's files."""
        settle(self.root.parent, self._lake_name)
        return sorted((self.root / table).glob("*.jsonl"))

    def entries(self, table: str) -> Iterator[Entry]:
        """Read a table's entries one by one; DataError names the file and line that cannot be read."""
        return (entry for _, entry in self.placed(table))

    def placed(self, table: str) -> Iterator[tuple[Path, Entry]]:
        """Read a table's entries, each with the file it stands in."""
        for path in self.files(table):
            with path.open() as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield path, _parse(line, f"{path}, line {number}")


class QuarantineWriter:
    """Entries in the making: staged in a transaction, visible with its commit."""

    def __init__(self, quarantine: Quarantine, opened: Transaction) -> None:
        self.quarantine = quarantine
        self.transaction = opened
        self._streams: dict[str, TextIO] = {}

    def add(self, table: str, entry: Entry) -> None:
        """Stage one entry."""
        if table not in self._streams:
            path = self._staged(table)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._streams[table] = path.open("w")
        self._streams[table].write(entry.line())

    def fold(self, replacing: Sequence[str] = ()) -> None:
        """Put the entries that are not in quarantine already; of `replacing` tables, all others leave."""
        standing: dict[str, list[Path]] = defaultdict(list)
        for table in {*self._streams, *replacing}:
            standing[table] = self.quarantine.files(table)
        for table in replacing:
            for path in standing.pop(table):
                self.transaction.remove(path)
        for table, stream in self._streams.items():
            stream.close()
            self._put(table, standing[table])

    def close(self) -> None:
        """Close what is open; staged entries that were not folded are dropped with the transaction."""
        for stream in self._streams.values():
            stream.close()

    def _staged(self, table: str) -> Path:
        return self.transaction.folder / "quarantine" / f"{table}.staged"

    def _put(self, table: str, standing: list[Path]) -> None:
        out = self._staged(table).with_suffix(".jsonl")
        without = (
            f"WHERE id NOT IN (SELECT id FROM {_json(standing)} WHERE id IS NOT NULL)" if standing else ""
        )
        sql = (
            f"COPY (SELECT * FROM {_json([self._staged(table)])} {without}"
            " QUALIFY row_number() OVER (PARTITION BY id) = 1 ORDER BY origin, row_number, id)"
            f" TO {quoted(str(out))} (FORMAT json)"
        )
        with connect(self.transaction.folder / "spill") as connection:
            connection.execute(sql)
        if out.stat().st_size:
            name = f"{file_digest(out)[:32]}.jsonl"
            self.transaction.put(out, self.quarantine.root / table / name)


def _json(paths: list[Path]) -> str:
    names = ", ".join(quoted(str(path)) for path in paths)
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items())
    return f"read_json([{names}], format = 'newline_delimited', columns = {{{columns}}})"


def _parse(line: str, where: str) -> Entry:
    try:
        content = json.loads(line)
        return Entry(**{name: content[name] for name in _COLUMNS})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where} is not a quarantined row ({error}): correct the line or take it out"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return plain_row(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
