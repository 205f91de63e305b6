"""The engine: day by day, actors visit, a policy shows them items, they act, and events arrive.

A world without slates, where nothing that was shown before decides what happens today, gives its days
as they are (`run_events`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Batch
from pipelines.errors import UsageError
from pipelines.world.policy import Memory, Policy, Served
from pipelines.world.population import Population
from pipelines.world.rhythm import Visits
from pipelines.world.scenarios import Scenario
from pipelines.world.state import State, midnight, world_day
from pipelines.world.streams import Purpose, stream


class Eventful(Protocol):
    """What a world without slates supplies: days that can each be written by themselves."""

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the rows of the day's newcomers; on the `first` day, of all that are there."""

    def happen(self, day: int) -> Mapping[str, pl.DataFrame]:
        """Write the rows of what begins on the day, whenever its consequences happen and arrive."""


class Simulated(Protocol):
    """What a world of slates supplies. `day` counts days since 1970; frames are rows of the case's tables.

    Every frame holds the table's own columns, `arrived_at` included.
    """

    actors: Population
    items: Population
    policy: Policy
    half_life: float
    """Days after which an old success counts half in the policy's popularity."""

    def visits(self, day: int) -> Visits:
        """Draw who comes on the day, and when."""

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the rows of the day's newcomers; on the `first` day, of all that are there."""

    def respond(self, day: int, visits: Visits, served: Served) -> Mapping[str, pl.DataFrame]:
        """Write the rows of what was shown and of what the actors did about it."""

    def successes(self, arrived: Mapping[str, pl.DataFrame]) -> pl.Series:
        """Read from the rows that arrived the ids of the items that succeeded, once a success."""


def run_days(
    world: Simulated,
    params: Mapping[str, Any],
    seed: int,
    start: datetime,
    days: int,
    burn_in: int,
    folder: Path,
) -> Iterator[Batch]:
    """Yield the rows that arrive on each of `days` days from `start`, a batch a table and day.

    A world that has not begun begins at `start`, after `burn_in` unseen days that let the policy's
    popularity settle. The state is stored after the last batch was taken: who stops before that,
    or is killed, gets the same rows again.
    """

    def live(state: State, day: int, seen_before: bool) -> Mapping[str, pl.DataFrame]:
        return _advance(world, state, day, seen_before)

    yield from _run(live, params, seed, start, days, burn_in, folder)


def run_events(
    world: Eventful,
    params: Mapping[str, Any],
    seed: int,
    start: datetime,
    days: int,
    folder: Path,
) -> Iterator[Batch]:
    """Yield the rows that arrive on each of `days` days from `start`, as `run_days` does; nothing came before."""

    def live(state: State, day: int, seen_before: bool) -> Mapping[str, pl.DataFrame]:
        happened = {**world.introduce(day, first=day == state.origin), **world.happen(day)}
        arrived, state.pending = _split(happened, state.pending, midnight(day + 1))
        return arrived

    yield from _run(live, params, seed, start, days, 0, folder)


def _run(
    live: Callable[[State, int, bool], Mapping[str, pl.DataFrame]],
    params: Mapping[str, Any],
    seed: int,
    start: datetime,
    days: int,
    burn_in: int,
    folder: Path,
) -> Iterator[Batch]:
    state = _resume(State.load(folder), params, seed, world_day(start), folder)
    if state is None:
        state = State(params, seed, world_day(start), world_day(start), Memory.empty(), {})
        for day in range(state.origin - burn_in, state.origin):
            live(state, day, True)
        state.pending = {}
    for _ in range(days):
        arrived = live(state, state.next_day, False)
        origin = f"world/{midnight(state.next_day):%Y-%m-%d}"
        state.next_day += 1
        for table, rows in arrived.items():
            if rows.height:
                yield Batch(table, rows, origin)
    state.params = params
    state.save(folder)


def _resume(
    state: State | None, params: Mapping[str, Any], seed: int, start: int, folder: Path
) -> State | None:
    """Check that the stored world is the one that is asked for, and stands where it is asked to go on."""
    if state is None:
        return None
    if state.seed != seed or not _same_past(state.params, params, state.next_day - state.origin):
        raise UsageError(
            f"{folder} holds a world of other params or another seed ({state.seed}, asked: {seed}): "
            "ask for those, or remove the folder to begin anew"
        )
    if state.next_day != start:
        raise UsageError(
            f"the world in {folder} goes on at {midnight(state.next_day):%Y-%m-%d}, not at "
            f"{midnight(start):%Y-%m-%d}: ask for that day, or remove the folder to begin anew"
        )
    return state


def _same_past(old: Mapping[str, Any], new: Mapping[str, Any], elapsed: int) -> bool:
    """Say whether two worlds have been alike so far: a scenario may be put in before its day has come."""
    if old == new:
        return True
    scenarios = [Scenario.model_validate(params.get("scenario", {})) for params in (old, new)]
    rest = [{name: value for name, value in params.items() if name != "scenario"} for params in (old, new)]
    return rest[0] == rest[1] and not any(scenario.begins_by(elapsed) for scenario in scenarios)


def _advance(
    world: Simulated, state: State, day: int, seen_before: bool = False
) -> Mapping[str, pl.DataFrame]:
    """Live one day, and hand over the rows that arrived in it."""
    _move_windows(world, state.memory, day)
    visits = world.visits(day)
    live = world.items.settled(day)
    served = world.policy.serve(visits, live, state.memory, stream(state.seed, day, Purpose.POLICY))
    memory = state.memory
    memory.seen[visits.actor[:, None] - memory.first_actor, served.items - memory.first_item] = True
    happened = dict(world.respond(day, visits, served))
    if not seen_before:
        happened = {**world.introduce(day, first=day == state.origin), **happened}
    arrived, state.pending = _split(happened, state.pending, midnight(day + 1))
    _remember(world, memory, arrived, day)
    return arrived


def _split(
    happened: Mapping[str, pl.DataFrame], pending: Mapping[str, pl.DataFrame], until: datetime
) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """Part what has arrived by `until`, in order of arrival, from what is still on its way."""
    arrived, waiting = {}, {}
    for table, fresh in happened.items():
        rows = pl.concat([pending[table], fresh]) if table in pending else fresh
        here = pl.col("arrived_at") < until
        arrived[table] = rows.filter(here).sort("arrived_at", maintain_order=True)
        waiting[table] = rows.filter(~here)
    return arrived, waiting


def _move_windows(world: Simulated, memory: Memory, day: int) -> None:
    actors, items = world.actors, world.items
    windows = [people.arrived(day - people.longest - 1, day + 1) for people in (actors, items)]
    starts = [int(window[0]) if len(window) else 0 for window in windows]
    memory.move(starts[0], len(windows[0]), starts[1], len(windows[1]))


def _remember(world: Simulated, memory: Memory, arrived: Mapping[str, pl.DataFrame], day: int) -> None:
    memory.score *= 0.5 ** (1 / world.half_life)
    found: NDArray[np.int64] = world.items.find(world.successes(arrived), day + 1) - memory.first_item
    np.add.at(memory.score, found[(found >= 0) & (found < len(memory.score))], 1.0)
