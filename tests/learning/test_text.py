"""Hashed n-grams are those of the words themselves, and weigh as TF-IDF says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.text import NGrams, TfIdf, count_ngrams, plain

WIDE = NGrams(bits=20)


def by_hand(text: str, options: NGrams) -> tuple[int, int]:
    """Count the n-grams of a plain text the slow way: of words, and of bytes within a word."""
    words = text.split()
    shortest, longest = options.words
    runs = sum(max(len(words) - n + 1, 0) for n in range(shortest, longest + 1))
    shortest, longest = options.characters
    padded = [len(f" {word} ".encode()) for word in words]
    return runs, sum(max(size - n + 1, 0) for size in padded for n in range(shortest, longest + 1))


def test_texts_are_written_plainly() -> None:
    told = plain(pl.Series(["HEY @Ann: see https://a.b/c?d!! &amp; &#128514;", None, "  don't\nstop "]))
    assert told.to_list() == ["hey zzname see zzlink zzsign", "", "don't stop"]


@given(st.lists(st.text(st.sampled_from("ab é!\n9"), max_size=20), min_size=1, max_size=6))
def test_as_many_are_counted_as_there_are(texts: list[str]) -> None:
    counts = count_ngrams(pl.Series(texts, dtype=pl.String), WIDE)
    for row, text in enumerate(plain(pl.Series(texts, dtype=pl.String))):
        found = [counts[row, block].sum() for block in WIDE.blocks]
        assert found == list(by_hand(text, WIDE))


def test_equal_ngrams_share_a_bucket_wherever_they_stand() -> None:
    counts = count_ngrams(pl.Series(["red fox", "a very red fox", "fox red", "read fax"]), WIDE)
    words, _ = WIDE.blocks
    alike = (counts[0, words].multiply(counts[:, words])).sum(axis=1).ravel().tolist()[0]
    assert alike == [3, 3, 2, 0]  # "red", "fox" and "red fox"; the pair the other way round is another
    disguised = count_ngrams(pl.Series(["zigomar", "zigomaar", "bulbous"]), WIDE)[:, WIDE.blocks[1]]
    shared = (disguised[0].multiply(disguised)).sum(axis=1).ravel().tolist()[0]
    assert shared[0] > shared[1] > 5 and shared[2] == 0


def test_other_texts_and_another_order_change_nothing() -> None:
    texts = pl.Series(["one two", "three", "", "two one two"])
    whole = count_ngrams(texts, NGrams(bits=10)).toarray()
    turned = count_ngrams(texts[[3, 2, 1, 0]], NGrams(bits=10)).toarray()
    np.testing.assert_array_equal(whole, turned[::-1])
    np.testing.assert_array_equal(count_ngrams(texts[3:], NGrams(bits=10)).toarray()[0], whole[3])


def test_weights_are_tf_idf() -> None:
    options = NGrams(words=(1, 1), characters=(3, 3), bits=16)
    texts = pl.Series(["aa bb bb", "aa cc", "aa bb"])
    counts = count_ngrams(texts, options)
    tfidf = TfIdf.fit(counts, options)
    rows = tfidf.weigh(counts).toarray()
    split = int((tfidf.columns < options.blocks[1].start).sum())
    assert split == 2  # "aa" and "bb": "cc" stands in one text only
    idf = {name: np.log(4 / (1 + n)) + 1 for name, n in (("aa", 3), ("bb", 2))}
    expected = np.array([idf["aa"], (1 + np.log(2)) * idf["bb"]])
    assert sorted(rows[0, :split]) == pytest.approx(sorted(expected / np.linalg.norm(expected)))
    np.testing.assert_allclose(np.linalg.norm(rows[:, split:], axis=1), 1)
    assert tfidf.known_share(counts)[:, 0].tolist() == [1.0, 0.5, 1.0]
    assert np.isnan(tfidf.known_share(count_ngrams(pl.Series(["!"]), options))).all()


def test_a_text_without_words_weighs_nothing() -> None:
    options = NGrams(bits=8)
    counts = count_ngrams(pl.Series(["word word", "word", ""]), options)
    assert TfIdf.fit(counts, options).weigh(counts)[2].nnz == 0
