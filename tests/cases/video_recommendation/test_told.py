"""Sums over histories against SciPy's products, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random_array

from pipelines.cases.video_recommendation.told import Rows


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 30))
def test_rows_are_summed_as_a_sparse_product_sums_them(seed: int, n: int, entries: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = csr_matrix(random_array((12, 9), density=0.3, rng=rng))
    entry, row = np.sort(rng.integers(0, n, entries)), rng.integers(0, 12, entries)
    weight = rng.random(entries)
    starts = np.searchsorted(entry, np.arange(n + 1))
    for values, given_ in ((np.ones(entries), None), (weight, weight)):
        expected = (csr_matrix((values, row, starts), shape=(n, 12)) @ matrix).toarray()
        assert np.array_equal(Rows(matrix).sums(entry, row, n, given_), expected)
