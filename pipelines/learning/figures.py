"""The pictures a person wants of a model: drawn once, from the rows that `dvc plots` shows too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

_BLUE, _GREY, _GREEN, _ORANGE = "#2563eb", "#6b7280", "#059669", "#d97706"
_COLOURS = {"model": _BLUE, "oracle": _GREEN, "champion": _ORANGE}


def draw_all(plots: Mapping[str, Rows], primary: str, folder: Path) -> list[Path]:
    """Draw every plot that has rows, as PNG files; return their paths."""
    drawn = []
    for name, draw in _DRAW.items():
        # A slice in which a metric does not exist has nothing to draw.
        rows = [row for row in plots.get(name, []) if row.get("value", 0) is not None]
        if rows:
            figure = draw(rows, primary)
            path = folder / f"{name}.png"
            # Without the version stamp the same picture is the same bytes.
            figure.savefig(path, dpi=120, metadata={"Software": None})
            drawn.append(path)
    return drawn


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _primary(rows: Rows, primary: str) -> Any:
    """Draw a line a scorer, best known at the top, the model in blue."""
    ordered = sorted(rows, key=lambda row: row["value"])
    figure, axes = _figure(7, 1.2 + 0.45 * len(ordered))
    for height, row in enumerate(ordered):
        _interval(axes, row, height, _COLOURS.get(row["scorer"], _GREY))
        axes.annotate(
            f"{row['value']:.4f}", (row["value"], height), (0, 7), textcoords="offset points", ha="center"
        )
    axes.set_yticks(range(len(ordered)), [row["scorer"] for row in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.2)
    axes.set_xlabel(primary)
    confidence = f"{ordered[-1]['n']:,} units, bootstrap intervals"
    axes.set_title(f"{primary} by scorer ({confidence})", loc="left", fontsize=11)
    return figure


def _slices(rows: Rows, primary: str) -> Any:
    """Draw each slice's scorers beneath one another, the slice's size beside its name."""
    names = list(dict.fromkeys(row["slice"] for row in rows))
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))
    figure, axes = _figure(7.5, 1.3 + 0.22 * len(names) * len(scorers))
    colours = _by_scorer(scorers)
    sizes = {row["slice"]: row["n"] for row in rows}
    for row in rows:
        step = scorers.index(row["scorer"]) - (len(scorers) - 1) / 2
        height = -names.index(row["slice"]) - step * 0.7 / len(scorers)
        _interval(axes, row, height, colours[row["scorer"]])
    for place in range(0, len(names), 2):
        axes.axhspan(-place - 0.5, -place + 0.5, color="#f3f4f6", zorder=0)
    axes.set_ylim(-len(names) + 0.5, 0.5)
    axes.set_yticks([-i for i in range(len(names))], [f"{name}\nn = {sizes[name]:,}" for name in names])
    axes.set_xlabel(primary)
    axes.set_title(f"{primary} by slice", loc="left", fontsize=11)
    _legend(axes, {scorer: colours[scorer] for scorer in scorers})
    return figure


def _days(rows: Rows, primary: str) -> Any:
    """Draw a line a scorer over the days of the evaluation window."""
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))
    days = sorted({row["day"] for row in rows})
    colours = _by_scorer(scorers)
    figure, axes = _figure(7.5, 3.6)
    for scorer in scorers:
        found = {row["day"]: row for row in rows if row["scorer"] == scorer}
        shown = [found[day] for day in days if day in found]
        where = [days.index(row["day"]) for row in shown]
        axes.plot(where, [row["value"] for row in shown], "o-", color=colours[scorer], markersize=4)
        if scorer == "model":
            low, high = ([row[end] for row in shown] for end in ("low", "high"))
            axes.fill_between(where, low, high, color=colours[scorer], alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(days)), [day[5:] for day in days])
    axes.set_ylabel(primary)
    axes.set_title(f"{primary} by day", loc="left", fontsize=11)
    _legend(axes, {scorer: colours[scorer] for scorer in scorers})
    return figure


def _reliability(rows: Rows, primary: str) -> Any:
    """Draw what was observed against what was predicted; the diagonal is honest."""
    figure, axes = _figure(4.8, 4.5)
    top = min(1.02, max(max(row["high"], row["predicted"]) for row in rows) * 1.05)
    axes.plot([0, top], [0, top], color=_GREY, linewidth=1, linestyle="--")
    for row in rows:
        axes.plot([row["predicted"]] * 2, [row["low"], row["high"]], color=_BLUE, linewidth=1.5)
    axes.plot([r["predicted"] for r in rows], [r["observed"] for r in rows], "o", color=_BLUE, markersize=5)
    axes.set(xlabel="predicted probability", ylabel="observed share, as logged", xlim=(0, top), ylim=(0, top))
    axes.set_title("Reliability (tenths of predictions, 95 %)", loc="left", fontsize=11)
    return figure


def _curves(rows: Rows, primary: str) -> Any:
    """Draw each training curve in a panel of its own: their scales have nothing in common."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(row["curve"] for row in rows))
    figure = Figure(figsize=(4 * min(len(names), 3), 3 * -(-len(names) // 3)), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(-(-len(names) // 3), min(len(names), 3), place)
        shown = [row for row in rows if row["curve"] == name]
        axes.plot([row["step"] for row in shown], [row["value"] for row in shown], color=_BLUE)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e7eb", linewidth=0.8)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return figure


def _importance(rows: Rows, primary: str) -> Any:
    """Draw the features that the model leans on most."""
    shown = list(rows)[:20][::-1]
    figure, axes = _figure(7, 0.9 + 0.28 * len(shown))
    axes.barh([row["feature"] for row in shown], [row["importance"] for row in shown], color=_BLUE)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("importance")
    axes.set_title("What the model leans on", loc="left", fontsize=11)
    return figure


def _interval(axes: Any, row: Mapping[str, Any], at: float, colour: str) -> None:
    if row["low"] is not None and row["high"] is not None:
        axes.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=2)
    axes.plot(row["value"], at, "o", color=colour, markersize=6)


def _by_scorer(scorers: Sequence[str]) -> dict[str, str]:
    greys = iter(("#6b7280", "#9ca3af", "#374151", "#d1d5db", "#111827"))
    return {scorer: _COLOURS.get(scorer) or next(greys, _GREY) for scorer in scorers}


def _legend(axes: Any, colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker="o", label=name, linestyle="") for name, colour in colours.items()
    ]
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


_DRAW: dict[str, Callable[[Rows, str], Any]] = {
    "primary": _primary,
    "slices": _slices,
    "days": _days,
    "reliability": _reliability,
    "curves": _curves,
    "importance": _importance,
}
