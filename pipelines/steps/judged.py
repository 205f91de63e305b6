"""What a version reached when it was judged: later days are held to it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipelines.steps.gate import CONTEST, Judgement
from pipelines.stores.registry import Registry, Version

REACHED = "contest.reached"
"""Tag of a version that won a contest: its primary metric there, by the names of a run's metrics (JSON)."""


def reached_tags(judgement: Judgement | None) -> dict[str, str]:
    """Return the tag of what a contest's winner reached; none where there was no contest."""
    told = [each.reached for each in judgement.reasons if each.check == CONTEST] if judgement else []
    return {} if not told or told[0] is None else {REACHED: json.dumps(dict(told[0]))}


def judged_figures(version: Version, registry: Registry) -> Mapping[str, float]:
    """Read what a version reached: the metrics of its run, or after a fall what people saw of it.

    After one, the figures of its run are of a model that had not learned from it, and never served.
    """
    if REACHED in version.tags:
        told: dict[str, float] = json.loads(version.tags[REACHED])
        return told
    known: Mapping[str, float] = registry.client.get_run(version.run_id).data.metrics
    return known
