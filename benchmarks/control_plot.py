"""The picture of the control benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.control_path import ACTION_HZ, move, path

if TYPE_CHECKING:
    from benchmarks.control import Latency, Report, Trace

JOINT = 3
SECONDS = 6.0  # of the traces
COLOURS = {
    "openpi": "tab:brown",
    "blocking": "tab:red",
    "prefetch": "tab:blue",
    "aligned": "tab:green",
    "ensemble": "tab:purple",
    "ideal": "0.5",
}


def draw(report: Report, file: Path) -> None:
    """Left: one joint of the arm over time, a panel for each mode. Right: the figures, as bars."""
    latency, traces = next(iter(report.traces.items()))
    figure = Figure(figsize=(16, 2.3 * len(traces)), dpi=100, layout="constrained")
    figure.suptitle(
        f"A 50 Hz controller over chunks of 50 steps from a slow policy ({latency.label} on the left)",
        fontsize=14,
    )
    left, right = figure.subfigures(1, 2, width_ratios=[1.35, 1])
    panels = left.subplots(len(traces), 1, sharex=True, sharey=True)
    for panel, (mode, trace) in zip(panels, traces.items()):
        draw_trace(panel, mode, trace)
    panels[-1].set_xlabel("time (s)")
    panels[0].legend(loc="upper right", ncols=4, fontsize="small")
    draw_bars(right.subplots(4, 1), report)
    figure.savefig(file)


def draw_trace(panel: Any, mode: str, trace: Trace) -> None:
    begin = trace.times[0] + 1
    times, positions = move(trace.times, trace.commands)
    shown = (times >= begin) & (times < begin + SECONDS)
    for index, (since, until) in enumerate(starved_spans(trace)):
        if since < begin + SECONDS and until > begin:
            panel.axvspan(
                max(since, begin) - begin,
                min(until, begin + SECONDS) - begin,
                color="tab:orange",
                alpha=0.45,
                linewidth=0,
                label="" if index else "nothing to do",
            )
    inside = [at - begin for at in trace.boundaries if begin <= at < begin + SECONDS]
    if len(inside) <= 4 * SECONDS:
        for index, at in enumerate(inside):
            panel.axvline(at, color="0.6", linewidth=0.8, zorder=0, label="" if index else "a chunk begins")
    panel.plot(times[shown] - begin, path(times[shown])[:, JOINT], "k--", linewidth=1, label="the path")
    panel.plot(
        times[shown] - begin, positions[shown][:, JOINT], color=COLOURS[mode], linewidth=1.6, label="the arm"
    )
    panel.set_ylabel(f"joint {JOINT + 1} (rad)")
    panel.set_title(f"{mode}: a chunk every {1e3 * chunk_seconds(trace):.0f} ms", loc="left", fontsize=10)
    panel.set_xlim(0, SECONDS)


def chunk_seconds(trace: Trace) -> float:
    if len(trace.boundaries) < 2:
        return float(trace.times[-1] - trace.times[0])
    return float(np.median(np.diff(trace.boundaries)))


def starved_spans(trace: Trace) -> list[tuple[float, float]]:
    """From when to when there was nothing new."""
    period = 1 / ACTION_HZ
    return [
        (float(at - wait), float(at)) if is_new else (float(at), float(at + period))
        for at, wait, is_new in zip(trace.times[1:], trace.waits[1:], trace.fresh[1:])
        if wait > period / 2 or not is_new
    ]


def draw_bars(panels: Any, report: Report) -> None:
    latencies = list(report.scores)
    groups = [latency.label for latency in latencies]

    def of(latency: Latency, name: str) -> dict[str, float]:
        return {mode: getattr(it, name) for mode, it in report.scores[latency].items()}

    for panel, name, title, unit in (
        (panels[0], "starved_percent", "starved ticks", "%"),
        (panels[1], "error_mrad", "path error, root mean square", "mrad"),
        (panels[2], "jerk", "jerk where a chunk begins, median", "rad/s³, log"),
    ):
        bars(panel, groups, [of(latency, name) for latency in latencies], title, unit, log=name == "jerk")
    jitters = [
        {mode: found[hz] for mode, found in report.jitters.items()}
        for hz in next(iter(report.jitters.values()))
    ]
    rates = [f"{hz} Hz" for hz in next(iter(report.jitters.values()))]
    bars(panels[3], rates, jitters, f"jitter of ticks, p99, at {groups[0]}", "ms, log", log=True)
    panels[0].legend(ncols=3, fontsize="small")


def bars(
    panel: Any, groups: list[str], values: list[dict[str, float]], title: str, unit: str, log: bool
) -> None:
    """A group of bars for each of `groups`, one bar for each mode."""
    modes = list(values[0])
    width = 0.8 / len(modes)
    for index, mode in enumerate(modes):
        places = np.arange(len(groups)) + (index - (len(modes) - 1) / 2) * width
        heights = [found[mode] for found in values]
        drawn = panel.bar(places, heights, width, color=COLOURS[mode], label=mode)
        panel.bar_label(drawn, [short(height) for height in heights], fontsize=7, padding=1)
    panel.set_xticks(range(len(groups)), groups)
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_ylabel(unit)
    panel.margins(y=0.2)
    if log:
        panel.set_yscale("log")


def short(number: float) -> str:
    """Three digits at most: "0.91", "64", "35k"."""
    return f"{number / 1000:.3g}k" if number >= 1000 else f"{number:.3g}"
