"""Item-item nearest neighbours over who watched what: a heuristic, and a source of candidates.

Cosine similarity with shrinkage (Sarwar et al. 2001; Bell & Koren 2007); users count less the more
they watched (inverse user frequency, Breese et al. 1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 1024


def neighbours(watched: csr_matrix, k: int, *shrinkages: float) -> tuple[csr_matrix, ...]:
    """Return each item's k most similar items as sparse rows (items, items), a matrix a shrinkage.

    `watched` (users, items) is 1 where a user watched an item. With user weights w(u) = 1 / log2(2 + n(u)),
    similar(i, j) = sum_ij w² / (sqrt(sum_i w² · sum_j w²) + shrinkage · mean w²), sums over the watchers of
    both, of i, of j. The first shrinkage chooses the k, ties to the lower item; the others say of the same
    pairs how similar they are if rare pairs are trusted more, or less.
    """
    from scipy.sparse import csr_matrix, diags, vstack

    activity = np.asarray(watched.sum(axis=1)).ravel()
    weight = 1.0 / np.log2(2.0 + activity)
    weighted = (diags(weight) @ watched).tocsc()
    square = np.asarray(weighted.multiply(weighted).sum(axis=0)).ravel()
    seen = activity > 0
    unit = float(np.mean(weight[seen] ** 2)) if seen.any() else 1.0
    rows, items = weighted.tocsr(), watched.shape[1]
    parts: list[list[csr_matrix]] = [[csr_matrix((0, items))] for _ in shrinkages]
    for start in range(0, items, _BLOCK):
        together = (weighted[:, start : start + _BLOCK].T @ rows).tocsr()
        row, column, value = _entries(together)
        norm = np.sqrt(square[row + start] * square[column])
        first = np.where(column == row + start, 0.0, value / (norm + shrinkages[0] * unit))
        kept = _nearest(row, column, first, k, together.shape[0])
        for part, shrinkage in zip(parts, shrinkages, strict=True):
            similar = value[kept] / (norm[kept] + shrinkage * unit)
            part.append(csr_matrix((similar, (row[kept], column[kept])), shape=together.shape))
    return tuple(vstack(part, format="csr") for part in parts)


def _entries(matrix: csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return row, matrix.indices.astype(np.int64), matrix.data


def _nearest(
    row: NDArray[np.int64], column: NDArray[np.int64], similar: NDArray[np.float64], k: int, rows: int
) -> NDArray[np.int64]:
    """Choose the entries with the k greatest positive similarities of each row, in their order."""
    order = np.lexsort((column, -similar, row))
    first = np.searchsorted(row[order], np.arange(rows))
    place = np.arange(len(order)) - first[row[order]]
    chosen = order[(place < k) & (similar[order] > 0)]
    return np.sort(chosen)
