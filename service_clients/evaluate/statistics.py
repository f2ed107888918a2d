"""How sure a success rate is, and how calls went."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple, Sequence

__all__ = ["Interval", "Times", "times_of", "wilson"]


class Interval(NamedTuple):
    """Between which rates the true one lies, with this confidence."""

    low: float
    high: float
    confidence: float


class Times(NamedTuple):
    """Of some calls, in ms: how many, half and 99 % of them took at most so long, and the longest."""

    calls: int
    p50: float
    p99: float
    max: float


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The score interval of a rate.

    It stays within 0 and 1, and says something true of few trials and of rates near 0 or 1, where the usual
    "rate +- 1.96 standard errors" does not: of 10 successes in 10 trials that one says 100 % to 100 %.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (158), 1927, pages 209-212.

    Raises:
        ValueError: no trials, more successes than trials, or a confidence that is not between 0 and 1.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, not between 0 and 1")
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2.0)
    rate, weight = successes / trials, z * z / trials
    middle = (rate + weight / 2.0) / (1.0 + weight)
    half = z / (1.0 + weight) * math.sqrt(rate * (1.0 - rate) / trials + weight / (4.0 * trials))
    low = 0.0 if successes == 0 else max(middle - half, 0.0)
    high = 1.0 if successes == trials else min(middle + half, 1.0)
    return Interval(low, high, confidence)


def times_of(calls_ms: Sequence[float]) -> Times:
    """Percentiles by nearest rank; zeros of no calls."""
    if not calls_ms:
        return Times(0, 0.0, 0.0, 0.0)
    ordered = sorted(calls_ms)
    p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99))
    return Times(len(ordered), p50, p99, ordered[-1])
