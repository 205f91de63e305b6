"""The picture of a time-lapse: what each arm earned day by day, and what happened to the system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.flows.timelapse.measures import Course, Days, rewards, took_over
from pipelines.flows.timelapse.record import Lived
from pipelines.steps.decide import FALLS

_LOOK = {
    "triggered": ("#2563eb", "-", 2.4),
    "frozen": ("#6b7280", "-", 1.6),
    "fresh": ("#059669", "--", 1.6),
    "daily": ("#d97706", ":", 1.4),
    "weekly": ("#a855f7", ":", 1.4),
    "informed": ("#0891b2", ":", 1.4),
}
_SAID = {
    "triggered": "the loop (retrains when it decides to)",
    "frozen": "never retrained",
    "fresh": "fresh reference (learned in the day's own world)",
    "daily": "retrained every day",
    "weekly": "retrained every week",
    "informed": "told of the change",
}


def draw(courses: list[Course], case: str, scenario: str, path: Path) -> None:
    """Draw the mean over seeds of each arm's reward, day by day, and beneath it the first seed's events."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    first = courses[0]
    for name in reversed([name for name in _LOOK if name in first.arms]):
        colour, dash, width = _LOOK[name]
        mean = np.mean([rewards(course.arms[name]) for course in courses], axis=0)
        axes.plot(np.arange(len(mean)), mean, dash, color=colour, linewidth=width, label=_SAID[name])
    if first.shift is not None:
        axes.axvline(first.shift - 0.5, color="#dc2626", linewidth=1.2)
        axes.annotate(
            f" {scenario.replace('_', ' ')} begins",
            (first.shift - 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            va="top",
            color="#dc2626",
            fontsize=9,
        )
    _events(axes, first.arms["triggered"])
    axes.set_xlabel("day")
    axes.set_ylabel("expected reward a request")
    seeds = f"{len(courses)} seeds" if len(courses) > 1 else f"seed {first.seed}"
    axes.set_title(f"{case}: {scenario.replace('_', ' ')}, {seeds}", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _events(axes: Any, days: Days) -> None:
    """Mark what happened beneath the curves, each kind that did, in the legend too."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.18 * (high - low), high)
    lines = {name: low - at * (high - low) for name, at in (("seen", 0.07), ("done", 0.13))}
    for name, (line, mark, colour, fill) in _MARKS.items():
        at = [each.day + 0.5 for each in days if _HAPPENED[name](each)]  # on the morning after the day
        if at:
            height = np.full(len(at), lines[line])
            axes.plot(at, height, mark, color=colour, markersize=8, markerfacecolor=fill, label=name)


_MARKS = {
    "a fall was found, or drift alarms": ("seen", "|", "#dc2626", "#dc2626"),
    "a broken column holds training": ("seen", "s", "#f59e0b", "#f59e0b"),
    "a new champion": ("done", "^", "#2563eb", "#2563eb"),
    "retrained, the champion stays": ("done", "^", "#2563eb", "white"),
    "a challenger was rolled back": ("done", "x", "#dc2626", "#dc2626"),
}
"""Each kind of event: its line, mark, colour and filling."""
_HAPPENED: dict[str, Callable[[Lived], bool]] = {
    "a fall was found, or drift alarms": lambda day: (
        not day.judgement.held
        and (day.judgement.drift == "alarm" or bool(set(day.judgement.kinds) & set(FALLS)))
    ),
    "a broken column holds training": lambda day: day.judgement.held,
    "a new champion": took_over,
    "retrained, the champion stays": lambda day: day.retrained is not None and not took_over(day),
    "a challenger was rolled back": lambda day: day.tried is not None and day.tried.decision == "roll_back",
}
