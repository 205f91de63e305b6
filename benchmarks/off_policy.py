"""Estimate what a policy earns from the log of another, where the truth is known and on real logs.

    python benchmarks/off_policy.py [--runs 500]        a simulated bandit: bias and coverage of each estimator
    python benchmarks/off_policy.py --data FOLDER       Open Bandit data: `random` estimates `bts`, and back

FOLDER holds the publisher's `random/` and `bts/` folders, each with `all.csv`, `men.csv` or `women.csv`.

The log of `random` knows its propensities exactly. Those of `bts` moved while it learned, so as a target its
probability of an item at a place is the item's share of what `bts` showed there. What each policy really
earned stands beside the estimates, with the interval of its own log.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.errors import DataError, LoopError
from pipelines.experiments.off_policy import (
    Logged,
    PolicyValue,
    Predicted,
    doubly_robust,
    inverse_propensity,
    self_normalised,
)

CAMPAIGNS = ("all", "men", "women")
COLUMNS = ("item_id", "position", "click", "propensity_score")
CELL = ["item_id", "position"]
FOLDS = 5
CLIP = 10.0
PRIOR = 200.0  # rows that a model of rare clicks owes to the mean of all items


def read_log(folder: Path, policy: str) -> pl.DataFrame:
    """Read one policy's log; raise DataError where the folder holds none."""
    found = [path for name in CAMPAIGNS if (path := folder / policy / f"{name}.csv").exists()]
    if not found:
        names = ", ".join(f"{name}.csv" for name in CAMPAIGNS)
        raise DataError(f"{folder} holds no {policy}/ with one of {names}: name the folder of both policies")
    return pl.read_csv(found[0], columns=list(COLUMNS))


def shares(log: pl.DataFrame) -> pl.DataFrame:
    """Count how often each item was shown at each place: `item_id`, `position`, `target`."""
    return (
        log.group_by(CELL)
        .len("target")
        .with_columns(pl.col("target") / pl.col("target").sum().over("position"))
    )


def uniform(log: pl.DataFrame) -> pl.DataFrame:
    """Give every item the same probability at every place."""
    cells = log.select("item_id").unique().join(log.select("position").unique(), how="cross")
    return cells.with_columns(target=1.0 / pl.len().over("position"))


def predicted(log: pl.DataFrame, target: pl.DataFrame) -> Predicted:
    """Predict each row's click by its item's rate, smoothed, learned from the other folds."""
    fold = np.arange(log.height) % FOLDS
    chosen, expected = np.zeros(log.height), np.zeros(log.height)
    for each in range(FOLDS):
        learned, rows = log.filter(fold != each), log.filter(fold == each)
        mean = float(learned["click"].to_numpy().mean())
        rates = learned.group_by("item_id").agg(
            rate=(pl.col("click").sum() + PRIOR * mean) / (pl.len() + PRIOR)
        )
        value = (
            target.join(rates, "item_id", how="left")
            .group_by("position")
            .agg(expected=(pl.col("target") * pl.col("rate").fill_null(mean)).sum())
        )
        rows = rows.join(rates, "item_id", how="left", maintain_order="left")
        rows = rows.join(value, "position", how="left", maintain_order="left")
        chosen[fold == each] = rows["rate"].fill_null(mean).to_numpy()
        expected[fold == each] = rows["expected"].fill_null(mean).to_numpy()
    return Predicted(chosen, expected)


def estimates(logged: Logged, model: Predicted) -> Mapping[str, PolicyValue]:
    """Estimate the target policy's reward in every way."""
    return {
        "inverse propensity": inverse_propensity(logged),
        f"inverse propensity, clipped at {CLIP:g}": inverse_propensity(logged, clip=CLIP),
        "self-normalised": self_normalised(logged),
        "self-normalised, bootstrap": self_normalised(logged, resamples=2000),
        "doubly robust": doubly_robust(logged, model),
        f"doubly robust, clipped at {CLIP:g}": doubly_robust(logged, model, clip=CLIP),
    }


def open_bandit(folder: Path) -> None:
    """Print what each policy earned, and what the other's log says that it would."""
    logs = {policy: read_log(folder, policy) for policy in ("random", "bts")}
    targets = {"random": uniform(logs["random"]), "bts": shares(logs["bts"])}
    say(f"{'clicks a thousand impressions':36} {'value [95 % interval]':>26} {'effective rows':>16}")
    for source, target in (("random", "bts"), ("bts", "random")):
        own = logs[target]["click"].to_numpy().astype(np.float64)
        ones = np.ones_like(own)
        say(f"\n{source} estimates {target}")
        line(f"{target}, its own {own.size:,} rows", inverse_propensity(Logged(own, ones, ones)))
        log = logs[source].join(targets[target], CELL, how="left", maintain_order="left")
        logged = Logged(
            log["click"].to_numpy().astype(np.float64),
            log["propensity_score"].to_numpy(),
            log["target"].fill_null(0.0).to_numpy(),
        )
        for name, value in estimates(logged, predicted(logs[source], targets[target])).items():
            line(name, value)


def simulated(runs: int, alike: float, rows: int = 2000) -> None:
    """Print bias and coverage of each estimator on a bandit whose truth is known.

    The two policies are drawn from a Dirichlet distribution: the greater `alike`, the more they do the same.
    """
    rng = np.random.default_rng(0)
    reward = rng.beta(1, 9, (5, 20))
    logging, target = (rng.dirichlet(np.full(20, alike), 5) for _ in range(2))
    truth = float((target * reward).sum(axis=1).mean())
    models = {"right": reward, "wrong": np.full_like(reward, 0.5)}
    found: dict[str, list[PolicyValue]] = {}
    for _ in range(runs):
        context = rng.integers(0, 5, rows)
        action = (rng.random(rows)[:, None] > logging[context].cumsum(axis=1)).sum(axis=1).clip(max=19)
        earned = (rng.random(rows) < reward[context, action]).astype(np.float64)
        logged = Logged(earned, logging[context, action], target[context, action])
        right, wrong = (
            Predicted(model[context, action], (target * model).sum(axis=1)[context])
            for model in models.values()
        )
        for name, value in {
            "inverse propensity": inverse_propensity(logged),
            f"inverse propensity, clipped at {CLIP:g}": inverse_propensity(logged, clip=CLIP),
            "self-normalised": self_normalised(logged),
            "doubly robust, right model": doubly_robust(logged, right),
            "doubly robust, wrong model": doubly_robust(logged, wrong),
        }.items():
            found.setdefault(name, []).append(value)
    say(f"\nA simulated bandit, truth {truth:.4f}: {runs} logs of {rows:,} rows")
    say(f"{'':36} {'mean':>8} {'sd':>8} {'interval covers':>16} {'effective rows':>16}")
    for name, values in found.items():
        means = np.array([value.reward.value for value in values])
        covers = np.mean([value.reward.low <= truth <= value.reward.high for value in values])
        effective = np.mean([value.effective for value in values])
        say(f"{name:36} {means.mean():8.4f} {means.std():8.4f} {covers:16.1%} {effective:16,.0f}")


def line(name: str, value: PolicyValue) -> None:
    """Print an estimate in clicks a thousand."""
    reward = value.reward
    told = f"{1000 * reward.value:6.2f} [{1000 * reward.low:6.2f}, {1000 * reward.high:6.2f}]"
    say(f"{name:36} {told:>26} {value.effective:16,.0f}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that holds random/ and bts/")
    parser.add_argument("--runs", type=int, default=500, help="simulated logs")
    asked = parser.parse_args(arguments)
    try:
        if asked.data is None:
            for alike in (3.0, 1.0):
                simulated(asked.runs, alike)
        else:
            open_bandit(asked.data)
    except LoopError as error:
        sys.exit(f"off_policy: {error}")


if __name__ == "__main__":
    main()
