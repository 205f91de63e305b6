"""What changes the model: `ad_click.train` in params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipelines.learning.ranker import RankerOptions
from pipelines.settings import Frozen


class Trees(Frozen):
    """The boosted trees; `rounds` bounds them, the held-back rows end them earlier."""

    rounds: int = Field(default=400, ge=1)
    leaves: int = Field(default=15, ge=2)
    minimum_rows: int = Field(default=200, ge=1)
    column_share: float = Field(default=0.8, gt=0, le=1)


class Logistic(Frozen):
    """The crosses, half of the model and the heuristic `hashed_crosses`: a table of 2^bits weights."""

    bits: int = Field(default=16, ge=8, le=24)
    penalty: float = Field(default=20.0, gt=0)
    steps: int = Field(default=40, ge=1)


class AdParams(Frozen):
    """The parameters of ad click prediction. `learning_rate` stands here: it is what people try first."""

    learning_rate: float = Field(default=0.05, gt=0, le=1)
    examples: int = Field(default=250_000, ge=1000)
    """Most impressions to learn from, drawn at random from the window."""
    held_back: float = Field(default=0.2, gt=0, lt=1)
    """The last part of the window, which ends the learning and calibrates its outcome."""
    smoothing: float = Field(default=200.0, gt=0)
    """The heuristic `ad_history`: impressions at the window's rate that each ad is given in advance."""
    trees: Trees = Trees()
    logistic: Logistic = Logistic()

    def ranker_options(self) -> RankerOptions:
        """Return what `fit_ranker` takes."""
        return RankerOptions(learning_rate=self.learning_rate, **self.trees.model_dump())
