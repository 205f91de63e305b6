"""Examples from logged slates: what was shown, where, and whether it was watched."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.interactions import day_of
from pipelines.cases.video_recommendation.log import Examples, Log
from pipelines.cases.video_recommendation.model import service_columns
from pipelines.cases.video_recommendation.pairs import COLUMNS, Shelf
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.errors import DataError
from pipelines.learning.examination import explored_curve, position_offset

SHOWN_ROWS = 20_000


def logged_examples(log: Log, labels: pl.DataFrame, params: VideoParams) -> Examples:
    """Make examples of the impressions after the cut, with stage one fitted to the watches before it.

    `labels` are the folded, mature impressions of the data set. All explored slates are taken, and of the
    others as many, drawn at random, as `examples` allows.
    """
    cut = cut_moment(log.dataset, params.ranker.later_share)
    before = log.watches.filter(pl.col("day") < day_of(cut))
    later = labels.filter(pl.col("time") >= cut)
    if before.is_empty() or later.is_empty():
        raise DataError(
            f"the window has {before.height} watches before {cut.isoformat()} and {later.height} mature "
            "impressions after it, and needs both: widen the window"
        )
    stage, _ = log.stage(before, params)
    chosen = _choose(later, params.ranker.examples, log.dataset.seed)
    served = log.dataset.historical(chosen, "time").sort("time", "request_id", "example_id")
    stage = stage.extended(log.catalogue)
    midnight = served["time"].dt.truncate("1d")
    parts = [
        service_columns(Shelf.at(stage, day_of(moment), part), part) for moment, part in _by(served, midnight)
    ]
    curve = explored_curve(labels)
    groups = served["request_id"].rank("dense").to_numpy().astype(np.int64) - 1
    return Examples(
        rows=np.concatenate(parts) if parts else np.zeros((0, len(COLUMNS)), dtype=np.float32),
        labels=served["label"].cast(pl.Float64).to_numpy(),
        groups=groups,
        observed=True,
        shown=_shown(served),
        notes=(
            f"The ranker learned from {served.height} logged impressions of {groups.max() + 1} requests from "
            f"{cut.date()} on; stage one, for their scores, from the watches before.",
            "Position: examination estimated on uniformly random slates, an offset of the logit while "
            "learning, absent when answering: " + ", ".join(f"{each:.2f}" for each in curve) + ".",
        ),
        offset=position_offset(served, curve),
        examination=curve,
    )


def cut_moment(dataset: Dataset, later_share: float) -> datetime:
    """Return the midnight after which the last `later_share` of the window begins."""
    moment = dataset.end - (dataset.end - dataset.start) * later_share
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight > dataset.start else dataset.start + (dataset.end - dataset.start) / 2


def _choose(later: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Take whole requests: the explored ones first, then others by chance, until `most` rows are reached."""
    requests = later.group_by("request_id").agg(
        pl.len().alias("rows"), pl.col("explored").fill_null(False).any().alias("first")
    )
    requests = requests.sort("request_id").with_columns(
        chance=pl.Series(np.random.default_rng([seed, 4]).random(requests.height))
    )
    ordered = requests.sort(["first", "chance"], descending=[True, False])
    taken = ordered.filter(pl.col("rows").cum_sum() <= max(most, int(ordered["rows"][0])))
    return later.join(taken.select("request_id"), on="request_id", how="semi")


def _shown(served: pl.DataFrame) -> pl.DataFrame:
    """Keep an even spread of rows, with what a service would send."""
    step = max(1, -(-served.height // SHOWN_ROWS))
    return served.gather_every(step).drop("example_id", "request_id", "label", "explored", "position")


def _by(rows: pl.DataFrame, midnight: pl.Series) -> list[tuple[datetime, pl.DataFrame]]:
    return [(each, rows.filter(midnight == each)) for each in midnight.unique().sort()]
