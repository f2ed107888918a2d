"""How long the demo's calls took, as a picture; needs matplotlib."""

from __future__ import annotations

from typing import Mapping, Sequence

from service_clients.evaluate.statistics import times_of

__all__ = ["plot_times"]

_COLORS = ("#33658a", "#c8553d", "#2c8f5a", "#8a5a9e", "#b08900", "#555555")


def plot_times(path: str, title: str, calls_ms: Mapping[str, Sequence[float]]) -> None:
    """Draws a row for each service, a dot for each call, and marks at p50 and p99. Raises OSError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.75 * len(calls_ms) + 1.6), layout="constrained")
    names = list(calls_ms)
    for row, (name, color) in enumerate(zip(names, _COLORS * len(names))):
        calls = calls_ms[name]
        # In the order in which they were made, from the row's upper edge to its lower.
        places = [row - 0.28 + 0.56 * (number + 0.5) / max(len(calls), 1) for number in range(len(calls))]
        axes.scatter(calls, places, s=16, color=color, alpha=0.65, linewidths=0, zorder=3)
        times = times_of(calls)
        for value, style in ((times.p50, "-"), (times.p99, ":")):
            axes.vlines(value, row - 0.38, row + 0.38, color=color, linestyle=style, linewidth=1.8, zorder=2)
        axes.annotate(
            f"p50 {times.p50:.2f}   p99 {times.p99:.2f} ms",
            (1.01, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=color,
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), [f"{name}\nn = {len(calls_ms[name])}" for name in names], fontsize=9)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(
        "ms; a dot is a call, its row runs from the first call to the last; — p50, ··· p99", fontsize=9
    )
    axes.set_title(title, fontsize=11)
    axes.grid(True, axis="x", which="both", alpha=0.25)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    try:
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)
