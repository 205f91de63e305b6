"""Who answers: the champion; where it fails, the last good champion; where that fails, the heuristic.

In an experiment's treatment arm the challenger comes before them all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.case_study import Answerer, CaseStudy, Serving
from pipelines.errors import LoopError
from pipelines.experiments.assignment import assign
from pipelines.experiments.running import TREATMENT, Running, read_open
from pipelines.serving.stock import Shelf, read_stock
from pipelines.settings import Platform
from pipelines.stores.models import load_model
from pipelines.stores.online_features import materialized
from pipelines.stores.registry import CHALLENGER, Registry, RegistryDownError, Version
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)

CHAMPION, BEFORE, HEURISTIC = "champion", "previous", "heuristic"


Wanted = tuple[tuple[str, Version], ...]
"""Who should answer, the first choice first: (policy, version)."""


@dataclass(frozen=True)
class Rung:
    """One who can answer. `policy` is what the log calls it; `version` is the registry's number."""

    policy: str
    version: str | None
    digest: str | None
    answerer: Answerer


@dataclass(frozen=True)
class Trial:
    """A running experiment, and who answers in its treatment arm: the challenger, then as everywhere.

    A challenger that cannot be made ready is not among them; the arms stay what they are.
    """

    running: Running
    rungs: tuple[Rung, ...]

    @property
    def challenger(self) -> Rung | None:
        """Return the challenger where it is ready."""
        return self.rungs[0] if self.rungs[0].policy == CHALLENGER else None

    @property
    def shadow(self) -> bool:
        """Say whether the challenger's answers are only looked at."""
        return self.running.share == 0

    def arms(self, units: Sequence[str]) -> list[str | None]:
        """Name the arm of each unit; None where it takes no part."""
        return assign(self.running.declaration, units, self.running.day)


@dataclass(frozen=True)
class State:
    """Everything an answer depends on; replaced as a whole, so that no request sees half of a change."""

    stock: Shelf
    rungs: tuple[Rung, ...]
    problems: tuple[str, ...] = ()
    trial: Trial | None = None

    @property
    def first(self) -> Rung:
        return self.rungs[0]

    def rungs_of(self, arm: str | None) -> tuple[Rung, ...]:
        """Return who answers in an arm, the first choice first."""
        return self.trial.rungs if self.trial is not None and arm == TREATMENT else self.rungs


class Ladder:
    """Follows the champion's alias, the workspace's experiment and the materialized features.

    `state` is what stands now.
    """

    def __init__(
        self, case: CaseStudy, serving: Serving, ws: Workspace, platform: Platform, registry: Registry
    ) -> None:
        self._case, self._serving, self.workspace = case, serving, ws
        self._platform, self._registry = platform, registry
        self._models: dict[str, object] = {}
        self._refused: dict[str, str] = {}
        self._unready: dict[str, str] = {}
        self._running = read_open(ws)
        self._wanted = self._choose((), self._running)
        self.state = self._build(self._moment(), self._wanted, self._running)

    def refresh(self) -> bool:
        """Take up a new champion, an experiment or newer features; say whether anything changed.

        An outage of the registry, a model whose hash is wrong or that cannot be made ready: what stood
        serves on, and the problem is told for as long as it lasts.
        """
        before, outages = self.state, []
        wanted, running, moment = self._wanted, self._running, before.stock.moment
        try:
            running = read_open(self.workspace)
            wanted = self._choose(self._standing(), running)
        except LoopError as error:
            running = self._running
            outages.append(str(error))
        try:
            moment = self._moment()
        except LoopError as error:
            outages.append(str(error))
        if _asked_for(wanted) != _asked_for(self._wanted) or moment != before.stock.moment:
            try:
                self.state = self._build(moment, wanted, running, outages)
                self._wanted, self._running = wanted, running
                return True
            except Exception as error:  # a file that is spoiled, say: what stood serves on
                _log.exception("what is new cannot be taken up")
                outages.append(f"what is new cannot be taken up: {type(error).__name__}: {error}")
            running = self._running
        self._running, trial = running, before.trial
        if trial is not None and running is not None and running != trial.running:  # the next stage, say
            trial = replace(trial, running=running)
        self.state = replace(before, trial=trial, problems=self._problems(self._wanted, outages))
        return trial is not before.trial

    def _moment(self) -> datetime:
        found = materialized(self._case, self.workspace, self._platform)
        if found is None:
            raise LoopError(
                f"{self.workspace.online} holds no features yet: run the watch flow, or `loop up`, which fills it"
            )
        return found

    def _standing(self) -> list[Version]:
        """List the versions that can answer now, the first choice first."""
        known = {version.digest: version for _, version in self._wanted}
        return [known[rung.digest] for rung in self.state.rungs if rung.digest is not None]

    def _choose(self, standing: Sequence[Version], running: Running | None) -> Wanted:
        """Name the champion, the last good one before it (of those that stand, or as the registry says), and
        the challenger of an experiment, unless it is the champion by now."""
        champion = self._registry.champion()
        previous = None if standing else self._registry.previous()
        earlier = list(standing) if previous is None else [previous]
        if champion is not None:
            earlier = [version for version in earlier if version.digest != champion.digest]
        wanted = [] if champion is None else [(CHAMPION, champion)]
        wanted += [(BEFORE, version) for version in earlier[:1]]
        if running is not None and (champion is None or champion.digest != running.challenger.digest):
            wanted.append((CHALLENGER, running.challenger))
        for _, version in wanted:
            self._load(version)
        return tuple(wanted)

    def _load(self, version: Version) -> None:
        """Load a version's model once; one that is broken is refused, and not tried again.

        Raises RegistryDownError where it cannot be had just now.
        """
        if version.digest in self._models or version.digest in self._refused:
            return
        try:
            self._models[version.digest] = load_model(self._case, self._registry.load(version))
        except RegistryDownError:
            raise
        except OSError as error:  # not now, which says nothing of the model
            raise RegistryDownError(f"version {version.number} cannot be read just now: {error}") from error
        except LoopError as error:
            self._refused[version.digest] = f"version {version.number} is refused: {error}"
            _log.error("%s", self._refused[version.digest])
        except Exception as error:  # its files are what they were, and today's code cannot read them
            words = f"version {version.number} cannot be loaded: {type(error).__name__}: {error}"
            self._refused[version.digest] = words
            _log.exception("%s", words)

    def _build(
        self, moment: datetime, wanted: Wanted, running: Running | None, outages: Sequence[str] = ()
    ) -> State:
        """Make everyone ready who is wanted and was not refused; the heuristic stands behind them."""
        stock = read_stock(self._case, self._serving, self.workspace, self._platform, moment)
        unready: dict[str, str] = {}
        rungs: list[Rung] = []
        for policy, version in wanted:
            if version.digest not in self._models:
                continue
            try:
                answerer = self._serving.ready(self._models[version.digest], stock)
            except Exception as error:  # a model that fits its hash may still not fit the features of today
                unready[version.digest] = (
                    f"version {version.number} cannot be made ready: {type(error).__name__}: {error}"
                )
                _log.exception("version %s cannot be made ready", version.number)
                continue
            rungs.append(Rung(policy, version.number, version.digest, answerer))
        rungs.append(Rung(HEURISTIC, None, None, self._serving.fallback(stock)))
        self._models = {digest: self._models[digest] for digest in _digests(wanted) if digest in self._models}
        self._unready = unready
        usual = tuple(rung for rung in rungs if rung.policy != CHALLENGER)
        trial = None
        if running is not None and any(policy == CHALLENGER for policy, _ in wanted):
            trial = Trial(running, (*(rung for rung in rungs if rung.policy == CHALLENGER), *usual))
        return State(stock, usual, self._problems(wanted, outages), trial)

    def _problems(self, wanted: Wanted, outages: Sequence[str]) -> tuple[str, ...]:
        """Tell what is wrong now: outages, and who is wanted and cannot answer."""
        known = self._refused | self._unready
        return (*outages, *(known[digest] for digest in _digests(wanted) if digest in known))


def _digests(wanted: Wanted) -> list[str]:
    return [version.digest for _, version in wanted]


def _asked_for(wanted: Wanted) -> list[tuple[str, bool]]:
    """Tell what a change is told by: the models, and whether one of them is on trial."""
    return [(version.digest, policy == CHALLENGER) for policy, version in wanted]
