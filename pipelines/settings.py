"""Typed configuration: params.yaml and configs/ become frozen models; unknown keys are refused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import UsageError, nearest


class Frozen(BaseModel):
    """A settings model: immutable, and every key must be known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _utc(moment: datetime) -> datetime:
    """Turn to UTC; at the calendar's ends there may be no such moment."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it lies outside the years 1 to 9999 in UTC") from None


SettingsT = TypeVar("SettingsT", bound=BaseModel)
UtcDatetime = Annotated[AwareDatetime, AfterValidator(_utc)]
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


class Gate(Frozen):
    """What a challenger must show before it may be promoted.

    Effects are absolute differences of the primary metric; `confidence` is that of the paired
    bootstrap interval whose lower end must lie above the margin. `guardrail_tolerance` is by the guardrails of the
    case's framing; one that is not named may not get worse at all.
    """

    heuristic_margin: float = 0.0
    champion_margin: float = 0.0
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=1000, ge=100)
    minimum_units: int = Field(default=100, ge=1)
    guardrail_tolerance: Mapping[str, float] = {}
    slice_tolerance: float = 0.05
    slice_minimum_units: int = Field(default=50, ge=1)


class Alarms(Frozen):
    """When drift is worth a word (`warning`) and when it may cause a retrain by itself (`alarm`).

    Without `report` the verdict is written alone: the HTML report, for people, takes most of a monitor's time.
    """

    warning_rate: float = Field(default=0.05, gt=0, lt=1)
    alarm_run_rate: float = Field(default=0.05, gt=0, lt=1)
    run_days: int = Field(default=60, ge=1)
    report: bool = True
    report_sample: int = Field(default=10_000, ge=1000)


class Cadence(Frozen):
    """When the flows of a case run by themselves (cron, in UTC)."""

    build: str | None = None
    watch: str | None = "0 * * * *"
    retrain: str | None = None
    experiment: str | None = "30 0 * * *"


class Budget(Frozen):
    """How many retrains `watch` may ask for within any `days` days."""

    retrains: int = Field(default=4, ge=1)
    days: int = Field(default=28, ge=1)


class Measure(Frozen):
    """What is counted of each unit: one count over another.

    Counts are `units` (1 each), `requests`, `labels` (their sum), `examples` (what has a label), each word of the
    case's actions, and each of its decisions.
    """

    name: str
    numerator: str = "labels"
    denominator: str = "requests"
    lower_is_better: bool = False


class Watched(Measure):
    """A measure of the answers themselves; a fall by more than the share `drop` is looked into.

    `week_drop` is the share by which a week may fall below the fortnight before it, where no day falls by `drop`: it
    tells slow changes, of a measure whose days do not depend on each other (null: only days are looked at). It may
    count what is known at once alone: `requests`, and each of the case's decisions.
    """

    drop: float = Field(gt=0, lt=1)
    week_drop: float | None = Field(default=None, gt=0, lt=1)


class Triggers(Frozen):
    """What makes `watch` ask for a retrain, and how often it may; null: not asked for, or not bounded.

    `performance_drop` is in the primary metric, `outcome_drop` a share of the experiment's metric; `answers` is
    watched beside it, and may tell a fall days before a label does (posts removed, of all posts).
    `estimated_drop` in the normalized entropy that the scores lead to expect before labels come. `max_age`
    counts the days since the last training. After a fall the model is learned again from newer rows, `follow_ups`
    times, each twice as long after it as the one before: the first one a cooldown after it.
    """

    new_labels: int | None = Field(default=20_000, ge=1)
    performance_drop: float = Field(default=0.05, gt=0)
    outcome_drop: float | None = Field(default=None, gt=0, lt=1)
    answers: Watched | None = None
    estimated_drop: float | None = Field(default=None, gt=0)
    max_age: int | None = Field(default=None, ge=1)
    follow_ups: int = Field(default=3, ge=0)
    cooldown: timedelta = Field(default=timedelta(days=1), ge=timedelta(0))
    budget: Budget | None = None


class Answers(Frozen):
    """How requests are answered.

    `explore` is the share of answers drawn at random, with their propensities; features older than
    `feature_age` are told as stale; a token earns actions for `token_life`.
    """

    explore: float = Field(default=0.1, ge=0, le=1)
    feature_age: timedelta = timedelta(days=2)
    token_life: timedelta = timedelta(days=30)


class Most(Frozen):
    """The most rows that count; null: any number. A day is a UTC day of arrival.

    `pair` holds for one actor and one target, within the window, each kind of action for itself.
    `address_day` and `address_pair` hold likewise for the address that actions came from.
    """

    actor_day: int | None = Field(default=None, ge=1)
    pair: int | None = Field(default=None, ge=1)
    address_day: int | None = Field(default=None, ge=1)
    address_pair: int | None = Field(default=None, ge=1)


class Outlier(Frozen):
    """Which actor acts on more of what it is shown than can be believed.

    The log-odds of acting, of all actors who were shown `shown` things within the window, have a median and
    a median deviation: `deviations` of these above it (and as many of chance) is the most that is believed.
    """

    deviations: float = Field(default=4.0, gt=0)
    shown: int = Field(default=50, ge=1)


class Limits(Frozen):
    """What one account, or one address, may contribute to the lake. Without a section nothing is limited."""

    window_days: int = Field(default=28, ge=1)
    impressions: Most = Most()
    actions: Most = Most()
    outlier: Outlier | None = None


class Timelapse(Frozen):
    """What a time-lapse changes, key by key, so that months pass in minutes: a smaller world, lighter training.

    `params` are laid over the case's section of params.yaml, `config` over the rest of its config file. The first
    champion serves `lead_days` unwatched, and is retrained on what it was answered, before the time-lapse begins;
    a scenario begins `shift_day` days later.
    """

    params: Mapping[str, Any] = {}
    config: Mapping[str, Any] = {}
    lead_days: int = Field(default=10, ge=1)
    shift_day: int = Field(default=15, ge=1)


class Bound(Measure):
    """A measure that may get worse by `tolerance` at most (absolute)."""

    tolerance: float = Field(gt=0)


class Canary(Frozen):
    """How a challenger meets live users, until the experiment's verdict.

    For `shadow_days` it answers unseen. Then each of `shares` of all units meets it for `stage_days`, the last
    one to the end; as many others are its control. A unit's outcome is what came of its requests within
    `outcome` of the first, `before` the time before the start that makes the comparison sharper. A challenger
    that fails to answer more than the share `failures` of its requests is rolled back.
    """

    shadow_days: int = Field(default=1, ge=0)
    shares: tuple[Annotated[float, Field(gt=0, le=0.5)], ...] = Field(default=(0.05, 0.5), min_length=1)
    stage_days: int = Field(default=2, ge=1)
    minimum_days: int = Field(default=7, ge=1)
    maximum_days: int = Field(default=30, ge=1)
    planned_units: int = Field(default=5_000, ge=2)
    minimum_units: int = Field(default=100, ge=2)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    outcome: timedelta = Field(default=timedelta(days=1), gt=timedelta(0))
    before: timedelta = Field(default=timedelta(days=7), ge=timedelta(0))
    failures: float = Field(default=0.01, ge=0, lt=1)
    metric: Measure = Measure(name="labels_per_request")
    guardrails: tuple[Bound, ...] = ()


Promotion = Literal["direct", "canary"]
"""How a challenger takes over: by the gate alone, or by an experiment with live users."""


class CaseConfig(Frozen):
    """Where and when one case runs: `configs/<case>.yaml`."""

    promotion: Promotion = "direct"
    gate: Gate = Gate()
    alarms: Alarms = Alarms()
    cadence: Cadence = Cadence()
    triggers: Triggers = Triggers()
    answers: Answers = Answers()
    limits: Limits = Limits()
    experiment: Canary = Canary()
    timelapse: Timelapse = Timelapse()


class Window(Frozen):
    """The days a model learns from and the later days it is judged on."""

    train_days: int = Field(default=28, ge=1)
    evaluate_days: int = Field(default=7, ge=1)
    refit: bool = False
    """Whether what serves is fitted once more, on the `train_days` until `as_of`, after the gate has passed."""


class CaseParams(Frozen):
    """What changes a model: a case's section of params.yaml.

    `world` and `train` are read by the models that the case itself declares.
    """

    as_of: UtcDatetime
    seed: int = 0
    window: Window = Window()
    warm_days: int = Field(default=0, ge=0)
    """Days of the simulated world before the window, for features that look far back."""
    world: Mapping[str, Any] = {}
    train: Mapping[str, Any] = {}

    @property
    def past_days(self) -> int:
        """Count the days of the simulated world before `as_of`."""
        return self.warm_days + self.window.train_days + self.window.evaluate_days


class Mlflow(Frozen):
    tracking_uri: str = "sqlite:///registry/mlflow.db"
    artifacts: str = "registry/artifacts"


class Prefect(Frozen):
    """Prefect's server. Without a database URL it keeps a SQLite file in `.prefect/`."""

    database: str | None = Field(default=None, pattern=r"^postgresql\+asyncpg://")


class Ports(Frozen):
    """Loopback ports of `make up`."""

    prefect: int = 4200
    mlflow: int = 5000


class Feast(Frozen):
    """Feast's stores; `{workspace}` stands for the workspace's folder."""

    registry: Mapping[str, Any] = {"registry_type": "file", "path": "{workspace}/online/registry.db"}
    offline_store: Mapping[str, Any] = {"type": "pipelines.stores.asof_store.AsofOfflineStore"}
    online_store: Mapping[str, Any] = {
        "type": "pipelines.stores.packed_online_store.PackedSqliteOnlineStore",
        "path": "{workspace}/online/online.db",
    }


class SqliteLog(Frozen):
    """The action log as a file of the workspace."""

    engine: Literal["sqlite"] = "sqlite"


class PostgresLog(Frozen):
    """The action log in PostgreSQL, one database a checkout.

    The URL names no password: libpq finds it in PGPASSWORD or ~/.pgpass.
    """

    engine: Literal["postgres"]
    url: str = Field(pattern=r"^postgres(ql)?://")


class Platform(Frozen):
    """A profile of the platform: `configs/embedded.yaml` or `configs/production.yaml`."""

    mlflow: Mlflow = Mlflow()
    prefect: Prefect = Prefect()
    ports: Ports = Ports()
    feast: Feast = Feast()
    action_log: SqliteLog | PostgresLog = Field(default=SqliteLog(), discriminator="engine")


class Project:
    """A checkout: the folder that holds params.yaml and configs/."""

    def __init__(self, root: Path, profile: str = "embedded") -> None:
        self.root = root.resolve()
        self.profile = profile

    @classmethod
    def find(cls, profile: str | None = None, start: Path | None = None) -> Project:
        """Find the project from LOOP_ROOT, or from the nearest folder upward that holds params.yaml."""
        profile = profile or os.environ.get("LOOP_PROFILE") or "embedded"
        named = os.environ.get("LOOP_ROOT")
        start = Path(named) if named else (start or Path.cwd())
        for folder in (start, *start.resolve().parents):
            if (folder / "params.yaml").is_file():
                return cls(folder, profile).checked()
        raise UsageError(
            f"no params.yaml in {start} or above it: run this in the project, or set LOOP_ROOT to its folder"
        )

    def checked(self) -> Project:
        """Return this project; UsageError where its profile does not exist."""
        folder = self.root / "configs"
        if not (folder / f"{self.profile}.yaml").is_file():
            cases = read_yaml(self.root / "params.yaml")
            profiles = {path.stem for path in folder.glob("*.yaml")} - set(cases)
            raise UsageError(f"unknown profile '{self.profile}': {nearest(self.profile, profiles)}")
        return self

    @cached_property
    def platform(self) -> Platform:
        """Read the profile's settings, the environment put in place of `${NAME:-default}`."""
        path = self.checked().root / "configs" / f"{self.profile}.yaml"
        return parse(Platform, filled(read_yaml(path), str(path)), str(path))

    def case_config(self, case: str) -> CaseConfig:
        """Read `configs/<case>.yaml`; the defaults where there is none."""
        path = self.root / "configs" / f"{case}.yaml"
        return parse(CaseConfig, read_yaml(path) if path.is_file() else {}, str(path))

    def case_params(self, case: str) -> CaseParams:
        """Read the case's section of params.yaml."""
        path = self.root / "params.yaml"
        sections = read_yaml(path)
        if case not in sections:
            raise UsageError(f"{path} has no section '{case}': {nearest(case, sections)}")
        return parse(CaseParams, sections[case], f"{path}: {case}")

    @property
    def home(self) -> Path:
        """The folder that keeps the registry: this checkout, or the one an experiment was queued from.

        `dvc exp run --queue` works in a copy and names the checkout it came from in DVC_ROOT.
        """
        return Path(os.environ.get("DVC_ROOT", self.root)).resolve()

    @property
    def registry_folder(self) -> Path:
        """Where the embedded registry and the promotions' receipts stand."""
        return self.home / "registry"

    @property
    def tracking_uri(self) -> str:
        """The MLflow URI, absolute, so that every process means the same store."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or self.platform.mlflow.tracking_uri
        prefix = "sqlite:///"
        if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
            return prefix + str(self.home / uri.removeprefix(prefix))
        return uri

    @property
    def artifact_root(self) -> str:
        """Where MLflow keeps artifacts: a URI, or an absolute path."""
        root = self.platform.mlflow.artifacts
        return root if "://" in root else str(self.home / root)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; name the file and line when it cannot be parsed."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold a mapping of keys to values")
    return content


def filled(content: Any, where: str) -> Any:
    """Put the environment in place of `${NAME}` and `${NAME:-default}`; an empty variable counts as unset."""
    if isinstance(content, Mapping):
        return {key: filled(value, where) for key, value in content.items()}
    if isinstance(content, list):
        return [filled(value, where) for value in content]
    if isinstance(content, str):
        return _VARIABLE.sub(lambda found: _variable(found, where), content)
    return content


def _variable(found: re.Match[str], where: str) -> str:
    value = os.environ.get(found["name"]) or found["default"]
    if value is None:
        raise UsageError(f"{where} needs the environment variable {found['name']}, which is not set")
    return value


def parse(model: type[SettingsT], content: Mapping[str, Any], where: str) -> SettingsT:
    """Validate settings; an unknown key's error names the nearest known one."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
        raise UsageError(f"{where}: " + "; ".join(problems)) from None


def _explain(model: type[BaseModel], problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        return f"'{'.'.join(path)}': {problem['msg']} (got {problem['input']!r})"
    known: type[BaseModel] | None = model
    for part in path[:-1]:
        field = known.model_fields.get(part) if known else None
        inner = field.annotation if field else None
        known = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    hint = nearest(path[-1], known.model_fields) if known else ""
    return f"unknown key '{'.'.join(path)}': {hint}"
