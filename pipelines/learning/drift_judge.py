"""Each column's contrasts held against their forecasts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.learning.drift_forecast import Daily, Forecast
from pipelines.learning.drift_profile import Profile, Watched
from pipelines.learning.drift_state import MINIMUM_ROWS, State

MINIMUM_DAYS = 4  # reference days, at least


@dataclass
class Found:
    """What was computed of a column's k contrasts: `p`-values and `shift`s of the window, (k,); by day
    (T, k) the `evidence` of a lasting shift, and its size, `moved`. `status` and `settled` as in ColumnVerdict.
    """

    status: str
    p: np.ndarray
    shift: np.ndarray
    days: np.ndarray
    evidence: np.ndarray
    moved: np.ndarray
    settled: bool = True

    @classmethod
    def nothing(cls, status: str, days: Sequence[int], contrasts: int) -> Found:
        """Start from no surprise at all."""
        shape = (len(days), contrasts)
        return cls(
            status,
            np.ones(contrasts),
            np.zeros(contrasts),
            np.array(days, dtype=int),
            np.ones(shape),
            np.zeros(shape),
        )


def judge_contrasts(
    profile: Profile, state: State, window: Mapping[str, Sequence[int]], run_days: int
) -> dict[str, Found]:
    """Forecast every contrast of every column; `window` names the days to judge, by column.

    Contrasts seen on the same days with as many rows share their forecast's algebra.
    """
    found: dict[str, Found] = {}
    groups: dict[bytes, list[tuple[str, int, Daily, np.ndarray]]] = defaultdict(list)
    for watched in profile.columns:
        name = watched.column.name
        series = [_series(profile, watched, state, place) for place in range(len(watched.contrasts.names))]
        usable = [each for each in series if isinstance(each, Daily)]
        why = [each for each in series if isinstance(each, str)] or ["not_enough_rows"]
        status = "judged" if usable and window[name] else "no_new_rows" if usable else min(why)
        days = sorted(state.values.get(name, {})) if usable else []
        found[name] = Found.nothing(status, days, len(series))
        for place, daily in enumerate(series):
            if isinstance(daily, Daily):
                mask = np.isin(daily.day, window[name])
                groups[_alike(daily, mask)].append((name, place, daily, mask))
    for members in groups.values():
        together = np.column_stack([daily.value for _, _, daily, _ in members])
        inflation = np.array([daily.inflation for _, _, daily, _ in members])
        forecast = Forecast(replace(members[0][2], value=together, inflation=inflation), run_days)
        _fill(found, [(name, place) for name, place, _, _ in members], forecast, members[0][3])
    return found


def _alike(daily: Daily, mask: np.ndarray) -> bytes:
    learned = b"" if daily.learned is None else daily.learned.tobytes()
    return b"|".join((daily.day.tobytes(), daily.rows.tobytes(), mask.tobytes(), learned))


def _fill(
    found: Mapping[str, Found], members: Sequence[tuple[str, int]], forecast: Forecast, mask: np.ndarray
) -> None:
    evidence, moved = forecast.evidence()
    p, shift = forecast.tail(mask) if mask.any() else (np.ones(len(members)), np.zeros(len(members)))
    days = forecast.daily.day[forecast.daily.reference :]
    for index, (name, place) in enumerate(members):
        column = found[name]
        column.settled &= not forecast.on_its_way[index]
        column.p[place], column.shift[place] = p[index], shift[index]
        at = np.searchsorted(days, column.days, side="right") - 1
        known = at >= 0
        column.evidence[known, place] = evidence[at[known], index]
        column.moved[known, place] = moved[at[known], index]


def _series(profile: Profile, watched: Watched, state: State, place: int) -> Daily | str:
    """Put a contrast's reference and current days in a row; say why where it cannot be judged."""
    kept = sorted(state.values.get(watched.column.name, {}).items())
    values = np.append(watched.values[:, place], [value[place] for _, (value, _) in kept])
    rows = np.append(watched.rows[:, place], [behind[place] for _, (_, behind) in kept])
    days = np.append(watched.days, [day for day, _ in kept]).astype(int)
    use = (rows >= MINIMUM_ROWS) & np.isfinite(values)
    reference = int(use[: len(watched.days)].sum())
    if reference < MINIMUM_DAYS:
        return "not_enough_reference"
    if reference == use.sum():
        return "not_enough_rows"
    learned = None
    if watched.column.role == "prediction" and profile.learned_until is not None:
        learned = (days < profile.learned_until)[use]
        if learned[:reference].all():
            return "not_comparable"
        learned = learned if learned.any() else None
    inflation = watched.contrasts.inflation if watched.contrasts.rare[place] else 1.0
    return Daily(days[use], rows[use].astype(float), values[use][:, None], reference, learned, inflation)
