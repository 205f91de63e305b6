"""Who is in which arm: a function of the unit's id alone, without state (Tang et al. 2010).

The layer's hash says which experiment of the layer a unit belongs to; a second hash, salted with the
experiment's name, says where the unit stands in it. Arms own fixed stretches of [0, 1); at exposure e those in
the first part e of each stretch take part. So whoever took part still does when the exposure grows, nobody
ever changes arms, and the arms of two experiments are independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from pipelines.experiments.declaration import Experiment


def place(unit: str, salt: str) -> float:
    """Hash a unit to [0, 1), uniformly over units and independently over salts."""
    digest = blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: as many as a float holds


def arm(experiment: Experiment, unit: str, day: int) -> str | None:
    """Name the arm of a unit on a day of the experiment; None where it takes no part."""
    low, high = experiment.span
    if not low <= place(unit, experiment.layer) < high:
        return None
    stands, exposure, start = (
        place(unit, f"{experiment.layer}\0{experiment.name}"),
        experiment.exposure(day),
        0.0,
    )
    for name, share in experiment.arms.items():
        if start <= stands < start + share * exposure:
            return name
        start += share
    return None


def assign(experiment: Experiment, units: Iterable[str], day: int) -> list[str | None]:
    """Name the arm of each unit, in order."""
    return [arm(experiment, unit, day) for unit in units]
