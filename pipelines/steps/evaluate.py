"""Evaluate: model, heuristics and, where there is one, the oracle on the same later rows.

A function of files and a judge alone: no registry, so that DVC may keep its outcome. The champion is
rescored by `promote`, on these units and with these draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.case_study import CaseStudy, Judge, Measured, Model
from pipelines.errors import LoopError, StrangerError
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.reliability import reliability
from pipelines.learning.scores import Scores, score
from pipelines.settings import CaseParams, Gate, Platform, parse
from pipelines.steps.gate import CHAMPION, DAY, best_heuristic
from pipelines.steps.split import Split, find_protocol, split
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.models import load_model, read_card, read_examples, read_manifest, read_record
from pipelines.stores.workspace import Workspace

MODEL, ORACLE = "model", "oracle"
_RESERVED = {MODEL, ORACLE, CHAMPION}
_RELIABILITY_ROWS = 5_000


@dataclass(frozen=True)
class Evaluation:
    """The outcome, as written to `ws.evaluation`: `content` is evaluation.json."""

    content: Mapping[str, Any]
    scores: Scores
    folder: Path

    @property
    def primary(self) -> str:
        """Name the primary metric."""
        return str(self.content["primary"])

    @property
    def heuristic(self) -> str:
        """Name the best heuristic."""
        return str(self.content["best_heuristic"])

    def estimate(self, scorer: str, metric: str | None = None) -> Estimate | None:
        """Return a scorer's metric (the primary one by default), or None where it does not apply."""
        found = self.content["scorers"].get(scorer, {}).get(metric or self.primary)
        return None if found is None else Estimate.from_json(found)

    def summary(self) -> str:
        """Say in a line what was found."""
        shown = [
            f"{scorer} {each.value:.4f} [{each.low:.4f}, {each.high:.4f}]"
            for scorer in (MODEL, self.heuristic, ORACLE)
            if (each := self.estimate(scorer)) is not None
        ]
        unjudged = f"; {self.content['unjudged']}" if "unjudged" in self.content else ""
        return f"{self.primary}: " + ", ".join(shown) + unjudged


class Oracle:
    """Scores rows by the truth: what no model can beat."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        """Return the true probability of the label for each row."""
        return self.judge.expected(rows)

    def save(self, folder: Path) -> None:
        """Refuse: the truth is not for keeping."""
        raise LoopError("the oracle cannot be saved")


def evaluate(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    judge: Judge | None = None,
    *,
    gate: Gate | None = None,
) -> Evaluation:
    """Measure every scorer on the protocol's later rows and write `ws.evaluation`.

    `gate` names how many resamples to draw and how confident the intervals are. Raise LoopError where
    the model was trained for another moment or protocol. Where people of no simulated world are among the rows,
    there is no oracle, and the evaluation says so.
    """
    gate = gate or Gate()
    record = _matching_record(ws, as_of, protocol)
    divided = split(case, ws, as_of, params, platform, protocol)
    model = load_model(case, ws.model)
    measured, unjudged = _measure_all(case, params, divided, model, protocol, judge)
    _require_primary(case, measured)
    scores = score(measured, case.framing.primary_metric, gate.resamples, params.seed)
    digest = read_manifest(ws.model)["digest"]
    content = _content(case, divided, protocol, record, digest, scores, gate, params) | unjudged
    plots = plot_rows(content, read_card(ws.model))
    plots["reliability"] = _reliability(case, divided, model, ws.model, params.seed)
    with write_folder_aside(ws.evaluation) as folder:
        write_json(folder / "evaluation.json", content)
        write_json(folder / "metrics.json", flat_metrics(content))
        scores.save(folder / "scores.parquet")
        (folder / "plots").mkdir()
        for name, rows in plots.items():
            write_json(folder / "plots" / f"{name}.json", rows)
    return Evaluation(content, scores, ws.evaluation)


def read_evaluation(ws: Workspace) -> Evaluation:
    """Read what `evaluate` wrote."""
    path = ws.evaluation / "evaluation.json"
    if not path.is_file():
        raise LoopError(f"{path} does not exist: evaluate first")
    return Evaluation(read_json(path), Scores.load(ws.evaluation / "scores.parquet"), ws.evaluation)


def flat_metrics(content: Mapping[str, Any]) -> dict[str, float]:
    """Flatten an evaluation to the few numbers that `dvc metrics show` and `diff` print side by side."""
    primary, best = content["primary"], content["best_heuristic"]
    flat: dict[str, float | None] = {
        metric: found["value"] for metric, found in content["scorers"][MODEL].items()
    }
    own = content["scorers"][MODEL][primary]
    flat |= {f"{primary}_low": own["low"], f"{primary}_high": own["high"]}
    flat |= {f"{primary}_heuristic": content["scorers"][best][primary]["value"]}
    gain = content["differences"][best][primary]
    value, low = gain["value"], gain["low"]
    if primary in content["lower_is_better"]:
        value, low = (None if each is None else -each for each in (value, gain["high"]))
    flat |= {f"{primary}_gain": value, f"{primary}_gain_low": low}
    if primary in content["scorers"].get(ORACLE, {}):
        flat[f"{primary}_oracle"] = content["scorers"][ORACLE][primary]["value"]
    return {name: value for name, value in flat.items() if value is not None}


def plot_rows(content: Mapping[str, Any], card: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the rows behind each plot, by name: what `dvc plots` and the figures draw."""
    primary = content["primary"]
    where = content["slices"].items()
    return {
        "scorers": [
            {"scorer": scorer, "metric": metric, **found}
            for scorer, metrics in content["scorers"].items()
            for metric, found in metrics.items()
        ],
        "primary": [
            {"scorer": scorer, **metrics[primary]}
            for scorer, metrics in content["scorers"].items()
            if primary in metrics
        ],
        "slices": [
            {"slice": name, "scorer": scorer, **found}
            for name, scorers in where
            if not name.startswith(DAY)
            for scorer, found in scorers.items()
        ],
        "days": [
            {"day": name.removeprefix(DAY), "scorer": scorer, **found}
            for name, scorers in where
            if name.startswith(DAY)
            for scorer, found in scorers.items()
        ],
        "curves": [
            {"curve": curve, "step": step, "value": value}
            for curve, values in card.curves.items()
            for step, value in enumerate(values)
        ],
        "importance": [
            {"feature": feature, "importance": value}
            for feature, value in sorted(card.importance.items(), key=lambda item: -item[1])[:30]
        ],
    }


def _measure_all(
    case: CaseStudy, params: CaseParams, divided: Split, model: Model, protocol: str, judge: Judge | None
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measure every scorer; also say why the oracle is not among them, where a judge does not know all rows."""
    measure = find_protocol(case, protocol).measure

    def by(judge: Judge | None) -> dict[str, Measured]:
        scorers = _scorers(case, params, divided, model, judge)
        return {scorer: measure(each, divided.train, divided.test, judge) for scorer, each in scorers}

    try:
        return by(judge), {}
    except StrangerError as error:
        return by(None), {"unjudged": f"the oracle is not told: {error}"}


def _scorers(
    case: CaseStudy, params: CaseParams, divided: Split, model: Model, judge: Judge | None
) -> Iterator[tuple[str, Model]]:
    clash = _RESERVED & set(case.heuristics)
    if clash or not case.heuristics:
        raise LoopError(f"{case.name}: there must be heuristics, none of them called {sorted(_RESERVED)}")
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    yield MODEL, model
    for name, fit in case.heuristics.items():
        yield name, fit(divided.train, settings)
    if judge is not None:
        yield ORACLE, Oracle(judge)


def _matching_record(ws: Workspace, as_of: datetime, protocol: str) -> dict[str, Any]:
    record = read_record(ws.model)
    for name, wanted in (("as_of", as_of.isoformat()), ("protocol", protocol)):
        if record[name] != wanted:
            raise LoopError(f"{ws.model} was trained with {name} {record[name]}, not {wanted}: train again")
    return record


def _require_primary(case: CaseStudy, measured: Mapping[str, Measured]) -> None:
    primary = case.framing.primary_metric
    for scorer in (MODEL, *case.heuristics):
        if primary not in measured[scorer].statistics:
            raise LoopError(f"{case.name}: the protocol does not measure '{primary}' of '{scorer}'")


def _content(
    case: CaseStudy,
    divided: Split,
    protocol: str,
    record: Mapping[str, Any],
    digest: str,
    scores: Scores,
    gate: Gate,
    params: CaseParams,
) -> dict[str, Any]:
    primary = case.framing.primary_metric

    def found(pick: Callable[[str, str], Any], scorer: str) -> dict[str, Any]:
        picked = {metric: pick(scorer, metric) for metric in scores.metrics(scorer)}
        return {k: each.estimate(gate.confidence).as_json() for k, each in picked.items() if each is not None}

    return {
        "case": case.name,
        "protocol": protocol,
        "describe": dict(find_protocol(case, protocol).describe),
        "primary": primary,
        "lower_is_better": list(case.framing.lower_is_better),
        "model": digest,
        "as_of": record["as_of"],
        "train": {"start": divided.train.start.isoformat(), "end": divided.train.end.isoformat()},
        "test": {"start": divided.test.start.isoformat(), "end": divided.test.end.isoformat()},
        "best_heuristic": best_heuristic(scores, case.framing, list(case.heuristics)),
        "heuristics": list(case.heuristics),
        "scorers": {scorer: found(scores.get, scorer) for scorer in scores.scorers()},
        "differences": {
            name: found(lambda scorer, metric: scores.difference(MODEL, scorer, metric), name)
            for name in case.heuristics
        },
        "slices": {
            where: {
                scorer: each.estimate(gate.confidence).as_json()
                for scorer in scores.scorers()
                if (each := scores.get(scorer, primary, where)) is not None
            }
            for where in scores.slices()
        },
        "units": dict(scores.units),
        "resamples": gate.resamples,
        "confidence": gate.confidence,
        "slice_minimum_units": gate.slice_minimum_units,
        "seed": params.seed,
    }


def _reliability(
    case: CaseStudy, divided: Split, model: Model, folder: Path, seed: int
) -> list[dict[str, float]]:
    """Hold predicted probabilities against outcomes; empty where the case predicts none."""
    labels = divided.test.labels()
    if labels.height > _RELIABILITY_ROWS:
        labels = labels.sample(_RELIABILITY_ROWS, seed=seed)
    if labels.is_empty() or not labels["label"].drop_nulls().is_in([0, 1]).all():
        return []
    rows = divided.test.historical(labels, case.label.time)
    if not set(read_examples(folder).columns) <= set(rows.columns):
        return []  # the model sees more than labelled rows and stored features can show
    predicted = np.asarray(model.predict(rows), dtype=float)
    if predicted.min() < 0 or predicted.max() > 1:
        return []
    return reliability(predicted, labels["label"].cast(pl.Float64).to_numpy())
