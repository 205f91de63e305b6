"""The simulated world of harmful content: who posts what, who reports it, and what reviewers find.

Each post has a latent severity for each harm: the logit u of a reviewer's "yes". A reviewed post gets three votes;
the majority is the verdict. Its author may appeal, and a senior reviewer, twice as sure, then has the last
word. So P(label) = majority(p) · (1 - appeal · (1 - q)), p = sigmoid(u), q = sigmoid(2u): exact, as all delays are
shorter than the attribution window. The log shows the text (words of harm, some also used in jest, often
misspelt), the author's past, reports. Evasion is the concept drift: harmful words give way to coded ones.
All words are invented.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.case_study import Batch, Judge, Users, World
from pipelines.cases.harmful_content.people import Posters
from pipelines.cases.harmful_content.population import HarmWorld, Posts
from pipelines.cases.harmful_content.truth import Truth
from pipelines.world.engine import run_events
from pipelines.world.state import read_clock, world_day


def _rows(params: Any, seed: int, start: datetime, days: int, state: Path) -> Iterator[Batch]:
    stored = read_clock(state)
    world = Posts(params, seed, world_day(stored.origin if stored else start))
    return run_events(world, params.model_dump(mode="json"), seed, start, days, state)


def _judge(params: Any, seed: int, start: datetime) -> Judge:
    return Truth(Posts(params, seed, world_day(start)))


def _users(params: Any, seed: int, start: datetime) -> Users:
    return Posters(Posts(params, seed, world_day(start)))


WORLD = World(HarmWorld, _rows, _judge, _users)
