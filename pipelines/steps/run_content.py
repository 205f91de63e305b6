"""What a promotion leaves in the tracking store: figures, tags, data sets, the card and the pictures."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.case_study import CaseStudy
from pipelines.learning.figures import draw_all
from pipelines.learning.scores import EVERYWHERE, Scores
from pipelines.steps.evaluate import MODEL, Evaluation
from pipelines.steps.gate import CHAMPION, Judgement, Reason
from pipelines.steps.model_card import flat, framing_note, framing_tags, model_card
from pipelines.stores.code import git_commit
from pipelines.stores.files import read_json, write_json
from pipelines.stores.models import read_card, read_examples, read_record
from pipelines.stores.registry import Version
from pipelines.stores.run_log import LoggedData, RunContent
from pipelines.stores.workspace import Workspace

_TAG_CHARACTERS = 4500  # a version's tag holds 5,000
_DATA_ROWS = 1000


def run_content(
    case: CaseStudy,
    ws: Workspace,
    evaluation: Evaluation,
    scores: Scores,
    champion: Version | None,
    judgement: Judgement | None,
    decision: str,
    why: str,
    origin: str,
    folder: Path,
) -> RunContent:
    """Gather a run; its artifacts are written to `folder`."""
    record, card = read_record(ws.model), read_card(ws.model)
    verdict = verdict_tags(judgement, decision, why, champion)
    shown = _with_champion(evaluation, scores)
    text = model_card(case, record, shown, card, judgement, f"{decision}: {why}")
    _write_artifacts(folder, evaluation, scores, record, verdict, text)
    params = (
        flat(record["params"])
        | {name: record[name] for name in ("as_of", "protocol", "seed")}
        | record["days"]
    )
    return RunContent(
        key=_key(evaluation, champion, decision, why, origin),
        name=f"{record['as_of'][:10]} {evaluation.content['model'][:8]}",
        at=int(datetime.fromisoformat(record["as_of"]).timestamp() * 1000),
        framing=framing_note(case),
        card=text,
        experiment_tags=framing_tags(case),
        params=params,
        metrics=_metrics(evaluation, scores) | {f"train/{name}": each for name, each in card.metrics.items()},
        curves=card.curves,
        tags=verdict
        | origin_tags(record, origin)
        | {"model_digest": evaluation.content["model"], "mlflow.source.name": f"{origin}/{ws.name}"}
        | ({"mlflow.source.git.commit": commit} if (commit := git_commit()) else {})
        | {f"library.{name}": number for name, number in record["versions"].items()},
        data=_data(ws, record, evaluation),
        artifacts=folder,
    )


def origin_tags(record: Mapping[str, Any], origin: str) -> dict[str, str]:
    """Return where a model came from, as tags of its run and version."""
    return {
        "origin": origin,
        "as_of": record["as_of"],
        "protocol": record["protocol"],
        "data_digest": record["data"],
        "code_digest": record["code"],
    }


def verdict_tags(
    judgement: Judgement | None, decision: str, why: str, champion: Version | None
) -> dict[str, str]:
    """Return the verdict as tags: the decision, why, each check in words, and who was champion."""
    checks = (
        {} if judgement is None else {_tag(f"gate.{each.check}"): _said(each) for each in judgement.reasons}
    )
    against = "none" if champion is None else f"version {champion.number}"
    return {"decision": decision, "why": why[:_TAG_CHARACTERS], "gate.against": against, **checks}


def _tag(name: str) -> str:
    """Name a tag so that MLflow takes it: a slice may be called `site=3`."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def _said(reason: Reason) -> str:
    return f"{'passed' if reason.passed else 'failed'}: {reason.words}"[:_TAG_CHARACTERS]


def _write_artifacts(
    folder: Path,
    evaluation: Evaluation,
    scores: Scores,
    record: Mapping[str, Any],
    verdict: Mapping[str, str],
    text: str,
) -> None:
    (folder / "model_card.md").write_text(text)
    for name in ("evaluation.json", "metrics.json"):
        (folder / name).write_bytes((evaluation.folder / name).read_bytes())
    write_json(folder / "promotion.json", verdict)
    write_json(folder / "training_record.json", record)
    (folder / "plots").mkdir()
    draw_all(_plots(evaluation, scores), evaluation.primary, folder / "plots")


def _key(evaluation: Evaluation, champion: Version | None, decision: str, why: str, origin: str) -> str:
    """Name what makes two runs one: the model, its evaluation, whom it met, and what came of it."""
    against = None if champion is None else champion.digest
    content = [evaluation.content, against, decision, why, origin]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _metrics(evaluation: Evaluation, scores: Scores) -> dict[str, float]:
    """Flatten every figure that exists: the model's by name, the others' as scorer/metric."""
    found: dict[str, float] = dict(read_json(evaluation.folder / "metrics.json"))
    for scorer in scores.scorers():
        for metric in scores.metrics(scorer):
            each = scores.get(scorer, metric)
            if scorer != MODEL and each is not None and math.isfinite(each.value):
                found[f"{scorer}/{metric}"] = each.value
    gain = scores.difference(MODEL, CHAMPION, evaluation.primary)
    if gain is not None:
        interval = gain.estimate(evaluation.content["confidence"])
        name = f"{evaluation.primary}_over_champion"
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _with_champion(evaluation: Evaluation, scores: Scores) -> dict[str, Any]:
    """Return the evaluation's content with the champion's figures among the scorers and slices."""
    content = dict(evaluation.content)
    metrics = scores.metrics(CHAMPION)
    if not metrics:
        return content

    def reached(metric: str, where: str = EVERYWHERE) -> Any:
        found = scores.get(CHAMPION, metric, where)
        return None if found is None else found.estimate(content["confidence"]).as_json()

    content["scorers"] = {**content["scorers"], CHAMPION: {name: reached(name) for name in metrics}}
    content["slices"] = {
        where: {**scorers, CHAMPION: reached(evaluation.primary, where)}
        for where, scorers in content["slices"].items()
    }
    return content


def _plots(evaluation: Evaluation, scores: Scores) -> dict[str, Any]:
    """Return the rows behind the plots, the champion's beside the others."""
    plots = {path.stem: read_json(path) for path in sorted((evaluation.folder / "plots").glob("*.json"))}
    champion = scores.get(CHAMPION, evaluation.primary)
    if champion is not None:
        found = champion.estimate(evaluation.content["confidence"]).as_json()
        plots["primary"].append({"scorer": CHAMPION, **found})
    return plots


def _data(ws: Workspace, record: Mapping[str, Any], evaluation: Evaluation) -> list[LoggedData]:
    """Name the two data sets: what was learned from, and what it was judged on."""
    rows = read_examples(ws.model).head(_DATA_ROWS)
    measured = json.dumps(evaluation.content["units"], sort_keys=True)
    judged_on = hashlib.sha256(measured.encode()).hexdigest()
    data = []
    for context, window, digest in (
        ("training", record["window"], record["data"]),
        ("evaluation", evaluation.content["test"], judged_on),
    ):
        tags = {"window_start": window["start"], "window_end": window["end"], "as_of": record["as_of"]}
        name = f"{record['name']} {context}"
        data.append(LoggedData(name, digest, f"{ws.origin}/{ws.name}/lake", context, rows, tags))
    return data
