"""The model card: what a model is for, what it was made of, how well it does, and where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.case_study import Card, CaseStudy, Framing
from pipelines.learning.bootstrap import Estimate
from pipelines.steps.gate import DAY, Judgement


def framing_note(case: CaseStudy) -> str:
    """Describe in Markdown what the model is for: the first step of every system."""
    framing = case.framing
    lines = [
        f"# {case.name}",
        "",
        f"**Business objective.** {framing.business_objective}",
        "",
        f"**What the model is asked.** {framing.ml_objective}",
        "",
        f"**Label.** {framing.label} Earned within {_days(framing)}; dropped while it may still change.",
        "",
        f"**Primary metric.** `{framing.primary_metric}` ({_way(framing)} is "
        "better). "
        f"**Guardrails.** {', '.join(f'`{each}`' for each in framing.guardrails) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def framing_tags(case: CaseStudy) -> dict[str, str]:
    """Return the framing as tags of the experiment."""
    framing = case.framing
    return {
        "case": case.name,
        "mlflow.experimentKind": "custom_model_development",  # shown as model training, not GenAI
        "business_objective": framing.business_objective,
        "ml_objective": framing.ml_objective,
        "label": framing.label,
        "attribution": str(framing.attribution),
        "primary_metric": framing.primary_metric,
        "guardrails": ", ".join(framing.guardrails),
    }


def model_card(
    case: CaseStudy,
    record: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    card: Card,
    judgement: Judgement | None,
    outcome: str,
) -> str:
    """Write the card (Markdown). `outcome` is the promotion's, in words."""
    sections = [
        framing_note(case).rstrip().replace(f"# {case.name}", f"# Model card: {record['name']}", 1),
        _verdict(judgement, outcome),
        _figures(case, evaluation),
        _slices(evaluation),
        _made_of(record, evaluation),
        _limits(case, evaluation, card),
        _again(record, evaluation),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdict(judgement: Judgement | None, outcome: str) -> str:
    lines = ["## Verdict", "", outcome[:1].upper() + outcome[1:] + ("" if outcome.endswith(".") else ".")]
    if judgement is not None:
        lines += ["", "| check | | what was found |", "|---|---|---|"]
        lines += [
            f"| {each.check} | {'passed' if each.passed else '**failed**'} | {each.words} |"
            for each in judgement.reasons
        ]
    return "\n".join(lines)


def _figures(case: CaseStudy, evaluation: Mapping[str, Any]) -> str:
    scorers = {name: evaluation["scorers"][name] for name in _order(evaluation)}
    percent = f"{evaluation['confidence']:.0%}"
    metrics = {metric for found in scorers.values() for metric in found}
    lines = [
        "## Figures",
        "",
        f"Measured from {_day(evaluation['test']['start'])} to {_day(evaluation['test']['end'])} under the "
        "protocol "
        f"`{evaluation['protocol']}`, with {percent} intervals of a bootstrap over units "
        f"({evaluation['resamples']:,} resamples, the same for every scorer).",
        "",
        "| metric | " + " | ".join(f"{scorer}" for scorer in scorers) + " |",
        "|---|" + "---|" * len(scorers),
    ]
    for metric in sorted(metrics, key=lambda name: (name != evaluation["primary"], name)):
        cells = [_cell(found.get(metric)) for found in scorers.values()]
        name = f"**{metric}**" if metric == evaluation["primary"] else metric
        arrow = " (lower is better)" if case.framing.sign(metric) < 0 else ""
        lines.append(f"| {name}{arrow} | " + " | ".join(cells) + " |")
    best = evaluation["best_heuristic"]
    gain = Estimate.from_json(evaluation["differences"][best][evaluation["primary"]])
    lines += [
        "",
        f"Paired difference to the best heuristic ({best}): **{gain.value:+.4f}** [{gain.low:+.4f}, "
        f"{gain.high:+.4f}] "
        f"over {gain.n:,} units.",
    ]
    return "\n".join(lines)


def _slices(evaluation: Mapping[str, Any]) -> str:
    found = {name: each for name, each in evaluation["slices"].items() if not name.startswith(DAY)}
    if not found:
        return ""
    shown = [name for name in _order(evaluation) if any(name in each for each in found.values())]
    lines = [
        "## Slices",
        "",
        f"`{evaluation['primary']}` where it could differ; a slice of fewer than "
        f"{evaluation['slice_minimum_units']} units is shown, but not judged.",
        "",
        "| slice | units | " + " | ".join(shown) + " |",
        "|---|---|" + "---|" * len(shown),
    ]
    for name, scorers in found.items():
        units = scorers["model"]["n"]
        few = " (few)" if units < evaluation["slice_minimum_units"] else ""
        cells = " | ".join(_cell(scorers.get(each)) for each in shown)
        lines.append(f"| {name} | {units:,}{few} | {cells} |")
    return "\n".join(lines)


def _order(evaluation: Mapping[str, Any]) -> list[str]:
    """Put the model first, then who serves today, the heuristics from the best on, and the truth."""
    best = evaluation["best_heuristic"]
    others = [name for name in evaluation["heuristics"] if name != best]
    return [name for name in ("model", "champion", best, *others, "oracle") if name in evaluation["scorers"]]


def _made_of(record: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    window = record["window"]
    params = ", ".join(f"`{key}={value}`" for key, value in sorted(flat(record["params"]).items()))
    libraries = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    rows = {
        "learned from": f"{window['start']} to {window['end']} (the end is not in it)",
        "as of": record["as_of"],
        "feature service": f"`{record['service']}`",
        "parameters": params or "the defaults",
        "seed": record["seed"],
        "model digest": f"`{evaluation['model']}`",
        "data digest": f"`{record['data']}`",
        "code digest": f"`{record['code']}`",
        "libraries": libraries,
    }
    lines = ["## What it is made of", "", "| | |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows.items()])


def _limits(case: CaseStudy, evaluation: Mapping[str, Any], card: Card) -> str:
    return "\n".join(["## How it was judged, and its limits", "", *_limit_lines(case, evaluation, card)])


def _limit_lines(case: CaseStudy, evaluation: Mapping[str, Any], card: Card) -> Iterator[str]:
    for name, words in evaluation["describe"].items():
        yield f"- {name}: {words}"
    yield from (f"- {note}" for note in card.notes)
    yield (
        f"- For {case.name}, on data like that of its training window. Behaviour drifts: a figure older "
        "than its "
        "evaluation window is a memory."
    )
    yield "- Intervals tell the noise of the units measured, not of training again with another seed."
    if "oracle" in evaluation["scorers"]:
        yield "- The data are simulated. The oracle scores the same rows by the truth: a ceiling."
    else:
        yield "- Measured offline, on what was logged: what nobody was shown, nobody could act on."


def _again(record: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            "## Make it again",
            "",
            f"`loop reproduce models:/{record['name']}/<version>` trains `{record['case']}` again as of "
            f"{record['as_of']} under `{record['protocol']}`, with the parameters shown. The same data and code "
            f"give model `{evaluation['model'][:12]}`, byte for byte; an input that changed is named.",
            "",
            "```python",
            "import mlflow",
            f'model = mlflow.pyfunc.load_model("models:/{record["name"]}@champion")  # checks hashes first',
            "model.predict(model.input_example)",
            "```",
        ]
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names, as `dvc exp run -S` and MLflow's comparison write them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "n/a"
    if found["low"] is None:
        return f"{found['value']:.4f}"
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def _day(moment: str) -> str:
    return moment[:10]


def _days(framing: Framing) -> str:
    days = framing.attribution.total_seconds() / 86400
    return f"{days:g} day{'' if days == 1 else 's'}"


def _way(framing: Framing) -> str:
    return "lower" if framing.sign(framing.primary_metric) < 0 else "higher"
