"""The figures are drawn from whatever rows there are."""

from __future__ import annotations

from pathlib import Path

from pipelines.learning.figures import draw_all


def test_a_slice_in_which_the_metric_does_not_exist_is_left_out(tmp_path: Path) -> None:
    row = {"slice": "some", "scorer": "model", "value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
    empty = row | {"slice": "rare", "value": None, "low": None, "high": None, "n": 2}
    assert [path.name for path in draw_all({"slices": [row, empty]}, "auc", tmp_path)] == ["slices.png"]
    drawn = (tmp_path / "slices.png").read_bytes()
    draw_all({"slices": [row]}, "auc", tmp_path)
    assert (tmp_path / "slices.png").read_bytes() == drawn
    assert draw_all({"slices": [empty]}, "auc", tmp_path) == []
