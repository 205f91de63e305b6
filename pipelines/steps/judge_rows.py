"""Deliveries judged one by one in order of arrival, each by what was let in before it.

Only rows of groups that hold too many are gone through singly; DuckDB finds them, out of core, by 64-bit
keys that never leave the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from sys import intern
from typing import NamedTuple

import duckdb
import numpy as np
import polars as pl

from pipelines.case_study import Contributions, Table
from pipelines.settings import Outlier
from pipelines.steps.outliers import believed
from pipelines.stores.lake import LakeWriter
from pipelines.stores.schemas import Actions, polars_schema
from pipelines.stores.sql import identifier, parquet, quoted

OVER, OUTLIER = "over the limit", "outlier"
_EPOCH = date(1970, 1, 1)
_DAY_OF = "CAST(epoch_us(arrived_at) // 86400000000 AS INTEGER)"


@dataclass(frozen=True)
class Rule:
    """At most `most` rows that share the columns' values, among those that arrived within `days` days."""

    columns: tuple[str, ...]
    days: int
    most: int

    def reason(self, day: int) -> str:
        """Say why a row of a day is over it."""
        within = "a day" if self.days == 1 else f"in {self.days} days"
        return f"{OVER} of {self.most} {within} ({_date(day)})"


class Rejected(NamedTuple):
    """A staged row, by file and place in it, that may not come in."""

    file: str
    row: int
    field: str
    reason: str


class Court:
    """One table's staged rows, what the lake holds of the window before them, and the judgement of them."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        writer: LakeWriter,
        table: Table,
        who: Contributions,
        held: Sequence[Rule],
        window: int,
    ) -> None:
        self._sql, self._writer, self._who = connection, writer, who
        self._rules, self._window = list(held), window
        self._counts: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        self._accepted: set[int] = set()
        self._outlier: Outlier | None = None
        self._load(table)

    def _load(self, table: Table) -> None:
        """Read keys only: `fresh` are staged deliveries of rows that the lake lacks, `held` the lake's."""
        staged, standing = self._writer.staged(table.name), self._writer.lake.files(table.name)
        counted = _counted(table, self._who)
        keys = [f"{_key(rule.columns, counted)} AS k{at}" for at, rule in enumerate(self._rules)]
        if issubclass(table.schema, Actions):
            seen = _key(("impression_id",), None)
            keys += [f"{_key(self._who.actor, None)} AS actor", f"{seen} AS seen"]
        columns = ", ".join([f"{_DAY_OF} AS day", f"{_key(table.key, None)} AS id", *keys])
        self._sql.execute(
            "CREATE TEMP TABLE fresh AS SELECT filename AS file, file_row_number AS row,"
            f" epoch_us(arrived_at) AS arrived, {columns} FROM {parquet(staged, places=True)}"
        )
        if standing:
            self._sql.execute(
                f"DELETE FROM fresh WHERE id IN (SELECT id FROM (SELECT {_key(table.key, None)} AS id"
                f" FROM {self._rows(table, standing)}) SEMI JOIN fresh USING (id))"
            )
        self._sql.execute(
            "CREATE TEMP TABLE held AS SELECT * EXCLUDE (file, row, arrived) FROM fresh LIMIT 0"
        )
        if standing:
            since = f"{_DAY_OF} >= (SELECT min(day) FROM fresh) - {self._window}"
            rows = self._rows(table, standing)
            self._sql.execute(f"INSERT INTO held SELECT {columns} FROM {rows} WHERE {since}")

    def _rows(self, table: Table, files: Sequence[Path]) -> str:
        """Write the SQL of files, some of which may be from before a column was declared: it is null there."""
        read = parquet(list(files), by_name=True)
        there = {name for name, *_ in self._sql.execute(f"DESCRIBE FROM {read}").fetchall()}
        absent = [f"NULL AS {identifier(name)}" for name in polars_schema(table.schema) if name not in there]
        return f"(SELECT {', '.join(['*', *absent])} FROM {read})"

    def watch(self, shown: Table, outlier: Outlier) -> None:
        """Count, by actor and day, what was shown: the lake's impressions and the staged ones, each once."""
        self._outlier = outlier
        files = [*self._writer.lake.files(shown.name), *self._writer.staged(shown.name)]
        since = f"{_DAY_OF} >= (SELECT min(day) FROM fresh) - {self._window}"
        each = (
            f"SELECT {_key(shown.key, None)} AS id, min({_key(self._who.actor, None)}) AS actor,"
            f" min({_DAY_OF}) AS day FROM {self._rows(shown, files)} WHERE {since} GROUP BY id"
            if files
            else "SELECT 0::UBIGINT AS id, 0::UBIGINT AS actor, 0 AS day LIMIT 0"
        )
        self._sql.execute(
            f"CREATE TEMP TABLE shown AS SELECT actor, day, count(*) AS n FROM ({each})"
            " WHERE actor IS NOT NULL GROUP BY actor, day"
        )
        self._sql.execute(
            "CREATE TEMP TABLE acted AS SELECT actor, day, count(DISTINCT seen) AS n FROM held"
            " WHERE actor IS NOT NULL AND day NOT IN (SELECT day FROM fresh) GROUP BY actor, day"
        )

    def judge(self) -> list[Rejected]:
        """Go through the rows that could be over a limit, a day at a time."""
        self._suspect()
        keys = [f"k{at}" for at in range(len(self._rules))]
        columns = ", ".join(["file", "row", "id", *keys, "actor" if self._outlier else "NULL AS actor"])
        found: list[Rejected] = []
        only = "" if self._outlier else " SEMI JOIN suspects USING (id)"
        for (day,) in self._sql.execute(f"SELECT DISTINCT day FROM fresh{only} ORDER BY day").fetchall():
            outliers = self._outliers(day)
            among = f" OR actor IN ({', '.join(map(str, outliers))})" if outliers else ""
            rows = self._sql.execute(
                f"SELECT {columns} FROM fresh WHERE day = {day}"
                f" AND (id IN (SELECT id FROM suspects){among}) ORDER BY arrived, id, file, row"
            ).fetchall()
            uncounted: list[tuple[str, int]] = []
            for file, row, name, *keyed, actor in rows:
                if name in self._accepted:  # a duplicate, which the fold drops
                    uncounted.append((file, row))
                elif (refused := self._refused(day, keyed, outliers.get(actor))) is not None:
                    uncounted.append((file, row))
                    found.append(Rejected(file, row, *refused))
                else:
                    self._accept(name, day, keyed)
            if self._outlier is not None:
                self._remember(day, uncounted)
        return found

    def _suspect(self) -> None:
        """Find the rows of groups that hold too many, and those delivered more than once."""
        groups = ["SELECT id FROM fresh GROUP BY id HAVING count(*) > 1"]
        for at, rule in enumerate(self._rules):
            by = f"k{at}, day" if rule.days == 1 else f"k{at}"
            both = f"SELECT k{at}, day FROM fresh UNION ALL SELECT k{at}, day FROM held"
            self._sql.execute(
                f"CREATE TEMP TABLE full{at} AS SELECT DISTINCT k{at} FROM ({both}) WHERE k{at} IS NOT NULL"
                f" GROUP BY {by} HAVING count(*) > {rule.most}"
            )
            groups.append(f"SELECT id FROM fresh WHERE k{at} IN (SELECT k{at} FROM full{at})")
            held = f"SELECT k{at}, day, count(*) FROM held WHERE k{at} IN (SELECT k{at} FROM full{at})"
            for key, day, count in self._sql.execute(f"{held} GROUP BY ALL").fetchall():
                self._counts[at, key][day] = count
        self._sql.execute(f"CREATE TEMP TABLE suspects AS {' UNION ALL '.join(groups)}")

    def _refused(self, day: int, keys: Sequence[int | None], outlier: str | None) -> tuple[str, str] | None:
        """Say by which columns, and why, a delivery may not come in; None where it may."""
        if outlier is not None:
            return ", ".join(self._who.actor), outlier
        for at, (rule, key) in enumerate(zip(self._rules, keys, strict=True)):
            if key is not None:
                counts = self._counts[at, key]
                if sum(n for when, n in counts.items() if day - rule.days < when <= day) >= rule.most:
                    return intern(", ".join(rule.columns)), intern(rule.reason(day))
        return None

    def _accept(self, name: int, day: int, keys: Sequence[int | None]) -> None:
        self._accepted.add(name)
        for at, key in enumerate(keys):
            if key is not None:
                counts = self._counts[at, key]
                counts[day] = counts.get(day, 0) + 1

    def _outliers(self, day: int) -> dict[int, str]:
        """Name the outliers of the window before a day, with the reason."""
        if self._outlier is None:
            return {}
        within = f"day >= {day - self._window} AND day < {day}"
        found = self._sql.sql(
            "SELECT shown.actor AS actor, shown.n::BIGINT AS shown, coalesce(acted.n, 0)::BIGINT AS acted"
            f" FROM (SELECT actor, sum(n) AS n FROM shown WHERE {within} GROUP BY actor"
            f" HAVING sum(n) >= {self._outlier.shown}) AS shown"
            f" LEFT JOIN (SELECT actor, sum(n) AS n FROM acted WHERE {within} GROUP BY actor)"
            " AS acted USING (actor)"
        ).to_arrow_table()
        actor, shown, acted = (found[name].to_numpy() for name in ("actor", "shown", "acted"))
        most = believed(shown, acted, self._outlier)
        return {
            int(actor[at]): (
                f"{OUTLIER}: acts on more than is believed of what it is shown ({acted[at]} of {shown[at]} in the"
                f" {self._window} days before {_date(day)}; at most {most[at]:.0f} are believed)"
            )
            for at in np.flatnonzero(acted > most)
        }

    def _remember(self, day: int, uncounted: Sequence[tuple[str, int]]) -> None:
        """Count, for the days to come, what was let in on a day."""
        out = pl.DataFrame(uncounted, schema={"file": pl.String, "row": pl.Int64}, orient="row")
        self._sql.register("uncounted", out.to_arrow())
        self._sql.execute(
            "INSERT INTO acted SELECT actor, day, count(DISTINCT seen) FROM ("
            f"SELECT actor, day, seen FROM fresh ANTI JOIN uncounted USING (file, row) WHERE day = {day}"
            f" UNION ALL SELECT actor, day, seen FROM held WHERE day = {day}"
            ") WHERE actor IS NOT NULL GROUP BY actor, day"
        )
        self._sql.unregister("uncounted")


def _counted(table: Table, who: Contributions) -> str | None:
    """Write the condition on rows that are counted at all; None for all of them."""
    if not who.words or not issubclass(table.schema, Actions):
        return None
    return "action IN ({})".format(", ".join(quoted(word) for word in who.words))


def _key(columns: Sequence[str], counted: str | None) -> str:
    """Write the SQL of a 64-bit key of columns; null where one of them is, or where the row is not counted."""
    names = [f'"{column}"' for column in columns]
    held = [f"{name} IS NOT NULL" for name in names] + ([counted] if counted else [])
    return f"CASE WHEN {' AND '.join(held)} THEN hash({', '.join(names)}) END" if names else "NULL::UBIGINT"


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)
