"""How a challenger does while its experiment runs: what it fails to answer, and how it answers in the shadow."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore, Lock
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from pipelines.case_study import Answer
from pipelines.experiments.tally import Tally, write_tally
from pipelines.serving.ladder import Rung, Trial
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)
_MOST_WAITING = 64


class Trials:
    """Counts for the metrics (`counts`, of all time) and for the review (a file a version). Thread-safe."""

    def __init__(self, ws: Workspace, counts: Counter[str]) -> None:
        self._ws, self._counts = ws, counts
        self._name, self._lock = uuid4().hex[:12], Lock()
        self._tallies: dict[str, Tally] = {}
        self._kept: dict[str, Tally] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._room = BoundedSemaphore(_MOST_WAITING)

    def treated(self, trial: Trial, asked: int, failed: int) -> None:
        """Count requests of the treatment arm, and those that the challenger left to others."""
        self._note(trial, Tally(asked=asked, failed=failed, treated=asked, treated_failed=failed))

    def shadow(self, trial: Trial, seen: pl.DataFrame, shown: Answer) -> None:
        """Let the challenger answer too, beside what is shown: nobody waits for it.

        Where it cannot keep up, requests are dropped and counted.
        """
        if trial.challenger is None:
            self._note(trial, Tally(asked=seen.height, failed=seen.height))
        elif self._room.acquire(blocking=False):
            with self._lock:
                self._thread = self._thread or ThreadPoolExecutor(1, "shadow")
                self._thread.submit(self._answer, trial, trial.challenger, seen, shown)
        else:
            self._note(trial, Tally(dropped=seen.height))

    def flush(self) -> None:
        """Wait for the shadow's answers, and keep what was counted where a review reads it."""
        if self._thread is not None:
            self._thread.submit(lambda: None).result()
        with self._lock:
            tallies = dict(self._tallies)
        for version, tally in tallies.items():
            if tally != self._kept.get(version):
                write_tally(self._ws, version, self._name, tally)
                self._kept[version] = tally

    def close(self) -> None:
        """Keep what was counted, and end the thread."""
        self.flush()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _answer(self, trial: Trial, challenger: Rung, seen: pl.DataFrame, shown: Answer) -> None:
        try:
            started = time.perf_counter_ns()
            answer = challenger.answerer.answer(seen)
            spent = (time.perf_counter_ns() - started) // 1000
            same = int(_same_first(answer, shown).sum())
            self._note(trial, Tally(asked=seen.height, compared=seen.height, agreed=same, microseconds=spent))
        except Exception:  # it is on trial for just that
            _log.exception("version %s failed to answer in the shadow", challenger.version)
            self._note(trial, Tally(asked=seen.height, failed=seen.height))
        finally:
            self._room.release()

    def _note(self, trial: Trial, tally: Tally) -> None:
        version = trial.running.challenger.number
        with self._lock:
            self._tallies[version] = self._tallies.get(version, Tally()) + tally
            told: dict[str, Any] = {
                f"challenger_{name}": count for name, count in vars(tally).items() if count
            }
            self._counts.update(told)


def _same_first(one: Answer, other: Answer) -> np.ndarray:
    """Say for each request whether two answers have the same at the first place, shape (n,)."""
    firsts = [_first(each) for each in (one, other)]
    return np.array([a == b for a, b in zip(*firsts, strict=True)], dtype=bool)


def _first(answer: Answer) -> list[dict[str, Any] | None]:
    """List what stands at the first place of each answer; None where nothing does."""
    pool = answer.pool.rows(named=True)
    first = answer.ranked[:, :1].tolist()
    return [pool[each[0]] if each and each[0] >= 0 else None for each in first]
