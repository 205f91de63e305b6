"""On strong data the model is clearly better; on noise it answers the base rate, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_project import tiny_project

from pipelines import catalog
from pipelines.case_study import Dataset
from pipelines.cases.ad_click.model import ClickModel
from pipelines.cases.ad_click.params import AdParams
from pipelines.cases.ad_click.signals import Signals, with_missing
from pipelines.errors import DataError
from pipelines.flows.edge import Run, bind_source, perform
from pipelines.flows.real import ingest_source
from pipelines.steps.split import split
from pipelines.stores.files import read_json
from pipelines.stores.models import load_model, read_card

ROWS = 24_000


def sessions(
    folder: Path, chance: float, effect: float, rows: int = ROWS, new_from: float | None = None
) -> Path:
    """Write six days of sessions; men click product H more by `effect` (log odds), and women product C.

    From day `new_from` on, product N takes D's place, and all like it.
    """
    rng = np.random.default_rng(4)
    male, product = rng.random(rows) < 0.5, rng.choice(["H", "C", "D"], rows)
    minute = np.sort(np.random.default_rng(5).integers(0, 6 * 24 * 60, rows))
    if new_from is not None:
        product[(product == "D") & (minute >= new_from * 24 * 60)] = "N"
    liked = (male & (product == "H")) | (~male & (product == "C")) | (product == "N")
    logit = np.log(chance / (1 - chance)) + effect * liked
    clicks = rng.random(rows) < 1 / (1 + np.exp(-logit))
    folder.mkdir()
    pl.DataFrame(
        {
            "session_id": np.arange(rows),
            "DateTime": [
                f"2017-07-{2 + each // 1440:02d} {each % 1440 // 60}:{each % 60:02d}" for each in minute
            ],
            "user_id": rng.integers(0, rows // 2, rows),
            "product": product,
            "campaign_id": rng.choice([101, 102, 103], rows),
            "webpage_id": rng.choice([1, 2], rows),
            "product_category_1": rng.choice([1, 2], rows),
            "product_category_2": [None] * rows,
            "user_group_id": rng.integers(0, 5, rows),
            "gender": np.where(male, "Male", "Female"),
            "age_level": rng.integers(0, 5, rows),
            "user_depth": [3] * rows,
            "city_development_index": [None] * rows,
            "var_1": rng.integers(0, 2, rows),
        }
    ).write_csv(folder / "X.csv")
    (folder / "y.csv").write_text("\n".join(str(int(each)) for each in clicks))
    return folder


def judged(root: Path, data: Path) -> tuple[Run, dict[str, dict[str, dict[str, float]]]]:
    """Take the sessions from ingest to evaluation."""
    source = catalog.source("ad_click", "wns")
    run = bind_source(tiny_project(root, "ad_click"), "ad_click", source.name)
    run = ingest_source(run, source, str(data), None, lambda _: None)
    run = replace(run, protocol="time")
    perform(run, "features")
    perform(run, "train")
    return run, perform(run, "evaluate").content


def later(run: Run) -> Dataset:
    """Open the rows that the run was judged on."""
    return split(run.case, run.workspace, run.as_of, run.params, run.project.platform, run.protocol).test


def test_strong_data_are_learned(tmp_path: Path) -> None:
    run, found = judged(tmp_path / "project", sessions(tmp_path / "data", 0.1, 2.0))
    assert found["differences"]["base_rate"]["normalized_entropy"]["high"] < -0.01
    assert found["differences"]["ad_history"]["normalized_entropy"]["high"] < 0
    flat = read_json(run.workspace.evaluation / "metrics.json")
    assert flat["normalized_entropy_gain"] > flat["normalized_entropy_gain_low"] > 0, "a gain is positive"
    model = found["scorers"]["model"]
    assert model["calibration_ratio"]["value"] == pytest.approx(1, abs=0.12)
    assert model["calibration_error"]["value"] < 0.08
    assert any(where.startswith("campaign ") for where in found["slices"])
    assert "new_users" in found["slices"] and "day=2017-07-07" in found["slices"]
    assert "are kept" in read_card(run.workspace.model).notes[0]


def test_the_newest_rows_teach_too(tmp_path: Path) -> None:
    """They calibrate as well: a product that came with them must not stay unknown to what serves."""
    run, _ = judged(tmp_path / "project", sessions(tmp_path / "data", 0.1, 2.0, new_from=4.3))
    held_back = run.params.train.get("held_back", AdParams().held_back)
    assert held_back > (5 - 4.3) / 5, "the first five days teach, the last of them calibrate"
    model = load_model(run.case, run.workspace.model)
    assert isinstance(model, ClickModel)
    assert "N" in model.blend.signals.words["product"]


def test_noise_yields_the_base_rate_to_the_last_bit(tmp_path: Path) -> None:
    run, found = judged(tmp_path / "project", sessions(tmp_path / "data", 0.01, 0.0))
    difference = found["differences"]["base_rate"]["normalized_entropy"]
    assert difference["value"] == difference["low"] == difference["high"] == 0
    assert "too weak" in read_card(run.workspace.model).notes[1]
    rows = run.case.predictions(later(run))
    assert np.ptp(load_model(run.case, run.workspace.model).predict(rows)) == 0


def test_too_few_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="either part needs 100: widen the window"):
        judged(tmp_path / "project", sessions(tmp_path / "data", 0.2, 0.0, rows=300))


def test_signals_read_what_they_wrote_and_miss_nothing() -> None:
    count = 400
    rng = np.random.default_rng(0)
    time = pl.datetime_range(
        pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 17), interval="57m", time_zone="UTC", eager=True
    ).head(count)
    rows = pl.DataFrame(
        {
            "device": rng.choice(["phone", "desktop"], count),
            "site": ["rare" if each < 10 else "common" for each in range(count)],
            "bid": rng.integers(1, 4, count),
            "ad_click_rate_7d": rng.random(count),
            "time": time,
        }
    )
    short, signals = (Signals.learn(with_missing(rows), days) for days in (6, 28))
    assert "weekday" not in short.columns and "weekday" in signals.columns
    assert signals.categories == ("device",), "a single common word tells nothing"
    again = Signals.from_json(signals.as_json())
    np.testing.assert_array_equal(again.matrix(rows), signals.matrix(rows))
    strange = signals.matrix(rows.head(1).with_columns(device=pl.lit("fridge")).drop("bid"))[0]
    named = dict(zip(signals.columns, strange.tolist(), strict=True))
    assert np.isnan(named["device"]) and np.isnan(named["bid"]) and named["hour"] == 0
