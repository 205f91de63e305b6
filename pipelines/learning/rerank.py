"""The last word on a list: nothing seen before, not all alike, some of it fresh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def marginal_relevance(scores: Floats, vectors: Floats, k: int, trade: float) -> Ints:
    """Take k items by maximal marginal relevance (Carbonell & Goldstein 1998).

    Greedily takes the item with the greatest score - trade · (greatest cosine with one taken before).
    `scores` (n,) should be on the scale of a logit or a probability; `vectors` (n, d) need not be
    normalised. With trade 0 it is a sort by score; ties go to the lower index.
    """
    order = np.sort(scores)[::-1]
    least = order[min(k, len(order)) - 1] if k and len(order) else np.inf
    # What is worse than the k-th best by more than a cosine can cost it is never taken.
    near = np.flatnonzero(~(scores < least - 1.001 * trade))
    alone = np.asarray(scores, dtype=np.float64)[near]
    length = np.linalg.norm(vectors[near], axis=1, keepdims=True)
    unit = np.divide(vectors[near], length, out=np.zeros((len(near), vectors.shape[1])), where=length > 0)
    worth, cost = alone.copy(), np.empty(len(near))
    taken = np.empty(min(k, len(scores)), dtype=np.int64)
    for place in range(len(taken)):
        best = int(worth.argmax())
        taken[place] = near[best]
        np.dot(unit, unit[best], out=cost)
        cost *= trade
        np.subtract(alone, cost, out=cost)
        np.minimum(worth, cost, out=worth)
        worth[best] = -np.inf
    return taken


def refresh(ranked: Ints, fresh: NDArray[np.bool_], k: int, places: int) -> Ints:
    """Give the last of k places to fresh items until the list holds at least `places` of them.

    `ranked` are item positions, best first (longer than k); `fresh` marks positions. The best fresh items
    from below replace the worst stale ones; the order of score is kept. Without enough fresh items,
    as many as there are.
    """
    top, below = ranked[:k], ranked[k:]
    missing = places - int(fresh[top].sum())
    incoming = below[fresh[below]][: max(missing, 0)]
    if not len(incoming):
        return top
    stale = np.flatnonzero(~fresh[top])[::-1][: len(incoming)]
    kept = np.delete(top, stale)
    return np.concatenate([kept, incoming[: len(stale)]])
