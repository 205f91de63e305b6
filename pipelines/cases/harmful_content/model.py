"""The model: a linear text model, boosted trees over its logits and all else, calibrated; and what follows.

Each harm has two thresholds, both chosen on rows the models had not seen: from `remove` on, a set share of
posts is truly harmful (None where no score is that sure); `name` tells the harm that a post is filed under.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.cases.harmful_content.linear import LinearText
from pipelines.cases.harmful_content.params import HarmParams
from pipelines.cases.harmful_content.posts import COLUMNS, Bools, Floats, Ints, Levels, distinct
from pipelines.learning.text import count_ngrams
from pipelines.stores.files import read_json, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

INSIDE = (1e-6, 1 - 1e-6)


def tree_columns(harms: Sequence[str], cues: int) -> list[str]:
    """Name the columns of the trees: the linear logits, how much of the text is known, the rest, single words."""
    logits, words = [f"text_{harm}" for harm in harms], [f"cue_{cue}" for cue in range(cues)]
    return [*logits, "known_words", "known_subwords", *COLUMNS, *words]


def tree_rows(linear: LinearText, cues: Ints, counts: csr_matrix, table: Floats) -> Floats:
    """Lay out the trees' columns, shape (n, columns)."""
    words = counts[:, cues].toarray()
    return np.column_stack([linear.logits(counts), linear.tfidf.known_share(counts), table, words])


@dataclass(frozen=True)
class HarmModel:
    """A fitted classifier of k harms.

    `trees` are LightGBM texts that correct the linear model; `base` and `calibration` (k, 2) hold slope and
    shift of its logits, and of the sum of both.
    """

    harms: tuple[str, ...]
    linear: LinearText
    cues: Ints
    levels: Levels
    trees: tuple[str, ...]
    base: Floats
    calibration: Floats
    remove: Mapping[str, float | None]
    name: Mapping[str, float]
    params: HarmParams

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Estimate P(reviewers find the harm) for rows of post and harm, shape (n,); 0 for a harm not learned."""
        posts, place = distinct(rows)
        scores = np.column_stack([self.scores(posts), np.zeros(posts.height)])
        known = {harm: column for column, harm in enumerate(self.harms)}
        column = rows["harm"].replace_strict(known, default=len(self.harms), return_dtype=pl.Int64)
        found: Floats = scores[place, column.to_numpy()]
        return found

    def scores(self, posts: pl.DataFrame) -> Floats:
        """Estimate all learned harms of distinct posts, shape (n, k)."""
        if posts.is_empty():
            return np.zeros((0, len(self.harms)))
        counts = count_ngrams(posts["text"], self.params.text.ngrams())
        rows = tree_rows(self.linear, self.cues, counts, self.levels.table(posts))
        logits = moved(rows[:, : len(self.harms)], self.base)
        logits += np.column_stack([raw_scores(text, rows) for text in self.trees])
        return calibrated(logits, self.calibration)

    def removes(self, scores: Floats) -> Bools:
        """Say which posts are to be removed, (n,), by their scores (n, k)."""
        bars = (self.remove[harm] for harm in self.harms)
        above = np.array([np.inf if bar is None else bar for bar in bars])
        return np.asarray((scores >= above).any(axis=1))

    def names(self, scores: Floats) -> Ints:
        """File posts under the harm that most exceeds its threshold, (n,): its place from 1, or 0 for none."""
        return file_under(scores, np.array([self.name[harm] for harm in self.harms]))

    def importance(self) -> dict[str, float]:
        """Add each column's gain over the harms' trees."""
        import lightgbm

        gains = [lightgbm.Booster(model_str=text).feature_importance("gain") for text in self.trees]
        names = tree_columns(self.harms, len(self.cues))
        found: dict[str, float] = dict(zip(names, np.sum(gains, axis=0).tolist(), strict=True))
        words = sum(found.pop(name) for name in names if name.startswith("cue_"))
        return {**found, "single_words": words}

    def save(self, folder: Path) -> None:
        """Write the model: safetensors, LightGBM text, JSON."""
        self.linear.save(folder / "text.safetensors")
        for harm, text in zip(self.harms, self.trees, strict=True):
            (folder / f"{harm}.txt").write_text(text)
        content = {
            "harms": list(self.harms),
            "cues": self.cues.tolist(),
            "client": list(self.levels.client),
            "author_country": list(self.levels.author_country),
            "base": self.base.tolist(),
            "calibration": self.calibration.tolist(),
            "remove": dict(self.remove),
            "name": dict(self.name),
            "params": self.params.model_dump(mode="json"),
        }
        write_json(folder / "model.json", content)


def load(folder: Path) -> HarmModel:
    """Read what `HarmModel.save` wrote."""
    content = read_json(folder / "model.json")
    params = HarmParams.model_validate(content["params"])
    harms = tuple(content["harms"])
    return HarmModel(
        harms,
        LinearText.load(folder / "text.safetensors", params.text.ngrams()),
        np.array(content["cues"], dtype=np.int64),
        Levels(tuple(content["client"]), tuple(content["author_country"])),
        tuple((folder / f"{harm}.txt").read_text() for harm in harms),
        np.array(content["base"]),
        np.array(content["calibration"]),
        content["remove"],
        content["name"],
        params,
    )


def raw_scores(text: str, rows: Floats) -> Floats:
    """Score rows by trees: logits, shape (n,)."""
    import lightgbm

    found: Floats = np.asarray(lightgbm.Booster(model_str=text).predict(rows, raw_score=True, num_threads=1))
    return found


def calibrated(logits: Floats, calibration: Floats) -> Floats:
    """Turn logits (n, k) into probabilities (Platt 1999)."""
    return np.clip(1 / (1 + np.exp(-moved(logits, calibration))), *INSIDE)


def moved(logits: Floats, calibration: Floats) -> Floats:
    """Apply slope and shift to logits (n, k)."""
    found: Floats = logits * calibration[:, 0] + calibration[:, 1]
    return found


def file_under(scores: Floats, thresholds: Floats) -> Ints:
    """Choose for each row the column that most exceeds its threshold: its place from 1, 0 where none does."""
    excess = scores / thresholds
    best = np.argmax(excess, axis=1)
    return np.where(excess[np.arange(len(excess)), best] >= 1, best + 1, 0)
