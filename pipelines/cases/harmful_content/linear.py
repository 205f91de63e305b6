"""Logistic regression on the TF-IDF of words and subwords: the model's first stage, and the heuristic to beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.cases.harmful_content.posts import Floats, Ints
from pipelines.learning.logistic import Logistic, fit_logistic
from pipelines.learning.text import NGrams, TfIdf

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class LinearText:
    """A fitted text model of k harms."""

    tfidf: TfIdf
    logistic: Logistic

    @classmethod
    def fit(
        cls, counts: csr_matrix, targets: Floats, weights: Floats, options: NGrams, strength: float
    ) -> LinearText:
        """Fit to counted n-grams (n, buckets), targets and weights (n, k)."""
        tfidf = TfIdf.fit(counts, options)
        return cls(tfidf, fit_logistic(tfidf.weigh(counts), targets, weights, strength))

    def logits(self, counts: csr_matrix) -> Floats:
        """Return the logits, (n, k)."""
        return self.logistic.logits(self.tfidf.weigh(counts))

    def cues(self, counts: csr_matrix, most: int) -> Ints:
        """Choose the buckets of words with the greatest weight in sum over the texts, sorted."""
        words = self.tfidf.columns[self.tfidf.columns < self.tfidf.options.blocks[0].stop]
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])[words]
        lean = np.abs(self.logistic.weights[: len(words)]).max(axis=1) * np.sqrt(frequency)
        return words[np.sort(np.argsort(-lean, kind="stable")[:most])]

    def save(self, path: Path) -> None:
        """Write the weights (safetensors)."""
        from safetensors.numpy import save_file

        arrays = {
            "columns": self.tfidf.columns,
            "idf": self.tfidf.idf,
            "weights": np.ascontiguousarray(self.logistic.weights),
            "bias": self.logistic.bias,
        }
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path, options: NGrams) -> LinearText:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        arrays: dict[str, Any] = load_file(path)
        tfidf = TfIdf(options, arrays["columns"], arrays["idf"])
        return cls(tfidf, Logistic(arrays["weights"], arrays["bias"]))


def balanced(labels: Floats, weights: Floats) -> Floats:
    """Weigh rows so that those with and those without each label count alike in sum, (n, k)."""
    own = np.repeat(weights[:, None], labels.shape[1], axis=1)
    total, positive = own.sum(axis=0), (own * labels).sum(axis=0)
    half = np.full_like(positive, 0.5) * total
    up = np.divide(half, positive, out=np.zeros_like(half), where=positive > 0)
    down = np.divide(half, total - positive, out=np.zeros_like(half), where=total > positive)
    scale: Floats = own * np.where(labels > 0, up, down) * (len(labels) / total)
    return scale
