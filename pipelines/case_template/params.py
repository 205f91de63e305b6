"""What changes the model: the section `train` of params.yaml. Replace: with the parameters of your model."""

from __future__ import annotations

from pydantic import Field

from pipelines.learning.ranker import RankerOptions
from pipelines.settings import Frozen


class TrainParams(Frozen):
    """The boosted trees, and the prior of the heuristic `popularity`."""

    learning_rate: float = Field(default=0.1, gt=0, le=1)
    rounds: int = Field(default=100, ge=1)
    leaves: int = Field(default=7, ge=2)
    minimum_rows: int = Field(default=100, ge=1)
    smoothing: float = Field(default=100.0, gt=0)
    """Impressions at the window's click rate that `popularity` gives each item in advance."""

    def ranker_options(self) -> RankerOptions:
        """Return what `fit_ranker` takes."""
        return RankerOptions(**self.model_dump(exclude={"smoothing"}))
