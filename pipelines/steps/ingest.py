"""Ingest: a source's rows become typed, deduplicated rows of the lake; what is wrong goes to quarantine.

A run is one commit: rows, quarantine, manifest and the log's watermark become visible together.
Rows that arrive after `as_of` do not exist yet: they are counted as `later`, not read, and stay
for an ingest of a later `as_of`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import SPOILED, Batch, CaseStudy, EventLog, Observed
from pipelines.errors import DataError, LoopError, UsageError, nearest
from pipelines.settings import Limits
from pipelines.steps.limits import withhold
from pipelines.steps.log_batches import stretches
from pipelines.stores.files import read_json, to_json
from pipelines.stores.lake import Appended, Lake, LakeWriter
from pipelines.stores.quarantine import LINE, Entry, Quarantine, QuarantineWriter, entry_id, plain_row
from pipelines.stores.rowcheck import Checked, Problem, check_rows, check_zone, times_as_text
from pipelines.stores.schemas import REFUSED, SERVED, Actions, Impressions, Requests
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)
_SLICE_ROWS = 250_000
LIMITS = "limits"
"""The source that rows over a limit are quarantined under, whichever they were read from."""


@dataclass(frozen=True)
class Rows:
    """What became of rows: read = kept + duplicate + quarantined. Of `later` ones none were read."""

    read: int = 0
    kept: int = 0
    duplicate: int = 0
    quarantined: int = 0
    later: int = 0

    def __add__(self, other: Rows) -> Rows:
        return Rows(*(mine + others for mine, others in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, ...]:
        """Return the counts in the order of their declaration."""
        return (self.read, self.kept, self.duplicate, self.quarantined, self.later)


@dataclass(frozen=True)
class Manifest:
    """The record of one ingest. `digest` is that of the whole lake after it.

    `number` counts the lake's manifests from 1; 0 where there was nothing to read and none was written.
    `limited` counts those of the quarantined rows that were over a limit, by table, columns and reason.
    """

    number: int
    source: str
    as_of: datetime
    zone: str | None
    observed: Observed | None
    tables: Mapping[str, Rows]
    total: Rows
    digest: str
    limited: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """Say in a line what was read."""
        total = self.total
        return (
            f"{total.read:,} rows read = {total.kept:,} kept + {total.duplicate:,} duplicate "
            f"+ {total.quarantined:,} quarantined"
            + (f" ({sum(self.limited.values()):,} over a limit)" if self.limited else "")
            + (f"; {total.later:,} arrive after {self.as_of:%Y-%m-%d %H:%M} and wait" if total.later else "")
        )


def ingest(
    case: CaseStudy,
    ws: Workspace,
    batches: Iterable[Batch],
    *,
    source: str,
    as_of: datetime,
    zone: str | None = None,
    observed: Observed | None = None,
    limits: Limits | None = None,
) -> Manifest:
    """Read a source's batches into the lake as one commit; running it twice keeps no row twice.

    What is over one of the `limits` goes to quarantine.

    Raises DataError, and keeps nothing, on wrong columns, naive times without `zone`, unreadable files,
    or where there is no row at all.
    """
    check_zone(zone)
    with Ingestion.open(
        case, ws, source=source, as_of=as_of, zone=zone, observed=observed, limits=limits
    ) as run:
        for batch in _guarded(batches, source):
            run.take(batch)
        if run.total_read == 0:
            raise DataError(_nothing(source, as_of, run.total_later))
        return run.commit()


def ingest_log(
    case: CaseStudy,
    ws: Workspace,
    log: EventLog,
    *,
    as_of: datetime,
    source: str = "log",
    observed: Observed | None = None,
    limits: Limits | None = None,
) -> Manifest:
    """Read what the log gained, and what had arrived by `as_of`, since the last time.

    The watermark is kept with the lake, in the same commit: each row is read once. Nothing new is
    no error: the manifest's counts are 0.
    """
    with Ingestion.open(
        case, ws, source=source, as_of=as_of, zone=None, observed=observed, limits=limits
    ) as run:
        path, mark = watermark_file(ws, source), watermark(ws, source)
        if mark.as_of is not None and as_of < mark.as_of:
            _log.info("%s was read as of %s: nothing is new as of %s", source, mark.as_of, as_of)
            return run.nothing()
        complete, seen, waiting = mark.offset, mark.seen, False
        for part in stretches(log.read(mark.offset), mark.seen):
            later = sum(run.take_logged(batch, read_until=mark.as_of) for batch in part.known)
            later += sum(run.take_logged(batch, read_until=None) for batch in part.new)
            waiting = waiting or later > 0
            complete = complete if waiting else part.end
            seen = max(seen, part.end)
        if run.total_read == 0:
            _log.info("%s holds no new rows as of %s", source, as_of)
            return run.nothing()
        run.writer.transaction.write(path, to_json(asdict(Watermark(complete, seen, as_of))))
        return run.commit()


def watermark_file(ws: Workspace, source: str = "log") -> Path:
    """Name the file, within the lake, that keeps how far a log was read."""
    return ws.lake / "_watermarks" / f"{source}.json"


def watermark(ws: Workspace, source: str = "log") -> Watermark:
    """Read how far a log was read; from its start where it never was."""
    path = watermark_file(ws, source)
    return Watermark.parse(read_json(path)) if path.is_file() else Watermark()


@dataclass(frozen=True)
class Watermark:
    """How far a log was read: whole up to `offset`; up to `seen`, what had arrived by `as_of`."""

    offset: int = 0
    seen: int = 0
    as_of: datetime | None = None

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Watermark:
        """Read it from JSON."""
        return cls(content["offset"], content["seen"], datetime.fromisoformat(content["as_of"]))


class Ingestion:
    """One ingest in the making, shared by sources, logs and the replay of quarantined rows."""

    def __init__(
        self, case: CaseStudy, ws: Workspace, writer: LakeWriter, record: Manifest, limits: Limits
    ) -> None:
        self.case = case
        self.writer = writer
        self._record = record
        self._limits = limits
        self._quarantine = QuarantineWriter(Quarantine(ws.quarantine, ws.lake.name), writer.transaction)
        self._read: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._later: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def open(
        cls,
        case: CaseStudy,
        ws: Workspace,
        *,
        source: str,
        as_of: datetime,
        zone: str | None,
        observed: Observed | None,
        limits: Limits | None,
    ) -> Iterator[Ingestion]:
        """Open the workspace's lake for one run; LoopError where another process writes to it."""
        if as_of.tzinfo is None:
            raise UsageError(
                f"as_of {as_of} has no time zone: write it with one, as in {as_of.isoformat()}+00:00"
            )
        record = Manifest(0, source, as_of.astimezone(UTC), zone, observed, {}, Rows(), "", {})
        with Lake(ws.lake, case.tables).writing() as writer:
            run = cls(case, ws, writer, record, limits or Limits())
            try:
                yield run
            finally:
                run._quarantine.close()

    def take(self, batch: Batch, *, read_until: datetime | None = None) -> int:
        """Check and stage a batch; return how many of its rows arrive after `as_of`.

        Rows that had arrived by `read_until` were read before and are passed over.
        """
        self._known(batch)
        later = 0
        for start in range(0, max(batch.rows.height, 1), _SLICE_ROWS):
            rows = batch.rows.slice(start, _SLICE_ROWS)
            where = f"{batch.origin}, from row {batch.first_row + start}"
            spoiled = _spoiled(rows)
            rows = rows.drop(SPOILED, strict=False)
            checked = self.check(batch.table, rows, self._record.zone, where).without(spoiled)
            due, after = self._due(checked, read_until)
            later += after
            self._later[batch.table] += after
            self._stage(batch, rows, start, checked, due)
        return later

    def take_logged(self, batch: Batch, *, read_until: datetime | None) -> int:
        """Take a batch of an event log, which also holds what the platform itself wrote there."""
        if batch.table == SERVED:
            return 0
        if batch.table == REFUSED:
            return self._take_refused(batch, read_until)
        return self.take(batch, read_until=read_until)

    def _take_refused(self, batch: Batch, read_until: datetime | None) -> int:
        """Quarantine rows that were refused at the door; return how many arrive after `as_of`."""
        later = 0
        for number, refused in enumerate(batch.rows.iter_rows(named=True), start=batch.first_row):
            table, arrived = refused["table"], refused["arrived_at"]
            if arrived > self._record.as_of:
                later += 1
                self._later[table] += 1
            elif read_until is None or arrived > read_until:
                raw = json.loads(refused["row"])
                name = entry_id(table, batch.origin, number, raw)
                problem = {"field": refused["field"], "reason": refused["reason"]}
                self.refuse(
                    table, Entry(name, self._record.source, batch.origin, number, None, [problem], raw)
                )
        return later

    def check(
        self,
        table: str,
        rows: pl.DataFrame,
        zone: str | None,
        where: str,
        *,
        again: Observed | None = None,
    ) -> Checked:
        """Type and check rows; refuse values of what the source says it does not observe.

        `again`: they stood in quarantine, of a source that observes so much. A table may allow rows without a time
        for the sake of sources that tell none; from any other source such a row is quarantined.
        """
        declared, observed = self.case.table(table), again or self._record.observed or Observed()
        checked = check_rows(declared, rows, zone, where, picked=again is not None)
        if not issubclass(declared.schema, Requests | Impressions | Actions):
            return checked
        seen = {declared.time: observed.times}
        if issubclass(declared.schema, Impressions):
            seen |= {"position": observed.positions, "propensity": observed.propensities}
        for column in (name for name in seen if not seen[name]):
            if checked.rows[column].null_count() < checked.rows.height:
                raise DataError(
                    f"{where}: '{column}' has values, but {self._record.source} does not observe it:"
                    " leave it null in the adapter, or declare it as observed"
                )
        return _with_times(checked, declared.time) if observed.times else checked

    def keep(self, table: str, rows: pl.DataFrame) -> None:
        """Stage good rows."""
        self._read[table] += rows.height
        self.writer.add(table, rows)

    def refuse(self, table: str, entry: Entry) -> None:
        """Stage a bad row for quarantine."""
        self._read[table] += 1
        self._bad[table] += 1
        self._quarantine.add(table, entry)

    @property
    def as_of(self) -> datetime:
        """Rows that arrive later do not exist yet."""
        return self._record.as_of

    @property
    def total_read(self) -> int:
        """How many rows were read so far."""
        return self._read.total()

    @property
    def total_later(self) -> int:
        """How many rows arrive after `as_of`."""
        return self._later.total()

    def nothing(self) -> Manifest:
        """Return the manifest of a run that found nothing; none is written."""
        return replace(self._record, digest=self.writer.lake.digest())

    def commit(self, *, replayed: Iterable[str] = ()) -> Manifest:
        """Fold, balance, and make everything visible at once; `replayed` tables' quarantine is replaced."""
        limited = self._withhold()
        folded = self.writer.fold()
        self._quarantine.fold(sorted(replayed))
        tables = {}
        for name in sorted({*self._read, *self._later}):
            appended = folded.get(name, Appended())
            tables[name] = Rows(
                self._read[name], appended.kept, appended.duplicate, self._bad[name], self._later[name]
            )
        total = sum(tables.values(), Rows())
        for name, rows in {**tables, "all tables": total}.items():
            if rows.read != rows.kept + rows.duplicate + rows.quarantined:
                raise LoopError(f"the manifest of {self._record.source} does not balance for {name}: {rows}")
        folder = self.writer.lake.root / "_manifests"
        number = len(list(folder.glob("*.json"))) + 1
        digest = self.writer.digest()
        manifest = replace(
            self._record, number=number, tables=tables, total=total, digest=digest, limited=limited
        )
        self.writer.transaction.write(
            folder / f"{number:06d}-{_file_name(manifest.source)}.json", to_json(manifest_json(manifest))
        )
        self.writer.commit()
        _tell(manifest)
        return manifest

    def _withhold(self) -> dict[str, int]:
        """Move what is over a limit from what is staged to quarantine; count it by columns and reason."""
        limited: Counter[str] = Counter()
        for each in withhold(self.case, self.writer, self._limits):
            texts = each.rows.with_columns(times_as_text(c) for c in each.rows if c.dtype.is_temporal())
            for row, name, reason in zip(texts.iter_rows(named=True), each.fields, each.reasons, strict=True):
                raw, origin = plain_row(row), f"{LIMITS}/{each.table}"
                problem = {"field": name, "reason": reason}
                entry = Entry(entry_id(each.table, origin, 0, raw), LIMITS, origin, 0, None, [problem], raw)
                self._quarantine.add(each.table, entry)
                self._bad[each.table] += 1
                limited[f"{each.table}, {name}: {reason.partition(' (')[0]}"] += 1
        return dict(sorted(limited.items()))

    def _known(self, batch: Batch) -> None:
        names = [table.name for table in self.case.tables]
        if batch.table not in names:
            raise DataError(
                f"{batch.origin}: {self.case.name} has no table '{batch.table}':"
                f" {nearest(batch.table, names)}"
            )

    def _due(self, checked: Checked, read_until: datetime | None) -> tuple[pl.Series, int]:
        """Say which rows to read now, and how many arrive after `as_of`; a row without arrival is read."""
        arrived = checked.rows["arrived_at"]
        later = (arrived > self._record.as_of).fill_null(False)
        due = ~later
        if read_until is not None:
            due &= (arrived > read_until).fill_null(False)
        return due, int(later.sum())

    def _stage(self, batch: Batch, rows: pl.DataFrame, start: int, checked: Checked, due: pl.Series) -> None:
        problems: dict[int, list[dict[str, str]]] = {}
        for problem in checked.problems:
            if due[problem.row]:
                problems.setdefault(problem.row, []).append(
                    {"field": problem.field, "reason": problem.reason}
                )
        bad = pl.Series(sorted({problem.row for problem in checked.problems}), dtype=pl.UInt32)
        good = (
            due
            if bad.is_empty()
            else due & ~pl.int_range(rows.height, dtype=pl.UInt32, eager=True).is_in(bad.implode())
        )
        self.keep(batch.table, checked.rows.filter(good))
        if problems:
            rows = rows.with_columns(times_as_text(column) for column in rows if column.dtype.is_temporal())
        for row, found in problems.items():
            self.refuse(batch.table, self._entry(batch, rows, start, row, found))

    def _entry(
        self, batch: Batch, rows: pl.DataFrame, start: int, row: int, problems: list[dict[str, str]]
    ) -> Entry:
        raw = plain_row(rows.row(row, named=True))
        number = batch.first_row + start + row
        name = entry_id(batch.table, batch.origin, number, raw)
        return Entry(name, self._record.source, batch.origin, number, self._record.zone, problems, raw)


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """Turn a manifest into JSON's types."""
    return {**asdict(manifest), "as_of": manifest.as_of.isoformat()}


def manifests(ws: Workspace) -> list[dict[str, Any]]:
    """Read the workspace's manifests, oldest first."""
    return [read_json(path) for path in sorted((ws.lake / "_manifests").glob("*.json"))]


def _guarded(batches: Iterable[Batch], source: str) -> Iterator[Batch]:
    """Pass batches on; a library's error while reading becomes one that says where it happened."""
    iterator, last = iter(batches), "before its first rows"
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeError) as error:
            raise DataError(
                f"source '{source}' cannot be read {last}: {error};"
                " check that the file is the right one, and whole"
            ) from error
        last = f"after row {batch.first_row + batch.rows.height - 1} of {batch.origin}"
        yield batch


def _spoiled(rows: pl.DataFrame) -> list[Problem]:
    """List the rows that their source says must not be used."""
    if SPOILED not in rows.columns:
        return []
    why = rows[SPOILED]
    return [Problem(row, LINE, why[row]) for row in why.is_not_null().arg_true()]


def _with_times(checked: Checked, time: str) -> Checked:
    """Refuse rows without a time that no other check has refused for it."""
    known = {problem.row for problem in checked.problems if problem.field == time}
    absent = set(checked.rows[time].is_null().arg_true()) - known
    if not absent:
        return checked
    problems = [*checked.problems, *(Problem(row, time, "is null") for row in absent)]
    return Checked(checked.rows, tuple(sorted(problems, key=lambda each: (each.row, each.field))))


def _nothing(source: str, as_of: datetime, later: int) -> str:
    if later:
        return f"all {later} rows of source '{source}' arrive after {as_of}: name a later as_of"
    return f"source '{source}' has no rows: check that its files are the right ones, and not empty"


def _file_name(source: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in source)


def _tell(manifest: Manifest) -> None:
    rows = manifest.total
    _log.info(
        "%s: %d rows read, %d kept, %d duplicate, %d quarantined, %d arrive later",
        manifest.source, *rows.values(),
    )  # fmt: skip
    empty = [name for name, table in manifest.tables.items() if table.read == 0]
    if empty:
        _log.warning("%s: no rows for %s as of %s", manifest.source, ", ".join(empty), manifest.as_of)
    if rows.read and rows.quarantined == rows.read:
        _log.warning("%s: every row was quarantined; see `loop quarantine list`", manifest.source)
