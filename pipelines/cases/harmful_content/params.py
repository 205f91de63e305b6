"""What changes the model: `harmful_content.train` in params.yaml."""

from __future__ import annotations

from pydantic import Field

from pipelines.learning.text import NGrams
from pipelines.settings import Frozen


class Text(Frozen):
    """Which n-grams are counted (see learning/text.py), and how freely the linear model may weigh them."""

    words: tuple[int, int] = (1, 2)
    characters: tuple[int, int] = (3, 5)
    bits: int = Field(default=18, ge=8, le=22)
    strength: float = Field(default=0.5, gt=0)
    baseline_strength: float = Field(default=1.0, gt=0)
    """That of the heuristic, whose classes weigh alike."""

    def ngrams(self) -> NGrams:
        """Return what `count_ngrams` takes."""
        return NGrams(self.words, self.characters, self.bits)


class Trees(Frozen):
    """The trees over the linear model's logits and everything that is not text."""

    cues: int = Field(default=100, ge=0)
    """Words and pairs of words that the trees see one by one: those the linear model leans on most."""
    rounds: int = Field(default=120, ge=1)
    leaves: int = Field(default=7, ge=2)
    minimum_rows: int = Field(default=40, ge=1)
    column_share: float = Field(default=0.7, gt=0, le=1)


class HarmParams(Frozen):
    """The parameters of harmful content."""

    learning_rate: float = Field(default=0.05, gt=0, le=1)
    text: Text = Text()
    trees: Trees = Trees()
    folds: int = Field(default=4, ge=2)
    """Parts of the training window, each scored by models that have not seen it."""
    precision: float = Field(default=0.8, gt=0, lt=1)
    """Of what a threshold removes, the share that must be harmful."""
    threshold_half_life: float = Field(default=4.0, gt=0)
    """Days after which a post has half a say in the thresholds: what is posted changes sooner than what is harmful."""
    least_positives: int = Field(default=5, ge=1)
    """A class with fewer examples in the training window is not learned, nor is it measured (protocols.py)."""
