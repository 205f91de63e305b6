"""What a time-lapse is to replay, and the projects it is replayed in: one for its past, one for each arm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from pipelines import catalog
from pipelines.errors import UsageError, nearest
from pipelines.settings import CaseParams, Project, read_yaml
from pipelines.stores.files import read_json, write_aside, write_json

DIRECT = "direct"
_PROFILE = "embedded"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """One time-lapse. Its days are counted from 0; the `lead_days` before it have negative numbers.

    The scenario begins on day `shift_day`.
    """

    case: str
    scenario: str
    seed: int
    lead_days: int
    shift_day: int
    params: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def promotion(self) -> str:
        """Say how a challenger takes over: `direct`, by the gate alone, or `canary`, by an experiment."""
        return str(self.config.get("promotion", DIRECT))

    @property
    def name(self) -> str:
        """Name the folder of what is lived by this plan."""
        canary = "" if self.promotion == DIRECT else f"-{self.promotion}"
        return f"{self.scenario}-{self.seed}{canary}"


class Stage(Project):
    """A project of the time-lapse's own: its registry is its own too, whatever the environment says."""

    @property
    def home(self) -> Path:
        return self.root

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root / 'registry' / 'mlflow.db'}"


def scenario_name(text: str) -> str:
    """Read a scenario's name as people write it: `concept-shift` is `concept`."""
    from pipelines.world.scenarios import SCENARIOS

    name = text.replace("-", "_").removesuffix("_shift")
    if name not in SCENARIOS:
        raise UsageError(f"no scenario '{text}': {nearest(name, SCENARIOS)}")
    return name


def playable(project: Project, case: str) -> CaseParams:
    """Read the params of a case that a time-lapse can be of; UsageError where there is none, or it is not served."""
    if catalog.case(case).serving is None:
        raise UsageError(
            f"{case} does not say how it answers requests, and a time-lapse lives by its answers: "
            "give its CASE a `serving`"
        )
    return project.case_params(case)


def make_plan(project: Project, case: str, scenario: str, seed: int, promotion: str | None = None) -> Plan:
    """Lay the case's time-lapse over its params and config, key by key, and put the scenario in.

    `promotion`: how a challenger takes over, where it is not to be as the config says.
    """
    playable(project, case)
    changes = project.case_config(case).timelapse
    section = read_yaml(project.root / "params.yaml")[case]
    params = laid_over(section, changes.params)
    begins = CaseParams.model_validate(params).past_days + changes.lead_days + changes.shift_day
    name = scenario_name(scenario)
    world = laid_over(params.get("world", {}), {"scenario": {"name": name, "day": begins}})
    path = project.root / "configs" / f"{case}.yaml"
    config = laid_over(read_yaml(path) if path.is_file() else {}, changes.config)
    config.pop("timelapse", None)
    config |= {} if promotion is None else {"promotion": promotion}
    return Plan(
        case,
        name,
        seed,
        changes.lead_days,
        changes.shift_day,
        {**params, "seed": seed, "world": world},
        config,
    )


def open_stage(project: Project, plan: Plan, folder: Path) -> Stage:
    """Make a project of the plan's params and config in a folder, or find it there.

    Raise UsageError where the folder holds another plan.
    """
    kept = folder / _PLAN
    if kept.is_file() and read_json(kept) != _plain(plan):
        raise UsageError(
            f"{folder} holds a time-lapse of other params or configs, and so may what stands beside it: "
            f"remove {project.root / 'timelapse' / plan.case}"
        )
    if not kept.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "configs").mkdir(parents=True)
        shutil.copy(project.root / "configs" / f"{_PROFILE}.yaml", folder / "configs")
        _write_yaml(folder / "configs" / f"{plan.case}.yaml", plan.config)
        _write_yaml(folder / "params.yaml", {plan.case: plan.params})
        write_json(kept, _plain(plan))
    return Stage(folder, _PROFILE)


def laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace key by key, mappings within mappings."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = laid_over(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def midnight(plan: Plan, day: int) -> datetime:
    """Return the midnight with which a day of the plan begins."""
    trained = CaseParams.model_validate(plan.params).as_of
    return trained + timedelta(days=plan.lead_days + day)


def _plain(plan: Plan) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_jsonable(asdict(plan))))
    return plain


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    with write_aside(path) as aside:
        aside.write_text(yaml.safe_dump(_jsonable(content), sort_keys=False))
