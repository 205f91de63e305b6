"""What a fit reads once, and how it fits stage one to a part of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.content import Encoder
from pipelines.cases.video_recommendation.fit_retrieval import fit_retrieval
from pipelines.cases.video_recommendation.interactions import read_catalogue, read_users, read_watches
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.retrieval import Retrieval
from pipelines.errors import DataError


@dataclass(frozen=True)
class Log:
    """Watches (sorted by time), catalogue, users, and the words for them."""

    dataset: Dataset
    watches: pl.DataFrame
    catalogue: pl.DataFrame
    users: pl.DataFrame
    encoder: Encoder

    @classmethod
    def read(cls, dataset: Dataset) -> Log:
        """Read a data set; raise DataError where nobody watched anything."""
        watches = read_watches(dataset)
        if watches.is_empty():
            raise DataError(
                f"nobody watched or rated a video in [{dataset.start.isoformat()}, {dataset.end.isoformat()}): "
                "ingest more days, or widen the window"
            )
        catalogue, users = read_catalogue(dataset, watches), read_users(dataset)
        devices = dataset.table("requests").select("device").collect()["device"]
        return cls(dataset, watches, catalogue, users, Encoder.fit(catalogue, users, devices))

    def stage(self, watches: pl.DataFrame, params: VideoParams) -> tuple[Retrieval, list[float]]:
        """Fit stage one to some of the watches; return it and the towers' loss curve."""
        seed, ordered = self.dataset.seed, not self.dataset.timeless
        return fit_retrieval(watches, self.catalogue, self.users, self.encoder, params, seed, ordered)


@dataclass(frozen=True)
class Examples:
    """What the ranker learns from: rows (n, COLUMNS), labels, requests, and an offset of the logit.

    `observed` is false where negatives were sampled. `shown` are feature rows as a service would send
    them: the reference for drift.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.float64]
    groups: NDArray[np.int64]
    observed: bool
    shown: pl.DataFrame
    notes: tuple[str, ...]
    offset: NDArray[np.float64] | None = None
    examination: NDArray[np.float64] | None = None
