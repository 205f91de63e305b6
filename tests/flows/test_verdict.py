"""The words of a run: clearly better only where the whole interval is, whichever way the metric goes."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.flows.real import verdict


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "clear"),
    [
        (0.01, 0.03, False, True),
        (-0.01, 0.03, False, False),
        (-0.03, -0.01, True, True),
        (-0.03, 0.01, True, False),
        (0.01, 0.03, True, False),
        (0.0, 0.0, True, False),
        (None, None, True, False),
    ],
)
def test_clearly_better(low: float | None, high: float | None, lower_is_better: bool, clear: bool) -> None:
    evaluation: dict[str, Any] = {
        "primary": "loss",
        "lower_is_better": ["loss"] if lower_is_better else [],
        "best_heuristic": "rate",
        "confidence": 0.95,
    }
    words = verdict(evaluation, {"value": 0.0, "low": low, "high": high, "n": 7})
    assert ("is clearly better than" in words) == clear
    assert "the best heuristic (rate)" in words
