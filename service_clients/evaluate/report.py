"""What an evaluation found: in words, as JSON, as a picture."""

from __future__ import annotations

import itertools
import json
import math
import os
from typing import Any, Sequence

from service_clients.evaluate.episodes import Episode
from service_clients.evaluate.statistics import times_of, wilson

__all__ = ["describe", "plot", "summary", "write_json"]

_GOOD, _BAD, _LINE = "#2c8f5a", "#c8553d", "#33415c"


def summary(episodes: Sequence[Episode], confidence: float = 0.95) -> dict[str, Any]:
    """The figures of some episodes; without any there is no rate."""
    successes = sum(episode.success for episode in episodes)
    found: dict[str, Any] = {
        "episodes": len(episodes),
        "successes": successes,
        "errors": sum(episode.ended == "error" for episode in episodes),
    }
    if episodes:
        interval = wilson(successes, len(episodes), confidence)
        found["success_rate"] = successes / len(episodes)
        found["interval"] = {
            "low": interval.low,
            "high": interval.high,
            "confidence": confidence,
            "method": "Wilson score (1927)",
        }
        found["mean_return"] = sum(episode.reward for episode in episodes) / len(episodes)
        found["mean_steps"] = sum(episode.steps for episode in episodes) / len(episodes)
    for name in ("infer_ms", "step_ms"):
        calls = [took for episode in episodes for took in getattr(episode, name)]
        found[name] = times_of(calls)._asdict()
    return found


def describe(figures: dict[str, Any]) -> str:
    """The figures of summary() in a few lines."""
    lines = []
    if "success_rate" in figures:
        interval = figures["interval"]
        lines.append(
            f"success  {figures['success_rate']:.1%}  ({figures['successes']} of {figures['episodes']}; "
            f"{interval['confidence']:.0%} interval {interval['low']:.1%} to {interval['high']:.1%}, Wilson score)"
        )
        lines.append(f"return   {figures['mean_return']:.2f} on average, {figures['mean_steps']:.1f} steps")
    else:
        lines.append("success  no episode was finished")
    if figures["errors"]:
        lines.append(f"errors   {figures['errors']} of them ended in one, and count as failures")
    for name, what in (("infer_ms", "policy"), ("step_ms", "step")):
        times = figures[name]
        lines.append(
            f"{what:<8} {times['calls']} calls, p50 {times['p50']:.2f} ms, p99 {times['p99']:.2f} ms"
        )
    return "\n".join(lines)


def write_json(
    path: str, setting: dict[str, Any], figures: dict[str, Any], episodes: Sequence[Episode]
) -> None:
    """Writes everything to `path`, whole or not at all. Raises OSError."""
    rows = [{**episode._asdict(), "infer_ms": None, "step_ms": None} for episode in episodes]
    for row, episode in zip(rows, episodes):
        row["infer_ms"] = [round(took, 4) for took in episode.infer_ms]
        row["step_ms"] = [round(took, 4) for took in episode.step_ms]
    beside = f"{path}.part"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(_plain({**setting, **figures, "episode": rows}), file, indent=1)
        file.write("\n")
    os.replace(beside, path)


def plot(path: str, title: str, figures: dict[str, Any], episodes: Sequence[Episode]) -> None:
    """Draws rate, episodes and times to `path`, whose ending says in what form. Raises OSError, ValueError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (rate, lengths, times) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    _draw_rate(rate, figures, episodes)
    _draw_lengths(lengths, episodes)
    _draw_times(times, episodes)
    try:
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)


def _draw_rate(axes: Any, figures: dict[str, Any], episodes: Sequence[Episode]) -> None:
    confidence = figures["interval"]["confidence"] if episodes else 0.95
    counts = range(1, len(episodes) + 1)
    successes = list(itertools.accumulate(int(episode.success) for episode in episodes))
    intervals = [wilson(successes[count - 1], count, confidence) for count in counts]
    rates = [successes[count - 1] / count for count in counts]
    lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]
    axes.fill_between(
        counts, lows, highs, step="mid", color=_GOOD, alpha=0.2, label=f"{confidence:.0%} (Wilson)"
    )
    axes.step(counts, rates, where="mid", color=_GOOD, label="success rate")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(ylim=(-0.03, 1.03), xlabel="episodes", title="success rate so far")
    _draw_legend(axes, "lower right")


def _draw_lengths(axes: Any, episodes: Sequence[Episode]) -> None:
    for is_success, color, label in ((True, _GOOD, "success"), (False, _BAD, "failure")):
        chosen = [episode for episode in episodes if episode.success is is_success]
        if chosen:
            numbers = [episode.number + 1 for episode in chosen]
            axes.bar(numbers, [episode.steps for episode in chosen], color=color, label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="episode", ylabel="steps", title="length of each episode")
    _draw_legend(axes, "upper right")
    axes.margins(y=0.18)


def _draw_times(axes: Any, episodes: Sequence[Episode]) -> None:
    """For each duration, which share of the calls took no longer."""
    for name, color, label in (("infer_ms", _LINE, "policy"), ("step_ms", _BAD, "step")):
        calls = sorted(took for episode in episodes for took in getattr(episode, name))
        if calls:
            shares = [(index + 1) / len(calls) for index in range(len(calls))]
            axes.step(calls, shares, where="post", color=color, label=f"{label} ({len(calls)} calls)")
            axes.set_xscale("log")
    axes.set(xlabel="ms", ylim=(0.0, 1.03), title="calls that took no longer")
    axes.grid(True, which="both", alpha=0.25)
    _draw_legend(axes, "lower right")


def _draw_legend(axes: Any, where: str) -> None:
    if axes.get_legend_handles_labels()[0]:  # before the first episode there is nothing to explain
        axes.legend(loc=where, fontsize=8)


def _plain(value: Any) -> Any:
    """What JSON has a form for: of other things their text, and null for what is no number."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
