"""What changes the model: `video_recommendation.train` in params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipelines.learning.ranker import RankerOptions
from pipelines.learning.two_tower import TowerOptions
from pipelines.settings import Frozen


class Towers(Frozen):
    """The two towers; `steps` bounds how long they learn (see learning/two_tower.py)."""

    dimensions: int = Field(default=32, ge=2)
    hidden: int = Field(default=64, ge=2)
    history: int = Field(default=30, ge=1)
    temperature: float = Field(default=0.1, gt=0)
    learning_rate: float = Field(default=0.002, gt=0)
    batch: int = Field(default=512, ge=2)
    epochs: float = Field(default=6.0, gt=0)
    steps: int = Field(default=800, ge=1)
    id_dropout: float = Field(default=0.3, ge=0, lt=1)

    def options(self) -> TowerOptions:
        """Return what `fit_two_tower` takes."""
        return TowerOptions(**self.model_dump())


class Neighbours(Frozen):
    """Item-item neighbours: of the model and of the heuristic alike."""

    k: int = Field(default=200, ge=1)
    shrinkage: float = Field(default=20.0, ge=0)


class Candidates(Frozen):
    """How many videos each source names, and how many go on to the ranker.

    `live_days`: where a source logs impressions, a video not shown for so many days has left the
    catalogue. Where it logs none, every video of the catalogue is a candidate.
    """

    per_source: int = Field(default=100, ge=1)
    ranked: int = Field(default=200, ge=10)
    live_days: int = Field(default=2, ge=1)


class Ranking(Frozen):
    """The ranker. Its `learning_rate` stands at the top of the section: it is what people try first."""

    rounds: int = Field(default=250, ge=1)
    leaves: int = Field(default=15, ge=2)
    minimum_rows: int = Field(default=100, ge=1)
    column_share: float = Field(default=0.7, gt=0, le=1)
    later_share: float = Field(default=0.3, gt=0, lt=1)
    """The last part of the window, which the ranker learns from; stage one learns from the part before."""
    examples: int = Field(default=200_000, ge=1000)
    """Most logged impressions to learn from."""
    pairs: int = Field(default=800_000, ge=1000)
    """Most pairs of user and retrieved candidate to learn from, where no impressions were logged."""
    cuts: int = Field(default=6, ge=1)
    """Moments (or folds, where examples carry no order) at which candidates are retrieved to learn from."""


class Rerank(Frozen):
    """The last word on a list; see learning/rerank.py."""

    diversity: float = Field(default=0.02, ge=0)
    """Marginal relevance: what a list's likeness costs, in units of the spread of its scores."""
    fresh_days: float = Field(default=3.0, gt=0)
    fresh_places: int = Field(default=1, ge=0)
    """How many of the places go to videos published within `fresh_days`, where any are candidates."""


class VideoParams(Frozen):
    """The parameters of video recommendation."""

    learning_rate: float = Field(default=0.03, gt=0, le=1)
    towers: Towers = Towers()
    neighbours: Neighbours = Neighbours()
    candidates: Candidates = Candidates()
    ranker: Ranking = Ranking()
    rerank: Rerank = Rerank()
    recent_days: float = Field(default=7.0, gt=0)
    """The window of the heuristic `recent_popularity`."""

    def ranker_options(self, probability: bool) -> RankerOptions:
        """Return what `fit_ranker` takes."""
        r = self.ranker
        return RankerOptions(
            probability=probability,
            rounds=r.rounds,
            learning_rate=self.learning_rate,
            leaves=r.leaves,
            minimum_rows=r.minimum_rows,
            column_share=r.column_share,
        )
