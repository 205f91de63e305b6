"""What a version reached when it was judged: later days are held to it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipelines.stores.registry import Registry, Version

REACHED = "contest.reached"
"""Tag of a version that won a contest: what it reached there, by the names of a run's metrics (JSON)."""


def judged_figures(version: Version, registry: Registry) -> Mapping[str, float]:
    """Read the metrics of a version's run, and in their place those that people saw of it after a fall.

    After one, the figures of its run are of a model that had not learned from it, and never served.
    """
    metrics = registry.client.get_run(version.run_id).data.metrics
    return {**metrics, **json.loads(version.tags.get(REACHED, "{}"))}
