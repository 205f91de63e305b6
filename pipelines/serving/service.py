"""The service: answers requests, and takes in what users do. No HTTP here; a time-lapse calls it as it is."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel

from pipelines.case_study import Answer, CaseStudy, Serving
from pipelines.errors import DataError, LoopError
from pipelines.experiments.running import TREATMENT
from pipelines.serving.address import network_of
from pipelines.serving.durable import Durable
from pipelines.serving.explore import explore
from pipelines.serving.ladder import CHAMPION, Ladder, Rung, State
from pipelines.serving.own import OwnFeatures, StoreDownError
from pipelines.serving.rows import (
    TIME,
    Columns,
    Row,
    check_answer,
    check_logged,
    check_pool,
    counted,
    lay_out,
    log_tables,
    refused,
)
from pipelines.serving.tokens import Refused, Tokens
from pipelines.serving.trials import Trials
from pipelines.settings import Answers
from pipelines.stores.action_log import ActionLog
from pipelines.stores.quarantine import TOKEN
from pipelines.stores.registry import CHALLENGER
from pipelines.stores.schemas import REFUSED, SERVED

_log = logging.getLogger(__name__)
_ABOUT = Columns(
    {"request_id": pl.String(), "request_time": TIME, "features_as_of": TIME, "features_read": pl.Boolean()}
)
"""What stands beside the features that an answer was given with."""


@dataclass(frozen=True)
class Place:
    """One place of an answer: what stands there, and the token that ties actions to it."""

    impression_id: str
    position: int
    item: Mapping[str, Any]
    score: float | None
    propensity: float
    token: str
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """An answer. `fallback` names what had to stand in; `features` how old what it saw was.

    `arm` is that of the experiment that the request takes part in, None where it takes part in none.
    """

    request_id: str
    time: datetime
    policy: str
    model_version: str | None
    arm: str | None
    explored: bool
    fallback: tuple[str, ...]
    features_as_of: datetime
    features_stale: bool
    places: tuple[Place, ...]


@dataclass(frozen=True)
class _Part:
    """Requests of a batch that the same rung answers: which, by what, and what is shown."""

    rows: list[int]
    ids: list[str]
    arms: list[str | None]
    asked: list[Row]
    seen: pl.DataFrame
    rung: Rung
    fallback: tuple[str, ...]
    answer: Answer
    explored: NDArray[np.bool_]
    shown: list[Row]


@dataclass(frozen=True)
class Collected:
    """What became of a batch of actions; those refused are in quarantine, with their reasons."""

    accepted: int
    refused: tuple[Mapping[str, str], ...]


class UnfitError(DataError):
    """A request that cannot be kept as a row: its sender's to mend."""


class Service:
    """One system, served. Thread-safe but for `refresh`, which one thread calls."""

    def __init__(
        self,
        case: CaseStudy,
        serving: Serving,
        ladder: Ladder,
        own: OwnFeatures,
        log: ActionLog,
        tokens: Tokens,
        options: Answers,
        now: Callable[[], datetime],
        rng: np.random.Generator,
    ) -> None:
        self.case, self.serving, self.options = case, serving, options
        self._ladder, self._own, self._log = ladder, own, Durable(log)
        self._tokens, self._now, self._rng = tokens, now, rng
        self._tables = log_tables(case)
        check_logged(case, serving, self._tables)
        self._request_schema = _schema(serving.request)
        self._drawing = Lock()
        self._unit = serving.asker
        self.counts: Counter[str] = Counter()
        self._trials = Trials(ladder.workspace, self.counts)

    @property
    def state(self) -> State:
        """What answers now."""
        return self._ladder.state

    def refresh(self) -> bool:
        """Take up a new champion, an experiment or newer features."""
        try:
            self._trials.flush()
        except LoopError as error:
            _log.warning("what a challenger did cannot be kept: %s", error)
        return self._ladder.refresh()

    def close(self) -> None:
        """Write what waits, and let go of the log."""
        try:
            self._trials.close()
        finally:
            self._log.close()

    def decide(self, requests: Sequence[BaseModel]) -> list[Decision]:
        """Answer requests; each answer is in the log, durably, before it is returned."""
        if not requests:
            return []
        now, state = self._now(), self.state
        asked = [each.model_dump() for each in requests]
        frame = self._frame(asked, now)
        asked = [{name: counted(value) for name, value in each.items()} for each in asked]
        read = True
        try:
            seen = self._own.read(frame)
        except StoreDownError as error:
            _log.warning("%s", error)
            seen, read = self._own.blank(frame), False
        arms = self._arms(state, asked)
        parts = [
            self._part(state, asked, seen, rows, [arms[row] for row in rows], now, read)
            for rows in _split(arms)
        ]
        written = self._log.submit(
            [table for part in parts for table in self._tables_of(part, now, state, read)]
        )
        # Tokens are signed while the log's disk works; nobody gets them before it is done.
        found = {row: each for part in parts for row, each in self._decisions(part, now, state)}
        self._log.wait(written)
        self._follow(state, parts)
        return [found[row] for row in range(len(requests))]

    def imagine(self, policy: str, requests: Sequence[BaseModel]) -> Answer | None:
        """Return what one of those who can answer would, and nobody sees: nothing is drawn or logged.

        None where no such one stands ready, or it fails.
        """
        rung = next((each for each in self.state.rungs if each.policy == policy), None)
        if rung is None or not requests:
            return None
        frame = self._frame([each.model_dump() for each in requests], self._now())
        try:
            return rung.answerer.answer(self._own.read(frame))
        except Exception as error:
            _log.warning("version %s failed to answer: %s", rung.version, error)
            return None

    def address(self, host: str | None) -> str | None:
        """Turn a caller's host into what the log may keep of it; None where it tells nobody apart."""
        network = network_of(host)
        return None if network is None else self._tokens.pseudonym(network)

    def collect(self, actions: Sequence[Mapping[str, Any]]) -> Collected:
        """Take in a batch of actions: action_id, token, action, and where they have them value and action_time.

        It returns when all are durable. What comes twice is counted once, by action_id. An action without
        a valid token goes to quarantine and trains nothing.
        """
        return self.collect_all([actions])[0]

    def collect_all(self, batches: Sequence[Sequence[Mapping[str, Any]]]) -> list[Collected]:
        """Take in several batches in one commit; one answer each."""
        now = self._now()
        good: list[dict[str, Any]] = []
        bad: list[tuple[Mapping[str, Any], str, str]] = []
        told = []
        for actions in batches:
            refusals = []
            for each in actions:
                try:
                    good.append(self._action(each, now))
                except Refused as reason:
                    bad.append((each, TOKEN, str(reason)))
                    refusals.append({"action_id": str(each.get("action_id")), "reason": str(reason)})
            told.append(Collected(len(actions) - len(refusals), tuple(refusals)))
        layout = self._tables.actions
        parts = []
        if good:
            parts.append((layout.name, layout.columns.frame(good)))
        if bad:
            parts.append((REFUSED, refused(layout.table, bad, now)))
        self._log.wait(self._log.submit(parts))
        self.counts.update({"actions": len(good), "actions_refused": len(bad)})
        return told

    @property
    def failing(self) -> bool:
        """Say whether the log has failed within the last seconds, and has taken nothing since."""
        return self._log.failing

    def _frame(self, asked: Sequence[Row], now: datetime) -> pl.DataFrame:
        """Lay out requests as rows, with their `time`. Raises UnfitError where a number cannot be kept."""
        for name, value in (pair for each in asked for pair in each.items()):
            if isinstance(value, float) and not math.isfinite(value):
                raise UnfitError(f"'{name}' of the request is not a finite number")
        try:
            frame = pl.DataFrame(asked, schema_overrides=self._request_schema)
        except (OverflowError, pl.exceptions.ComputeError) as error:  # either, by how large it is
            raise UnfitError("a number of the request is too large to be kept") from error
        return frame.hstack([pl.Series("time", [counted(now)] * len(asked), dtype=pl.Int64).cast(TIME)])

    def _action(self, sent: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Make a row of an action; the token says what it is about. Raises Refused.

        It happened after what it is about was shown, and before it came, whatever a client's clock says: an
        action before its impression would be none of it.
        """
        claims, shown = self._tokens.read(str(sent["token"]), self.case.name, now)
        time = (sent.get("action_time") or now).astimezone(UTC)
        told = self.serving.told.model_fields if self.serving.told is not None else ()
        return {
            **{name: sent.get(name) for name in told},
            **claims,
            "arrived_at": counted(now),
            "action_id": sent["action_id"],
            "action": sent["action"],
            "value": sent.get("value"),
            "action_time": counted(min(max(time, shown), now)),
            "address": sent.get("address"),
        }

    def _arms(self, state: State, asked: Sequence[Row]) -> list[str | None]:
        """Assign requests by their unit; nobody takes part where nothing is on trial."""
        if state.trial is None:
            return [None] * len(asked)
        arms = state.trial.arms([str(each[self._unit]) for each in asked])
        self.counts.update({f"arm_{arm}": count for arm, count in Counter(arms).items() if arm is not None})
        return arms

    def _part(
        self,
        state: State,
        asked: list[Row],
        seen: pl.DataFrame,
        rows: list[int],
        arms: list[str | None],
        now: datetime,
        read: bool,
    ) -> _Part:
        """Answer the requests of some rows, which stand in the same arm or in none."""
        if len(rows) < len(asked):
            asked, seen = [asked[row] for row in rows], seen[rows]
        rungs = state.rungs_of(arms[0])
        rung, answer = self._answer(rungs, seen)
        with self._drawing:  # a generator is not for several threads
            slates = explore(answer, self.serving.places, self.options.explore, self._rng)
            ids = [self._rng.bytes(16).hex() for _ in rows]
        stood_in = {
            "no_features": not read,
            rung.policy: rung.policy != (CHALLENGER if arms[0] == TREATMENT else CHAMPION),
            "stale_features": now - state.stock.moment > self.options.feature_age,
        }
        fallback = tuple(name for name, true in stood_in.items() if true)
        self.counts.update({"requests": len(rows), **{f"fallback_{name}": len(rows) for name in fallback}})
        shown = lay_out(asked, ids, now, answer, slates)
        return _Part(rows, ids, arms, asked, seen, rung, fallback, answer, slates.explored, shown)

    def _follow(self, state: State, parts: Sequence[_Part]) -> None:
        """Count how the challenger does, or let it answer unseen."""
        trial = state.trial
        for part in parts if trial is not None else ():
            assert trial is not None
            if trial.shadow:
                self._trials.shadow(trial, part.seen, part.answer)
            elif part.arms[0] == TREATMENT:
                failed = 0 if part.rung.policy == CHALLENGER else len(part.rows)
                self._trials.treated(trial, len(part.rows), failed)

    def _answer(self, rungs: Sequence[Rung], seen: pl.DataFrame) -> tuple[Rung, Answer]:
        """Let the first rung answer that can."""
        shown, name = self._tables.impressions, self.case.name
        for rung in rungs[:-1]:
            try:
                answer = check_pool(rung.answerer.answer(seen), shown, name)
                check_answer(answer, seen.height, self.serving.places)
            except Exception:  # a broken model must not empty an answer
                _log.exception("version %s failed to answer", rung.version)
                self.counts[f"failed_{rung.policy}"] += seen.height
                continue
            return rung, answer
        return rungs[-1], check_pool(rungs[-1].answerer.answer(seen), shown, name)

    def _tables_of(
        self, part: _Part, now: datetime, state: State, read: bool
    ) -> list[tuple[str, pl.DataFrame]]:
        """Lay out what the log keeps of answers."""
        tables, time = self._tables, counted(now)
        common = {"arrived_at": time, "policy": part.rung.policy, "model_version": part.rung.version}
        each = list(zip(part.asked, part.ids, part.arms, strict=True))
        requests = [
            {**asked, **common, "arm": arm, "request_id": number, "request_time": time}
            for asked, number, arm in each
        ]
        impressions = [{**row, **common, "arm": part.arms[row["_request"]]} for row in part.shown]
        as_of = counted(state.stock.moment)
        about = [dict(zip(_ABOUT.names, (number, time, as_of, read), strict=True)) for number in part.ids]
        served = part.seen.clone()
        served.drop_in_place("time")
        return [
            (tables.requests.name, tables.requests.frame(requests)),
            (tables.impressions.name, tables.impressions.frame(impressions)),
            (SERVED, served.hstack(_ABOUT.frame(about))),
        ]

    def _decisions(self, part: _Part, now: datetime, state: State) -> Iterator[tuple[int, Decision]]:
        """Yield each request's row in the batch, and its answer."""
        shown, items, details = part.shown, part.answer.pool.columns, list(part.answer.details)
        claimed = [name for name in self._tables.actions.columns.names for row in shown[:1] if name in row]
        places: list[list[Place]] = [[] for _ in part.ids]
        for row in shown:
            token = self._tokens.sign(self.case.name, {name: row[name] for name in claimed}, now)
            places[row["_request"]].append(
                Place(
                    row["impression_id"],
                    row["position"],
                    {name: row[name] for name in items},
                    _number(row["score"]),
                    row["propensity"],
                    token,
                    {name: row[name] for name in details},
                )
            )
        each = zip(part.rows, part.ids, part.arms, part.explored, places, strict=True)
        for number, request_id, arm, random, shown_places in each:
            decision = Decision(
                request_id,
                now,
                part.rung.policy,
                part.rung.version,
                arm,
                bool(random),
                part.fallback,
                state.stock.moment,
                "stale_features" in part.fallback,
                tuple(shown_places),
            )
            yield number, decision


def _split(arms: Sequence[str | None]) -> list[list[int]]:
    """Part the rows of a batch by who answers: the treatment arm, and all others."""
    treated = [row for row, arm in enumerate(arms) if arm == TREATMENT]
    others = [row for row, arm in enumerate(arms) if arm != TREATMENT]
    return [rows for rows in (others, treated) if rows]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _schema(request: type[BaseModel]) -> dict[str, pl.DataType]:
    """Give request fields that may be null throughout a type of their own."""
    kinds = {
        str: pl.String(),
        int: pl.Int64(),
        float: pl.Float64(),
        bool: pl.Boolean(),
        datetime: pl.Datetime("us", "UTC"),
    }
    found = {}
    for name, each in request.model_fields.items():
        options = [kind for kind in (get_args(each.annotation) or (each.annotation,)) if kind in kinds]
        if options:
            found[name] = kinds[options[0]]
    return found
