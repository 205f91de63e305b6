"""Text as weighted n-grams of words and of characters: TF-IDF over hashed buckets, without a vocabulary.

Words and pairs of words tell what is said; runs of 3 to 5 characters within a word survive misspelling,
inflection and disguise (the subwords of Bojanowski et al. 2017). Each n-gram falls into a bucket by a hash
of its bytes (Weinberger et al. 2009), computed for all texts at once by prefix sums: nothing to look up,
the same on every machine and in any order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

_SPACE, _END = ord(" "), ord("\n")
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True)
class NGrams:
    """Which n-grams are counted: runs of `words` and of `characters` (shortest, longest), hashed to 2^bits each."""

    words: tuple[int, int] = (1, 2)
    characters: tuple[int, int] = (3, 5)
    bits: int = 18

    @property
    def blocks(self) -> tuple[slice, slice]:
        """The columns of words and those of characters."""
        return slice(0, 2**self.bits), slice(2**self.bits, 2 ** (self.bits + 1))


def plain(texts: pl.Series) -> pl.Series:
    """Write texts as lower-case words between single spaces; links, mentions and entities become one word each."""
    return (
        texts.fill_null("")
        .str.to_lowercase()
        .str.replace_all(r"https?://\S+|www\.\S+", " zzlink ")
        .str.replace_all(r"&#\d+;", " zzsign ")
        .str.replace_all(r"&(amp|lt|gt|quot);", " ")
        .str.replace_all(r"@\w+", " zzname ")
        .str.replace_all(r"[^\p{L}\p{N}']+", " ")
        .str.strip_chars()
    )


def count_ngrams(texts: pl.Series, options: NGrams) -> csr_matrix:
    """Count hashed n-grams, shape (texts, 2 · 2^bits): words in the first half of the columns."""
    from scipy.sparse import csr_matrix

    buffer = _Buffer.of(plain(texts))
    rows, columns = [], []
    for length in range(options.words[0], options.words[1] + 1):
        start, end = buffer.word_runs(length)
        rows.append(buffer.text[start])
        columns.append(buffer.buckets(start, end, options.bits, salt=length))
    for length in range(options.characters[0], options.characters[1] + 1):
        start = buffer.character_runs(length)
        rows.append(buffer.text[start])
        columns.append(
            buffer.buckets(start, start + length, options.bits, salt=16 + length) + 2**options.bits
        )
    row, column = np.concatenate(rows), np.concatenate(columns)
    shape = (len(texts), 2 ** (options.bits + 1))
    counts = csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    counts.sort_indices()
    return counts


@dataclass(frozen=True)
class TfIdf:
    """Weights of the n-grams that are kept: 1 + log count, times log((1 + n) / (1 + df)) + 1, rows of length 1.

    `columns` (m,) are the buckets seen in at least two texts, sorted; `idf` (m,) their weights.
    Words and characters are normalised apart, so that neither drowns the other.
    """

    options: NGrams
    columns: Ints
    idf: NDArray[np.float64]

    @classmethod
    def fit(cls, counts: csr_matrix, options: NGrams, least: int = 2) -> TfIdf:
        """Keep the buckets that at least `least` texts hold."""
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        columns = np.flatnonzero(frequency >= least)
        idf = np.log((1 + counts.shape[0]) / (1 + frequency[columns])) + 1
        return cls(options, columns, idf)

    def weigh(self, counts: csr_matrix) -> csr_matrix:
        """Weigh counted n-grams, shape (texts, m)."""
        from scipy.sparse import diags, hstack

        split = int(np.searchsorted(self.columns, self.options.blocks[1].start))
        blocks = []
        for part in (slice(0, split), slice(split, None)):
            kept = counts[:, self.columns[part]].tocsr().astype(np.float64)
            kept.data = (1 + np.log(kept.data)) * self.idf[part][kept.indices]
            rows = np.repeat(np.arange(kept.shape[0]), np.diff(kept.indptr))
            length = np.sqrt(np.bincount(rows, kept.data**2, minlength=kept.shape[0]))
            blocks.append(diags(np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)) @ kept)
        return hstack(blocks, format="csr")

    def known_share(self, counts: csr_matrix) -> NDArray[np.float64]:
        """Tell which share of each text's n-grams is kept, (texts, 2), of words and of characters; NaN of none."""
        kept = np.zeros(counts.shape[1])
        kept[self.columns] = 1.0
        ones = counts.copy()
        ones.data = np.ones_like(ones.data)
        shares = []
        for block in self.options.blocks:
            inside = np.zeros(counts.shape[1])
            inside[block] = 1.0
            total = ones @ inside
            shares.append(
                np.divide(ones @ (inside * kept), total, out=np.full(len(total), np.nan), where=total > 0)
            )
        return np.column_stack(shares)


@dataclass(frozen=True)
class _Buffer:
    """All texts in one run of bytes: ` w w w \\n w w \\n …`, with prefix sums of a polynomial hash.

    `text` numbers each byte's text. The hash of [a, b) is (prefix[b] - prefix[a]) · base^-a modulo 2^64.
    """

    data: Bytes
    text: Ints
    prefix: Hashes
    inverse: Hashes
    stops: Ints
    ends: Ints

    @classmethod
    def of(cls, texts: pl.Series) -> _Buffer:
        data = np.frombuffer("".join(f" {text} \n" for text in texts).encode(), dtype=np.uint8)
        size = len(data)
        end = data == _END
        text = np.cumsum(end) - end
        power = _powers(_BASE, size)
        prefix = np.zeros(size + 1, dtype=np.uint64)
        np.cumsum(data * power, out=prefix[1:])
        stops = np.concatenate([[0], np.cumsum((data == _SPACE) | end)])
        ends = np.concatenate([[0], np.cumsum(end)])
        return cls(data, text, prefix, _powers(_INVERSE, size), stops, ends)

    def word_runs(self, length: int) -> tuple[Ints, Ints]:
        """Find the runs of so many words: where they begin and end."""
        inside = (self.data != _SPACE) & (self.data != _END)
        edges = np.diff(np.concatenate([[0], inside.astype(np.int8), [0]]))
        start, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        if len(start) < length:
            return start[:0], end[:0]
        first, last = start[: len(start) - length + 1], end[length - 1 :]
        same = self.ends[first] == self.ends[last]
        return first[same], last[same]

    def character_runs(self, length: int) -> Ints:
        """Find where runs of so many bytes begin that lie within one word and the spaces around it."""
        start = np.arange(max(len(self.data) - length + 1, 0))
        within = self.stops[start + length - 1] == self.stops[start + 1]
        return start[within & (self.ends[start + length] == self.ends[start])]

    def buckets(self, start: Ints, end: Ints, bits: int, salt: int) -> Ints:
        """Hash the runs [start, end) to numbers below 2^bits."""
        mixed = (self.prefix[end] - self.prefix[start]) * self.inverse[start] + np.uint64(salt)
        # The last step of SplitMix64: a polynomial's low bits say little of its text.
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (mixed >> np.uint64(64 - bits)).astype(np.int64)


def _powers(base: int, count: int) -> Hashes:
    """Return base^0 … base^(count - 1) modulo 2^64."""
    factors: Any = np.full(max(count, 1), base, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)[:count]
