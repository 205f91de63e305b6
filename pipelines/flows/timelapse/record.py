"""What an arm has lived: a line a day, and a mark while a day is being lived."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.flows.timelapse.day import Served
from pipelines.flows.timelapse.judgement import Judgement
from pipelines.stores.files import write_aside


@dataclass(frozen=True)
class Retrained:
    """What came of a retrain, and what it cost."""

    cause: str
    version: str
    decision: str
    why: str
    seconds: float


@dataclass(frozen=True)
class Tried:
    """What an experiment on live users said in the morning, where one runs: its verdict and why."""

    decision: str
    why: str


@dataclass(frozen=True)
class Lived:
    """A day of an arm, and the midnight after it: what was served, seen, decided, learned and tried."""

    day: int
    date: str
    champion: str | None
    served: Served
    judgement: Judgement
    retrained: Retrained | None
    tried: Tried | None
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Lived:
        """Read it from JSON."""
        judged: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each
            for name, each in content["judgement"].items()
        }
        retrained, tried = content["retrained"], content["tried"]
        parts = {
            "served": Served(**content["served"]),
            "judgement": Judgement(**judged),
            "retrained": None if retrained is None else Retrained(**retrained),
            "tried": None if tried is None else Tried(**tried),
        }
        return cls(**{**content, **parts})


class Record:
    """The days of one arm. A day that was begun and not ended spoils the workspace: the arm begins anew."""

    def __init__(self, folder: Path) -> None:
        self._days, self._open = folder / "days.jsonl", folder / "day.open"

    @property
    def broken(self) -> bool:
        """Say whether a day was cut off in its middle."""
        return self._open.exists()

    def days(self) -> list[Lived]:
        """Read the days that were lived whole."""
        if not self._days.is_file():
            return []
        return [Lived.of(json.loads(line)) for line in self._days.read_text().splitlines()]

    def begin(self) -> None:
        """Mark that a day is being lived."""
        self._open.touch()

    def end(self, days: Sequence[Lived]) -> None:
        """Keep the days, the newest among them, and take the mark away."""
        self.keep(days)
        self._open.unlink()

    def keep(self, days: Sequence[Lived]) -> None:
        """Write down which days were lived."""
        with write_aside(self._days) as aside:
            aside.write_text("".join(json.dumps(asdict(each)) + "\n" for each in days))
