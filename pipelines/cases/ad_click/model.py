"""The model: an even blend of boosted trees and a logistic regression on crosses, calibrated.

The trees see categories, counts and rates; they predict best what is shown. Yet they take how often an ad is shown for
a sign of how good it is, since those who show it had their reasons: let them choose among all ads, and they choose
those that were shown to few, well-chosen people. The regression knows ads and campaigns by name, beside whom they were
shown to, and predicts worse. Half of each (in log odds) predicts as well as the trees and chooses better than they do.

The trees do not see the position either: what it adds is the examination curve of the explored impressions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Card, Dataset, Fitted
from pipelines.cases.ad_click.crosses import COLUMNS, fit_crosses
from pipelines.cases.ad_click.params import AdParams
from pipelines.cases.ad_click.signals import Signals
from pipelines.errors import DataError
from pipelines.learning.calibration import Calibration, fit_calibration
from pipelines.learning.examination import explored_curve, position_offset
from pipelines.learning.hashed_logistic import HashedLogistic
from pipelines.learning.probabilities import log_losses
from pipelines.learning.ranker import HeldOut, Ranker, RankerOptions, fit_ranker
from pipelines.stores.files import read_json, write_json

Floats = NDArray[np.float64]
SHOWN_ROWS = 20_000
FEWEST_ROWS = 100


@dataclass(frozen=True)
class Blend:
    """Fitted trees and crosses. `curve` is how likely each position is looked at, beside the first."""

    signals: Signals
    trees: Ranker
    crosses: HashedLogistic
    curve: Floats

    def logits(self, rows: pl.DataFrame) -> Floats:
        """Return the log odds of a click, (n,): the mean of those of both halves."""
        trees = self.trees.predict(self.signals.matrix(rows)) + position_offset(rows, self.curve)
        return (trees + self.crosses.logits(rows)) / 2


@dataclass(frozen=True)
class ClickModel:
    """A blend, whose scores are log odds, and what makes a probability of them."""

    blend: Blend
    calibration: Calibration

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return P(click) of feature rows, shape (n,): as shown, at their position where they have one.

        Rows have the request's and the ad's context, `time`, and the features of the service; what is missing
        counts as unknown.
        """
        return self.calibration.apply(self.blend.logits(rows))

    def save(self, folder: Path) -> None:
        """Write the trees (LightGBM text), the crosses' weights (Parquet), and the rest (JSON)."""
        blend = self.blend
        blend.trees.save(folder / "trees.txt")
        blend.crosses.save(folder, "crosses")
        trees = {"base": blend.trees.base, "examination": blend.curve.tolist()}
        write_json(folder / "signals.json", blend.signals.as_json() | trees)
        write_json(folder / "calibration.json", self.calibration.as_json())


def load(folder: Path) -> ClickModel:
    """Read what `ClickModel.save` wrote."""
    told = read_json(folder / "signals.json")
    signals, curve = Signals.from_json(told), np.array(told["examination"])
    trees = Ranker((folder / "trees.txt").read_text(), signals.columns, probability=False, base=told["base"])
    calibration = Calibration.from_json(read_json(folder / "calibration.json"))
    return ClickModel(Blend(signals, trees, HashedLogistic.load(folder, "crosses"), curve), calibration)


def fit(dataset: Dataset, params: AdParams) -> Fitted:
    """Fit trees and crosses to the earlier part of the window, their calibration to the later part, both then to all.

    The later part tells how many trees help and how sure their predictions may be; it is also the newest, and ads are
    young, so what serves must have learned from it. Raise DataError where the window has too few examples, or no
    click, to learn from.
    """
    labels = dataset.labels()
    rows = examples(dataset, labels, params.examples)
    clicks = rows["label"].cast(pl.Float64).to_numpy()
    cut = round(rows.height * (1 - params.held_back))
    if min(cut, rows.height - cut) < FEWEST_ROWS:
        raise DataError(
            f"the window has {rows.height} mature impressions, of which {cut} would teach and the others "
            f"calibrate; either part needs {FEWEST_ROWS}: widen the window"
        )
    days = (dataset.end - dataset.start).total_seconds() / 86_400
    curve, options = explored_curve(labels), params.ranker_options()
    early, losses = _fit_blend(rows, clicks, cut, curve, days, params, options, dataset.seed)
    calibration = fit_calibration(early.logits(rows[cut:]), clicks[cut:], click_rate(labels))
    options = replace(options, rounds=int(np.argmin(losses)) + 1)
    blend, _ = _fit_blend(rows, clicks, rows.height, curve, days, params, options, dataset.seed)
    model = ClickModel(blend, calibration)
    card = _card(model, ClickModel(early, calibration), labels, rows[cut:], clicks[cut:], losses)
    return Fitted(model, card, _shown(rows, blend.signals))


def _fit_blend(
    rows: pl.DataFrame,
    clicks: Floats,
    cut: int,
    curve: Floats,
    days: float,
    params: AdParams,
    options: RankerOptions,
    seed: int,
) -> tuple[Blend, list[float]]:
    """Fit both halves to the rows before `cut`; any after it end the trees. Return also their loss by round."""
    signals = Signals.learn(rows[:cut], days)
    matrix, offset = signals.matrix(rows), position_offset(rows, curve)
    held_out = HeldOut(matrix[cut:], clicks[cut:], offset[cut:]) if cut < rows.height else None
    trees, losses = fit_ranker(
        matrix[:cut],
        clicks[:cut],
        np.zeros(cut, dtype=np.int64),
        signals.columns,
        options,
        seed,
        offset=offset[:cut],
        categories=signals.categories,
        held_out=held_out,
    )
    trees = Ranker(trees.text, signals.columns, probability=False, base=trees.base)
    return Blend(signals, trees, fit_crosses(rows[:cut], params.logistic), curve), losses


def examples(dataset: Dataset, labels: pl.DataFrame, most: int) -> pl.DataFrame:
    """Draw at most so many labelled impressions at random, in order of time, with features at their time."""
    if labels.height > most:
        chosen = np.random.default_rng([dataset.seed, 1]).choice(labels.height, most, replace=False)
        labels = labels[np.sort(chosen)]
    return dataset.historical(labels, "time")


def click_rate(labels: pl.DataFrame) -> float:
    """Return the share of clicks, never 0 or 1: half a click and half a pass are added."""
    return (float(labels["label"].sum()) + 0.5) / (labels.height + 1.0)


def _card(
    model: ClickModel,
    early: ClickModel,
    labels: pl.DataFrame,
    later: pl.DataFrame,
    clicks: Floats,
    losses: list[float],
) -> Card:
    """Describe the model; how it does on later rows is told of the one that had not learned from them."""
    rate = click_rate(labels)
    constant = float(log_losses(np.full(len(clicks), rate), clicks).mean())
    loss = float(log_losses(early.predict(later), clicks).mean())
    found = model.calibration
    metrics = {
        "examples": float(labels.height),
        "clicks": float(labels["label"].sum()),
        "click_rate": rate,
        "rounds": float(int(np.argmin(losses)) + 1),
        "calibration_slope": found.slope,
        "calibration_level": found.level,
        "calibration_trust": found.trust,
        "held_back_log_loss": loss,
        "held_back_log_loss_of_rate": constant,
    }
    weak = found.trust == 0
    says = (
        "The data are too weak for more than the base rate: the model answers it for every ad."
        if weak
        else f"On the rows held back for calibration the log-loss is {loss:.4f}; the base rate's is {constant:.4f}."
    )
    return Card(
        metrics=metrics,
        curves={"held_back_log_loss": losses},
        importance=model.blend.trees.importance(),
        notes=(
            found.words(),
            says,
            "An even blend of the trees and of a logistic regression on crosses.",
            "Position: examination estimated on explored impressions, "
            + ", ".join(f"{each:.2f}" for each in model.blend.curve)
            + ": an offset of the trees' logit.",
        ),
    )


def _shown(rows: pl.DataFrame, signals: Signals) -> pl.DataFrame:
    """Keep an even spread of rows, and the columns that the model looks at."""
    step = max(1, -(-rows.height // SHOWN_ROWS))
    return rows.gather_every(step).select(*dict.fromkeys((*signals.read, *COLUMNS)))
