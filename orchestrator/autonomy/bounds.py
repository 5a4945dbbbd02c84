"""Exact confidence bounds of a proportion. Knows numbers only.

Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934).
"""

import math
from collections.abc import Sequence

LEVEL = 0.95  # one-sided
_STEPS = 40  # bisections: far below what a count can tell apart


def lower_bound(successes: int, trials: int, *, level: float = LEVEL) -> float:
    """The proportion that is exceeded with this confidence, 0..1; 0 where nothing was tried. Raises ValueError."""
    _check(successes, trials)
    if successes == 0:
        return 0.0
    ways = [_log_choose(trials, count) for count in range(successes)]
    low, high = 0.0, successes / trials
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if 1 - _fewer_than(ways, trials, middle) < 1 - level:
            low = middle
        else:
            high = middle
    return low


def upper_bound(successes: int, trials: int, *, level: float = LEVEL) -> float:
    """The proportion that is not reached with this confidence, 0..1; 1 where nothing was tried. Raises ValueError."""
    _check(successes, trials)
    return 1.0 if trials == 0 else 1 - lower_bound(trials - successes, trials, level=level)


def _check(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")


def _fewer_than(log_ways: Sequence[float], trials: int, chance: float) -> float:
    """P(X < len(log_ways)) of a binomial; `log_ways[k]` is the logarithm of trials over k."""
    good, bad = math.log(chance), math.log1p(-chance)
    logs = [ways + k * good + (trials - k) * bad for k, ways in enumerate(log_ways)]
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(each - top) for each in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
