"""The benchmarks' own parts: an Open Bandit folder is read rightly, and verdicts end as they should."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_logs(folder: Path, rows: int) -> np.ndarray:
    """Write both policies' logs of three items at two places; return each item's true click rate."""
    rng = np.random.default_rng(0)
    rate, chances = np.array([0.1, 0.3, 0.6]), {"random": [1 / 3] * 3, "bts": [0.2, 0.2, 0.6]}
    for policy, chance in chances.items():
        item, position = rng.choice(3, rows, p=chance), rng.integers(1, 3, rows)
        (folder / policy).mkdir()
        pl.DataFrame(
            {
                "timestamp": "2019-11-24 00:03:13.442536+00:00",
                "item_id": item,
                "position": position,
                "click": (rng.random(rows) < rate[item]).astype(int),
                "propensity_score": np.array(chance)[item],
            }
        ).write_csv(folder / policy / "men.csv")
    return rate


def test_each_policy_estimates_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rate = write_logs(tmp_path, 6000)
    benchmark("off_policy").main(["--data", str(tmp_path)])
    blocks = capsys.readouterr().out.split("\n\n")
    truth = {"random estimates bts": 0.2 * 0.1 + 0.2 * 0.3 + 0.6 * 0.6, "bts estimates random": rate.mean()}
    for block, (title, value) in zip(blocks[1:], truth.items(), strict=True):
        lines = block.strip().splitlines()
        assert lines[0] == title and len(lines) == 8
        for line in lines[1:]:
            low, high = line.split("[")[1].split("]")[0].split(",")
            # A wider net than the interval's own: fourteen of them are to hold at once.
            assert abs((float(low) + float(high)) / 2 - 1000 * value) < float(high) - float(low)


def test_a_folder_without_logs_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no random/"):
        benchmark("off_policy").main(["--data", str(tmp_path)])


@pytest.mark.parametrize(
    "lift, decision, least, most",
    [(-1, "promote", 0.0, 0.01), (0, "promote", 0.0, 0.05), (1, "promote", 0.8, 1.0)],
)
def test_verdicts_are_right_as_often_as_planned(lift: int, decision: str, least: float, most: float) -> None:
    module, runs = benchmark("experiments"), 150
    experiment, rng = module.designed(), np.random.default_rng(0)
    ended = Counter(module.tried(experiment, lift * module.LIFT, 0.0, rng)[0] for _ in range(runs))
    low, high = stats.binom.ppf([0.001], runs, least)[0], stats.binom.ppf([0.999], runs, most)[0]
    assert low <= ended[decision] <= high


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("experiments").main(["--runs", "3"])
    table = capsys.readouterr().out
    assert table.count("A/A") == 6 and table.count("verdict, ") == 4 and table.count("fixed horizon") == 4
