"""The invented language of the posts: plain words of harm, misspelt ones, and coded ones that evade."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.harmful_content.tables import HARMS
from pipelines.world.numbers import sigmoid

Floats = NDArray[np.float64]

TOPICS, TOPIC_WORDS, COMMON_WORDS = 8, 90, 500
STRONG, CODED, LISTED, SPELLINGS = 30, 30, 6, 4
"""Words of each harm; of them on the platform's word list; ways to write each (the first is right)."""


class Words:
    """The language: common words, words of topics, and words of harms, plain, misspelt and coded."""

    def __init__(self, rng: np.random.Generator) -> None:
        wanted = COMMON_WORDS + TOPICS * TOPIC_WORDS + len(HARMS) * (STRONG + CODED)
        syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
        found: dict[str, None] = {}
        while len(found) < wanted:
            found["".join(rng.choice(syllables, rng.integers(2, 5)))] = None
        words = np.array(list(found))
        cuts = np.cumsum([COMMON_WORDS, TOPICS * TOPIC_WORDS, len(HARMS) * STRONG])
        self.common, topics, strong, coded = np.split(words, cuts)
        self.topic = topics.reshape(TOPICS, TOPIC_WORDS)
        self.strong = np.array(
            [[spellings(w, rng) for w in row] for row in strong.reshape(len(HARMS), STRONG)]
        )
        self.coded = coded.reshape(len(HARMS), CODED)
        share = 1 / (np.arange(COMMON_WORDS) + 4.0)
        self._common = np.cumsum(share / share.sum())

    def on_list(self, texts: pl.Series) -> NDArray[np.bool_]:
        """Say which texts hold a word of the platform's list: a few of each harm, rightly spelt."""
        listed = self.strong[:, :LISTED, 0].ravel().tolist()
        return (
            texts.str.to_lowercase()
            .str.split(" ")
            .list.eval(pl.element().is_in(listed))
            .list.any()
            .to_numpy()
        )

    def write(
        self,
        used: NDArray[np.bool_],
        severity: Floats,
        topics: Floats,
        evasion: float,
        rng: np.random.Generator,
    ) -> pl.Series:
        """Write a text a post: words of its topics, and of the harms that are `used`, the more the graver."""
        length = rng.integers(5, 22, len(used))
        post = np.repeat(np.arange(len(used)), length)
        dice, pick = rng.random((6, len(post))), rng.integers(1 << 30, size=(3, len(post)))
        share = np.where(used, 0.06 + 0.14 * sigmoid(severity), 0.0)
        edge = np.cumsum(share, axis=1)[post]
        harm = (dice[0][:, None] >= edge).sum(axis=1)
        topic = (dice[1][:, None] >= np.cumsum(topics, axis=1)[post]).sum(axis=1).clip(max=TOPICS - 1)
        common = self.common[np.searchsorted(self._common, dice[2]).clip(max=COMMON_WORDS - 1)]
        word = np.where(dice[3] < 0.45, self.topic[topic, pick[0] % TOPIC_WORDS], common)
        bad = harm < len(HARMS)
        spelling = np.where(dice[4] < 0.75, 0, 1 + pick[1] % (SPELLINGS - 1))
        # Some words are common: of 30 the first few make up most, as in any language.
        rank = np.minimum((STRONG * dice[5] ** 1.7).astype(np.int64), STRONG - 1)
        safe = np.minimum(harm, len(HARMS) - 1)
        plainly = self.strong[safe, rank, spelling]
        said = np.where((pick[2] % 1000) < 1000 * evasion, self.coded[safe, rank % CODED], plainly)
        word = np.where(bad, said, word)
        loud = used[:, HARMS.index("offensive")] & (rng.random(len(used)) < 0.3) | (
            rng.random(len(used)) < 0.04
        )
        linked = used[:, HARMS.index("spam")] & (rng.random(len(used)) < 0.6) | (rng.random(len(used)) < 0.08)
        lines = pl.DataFrame({"post": post, "word": word}).group_by("post", maintain_order=True)
        text = lines.agg(pl.col("word").str.join(" "))["word"]
        return pl.DataFrame({"text": text, "loud": loud, "linked": linked}).select(
            pl.when("loud").then(pl.col("text").str.to_uppercase() + "!!").otherwise("text")
            + pl.when("linked").then(pl.lit(" https://example.invalid")).otherwise(pl.lit(""))
        ).to_series()  # fmt: skip


def spellings(word: str, rng: np.random.Generator) -> list[str]:
    """Write a word rightly, then with a letter doubled, one left out, and one for another."""
    at = rng.integers(1, len(word) - 1, 3)
    other = "xqjw"[rng.integers(4)]
    return [
        word,
        word[: at[0]] + word[at[0] - 1] + word[at[0] :],
        word[: at[1]] + word[at[1] + 1 :],
        word[: at[2]] + other + word[at[2] + 1 :],
    ]
