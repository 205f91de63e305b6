"""The steps in order, with what each reads and writes: dvc.yaml and the flows are held to this list."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A step's name, and the folders of the workspace that it reads and writes."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


STEPS = (
    Step("ingest", (), ("lake", "quarantine")),
    Step("features", ("lake",), ("features",)),
    Step("train", ("lake", "features"), ("model",)),
    Step("evaluate", ("lake", "features", "model"), ("evaluation",)),
    Step("promote", ("lake", "features", "model", "evaluation"), ()),
    Step("monitor", ("lake", "features", "model"), ("monitor",)),
)
