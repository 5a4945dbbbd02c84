"""Is one way of deciding better than another on the same tickets? Paired, with its uncertainty; knows judgments, no model and no text."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from training.evaluation.figures import actable, covered, right_and_acted, right_in_scope
from training.evaluation.judgment import Judgment
from training.metrics import bootstrap, ece, mcnemar

DRAWS = 1000
SLOW_DRAWS = 200  # of figures that sort all tickets in each draw


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of two ways of deciding. `low`, `high`: 95 % interval of first - second, both on the same resamples."""

    figure: str
    first: float
    second: float
    low: float
    high: float
    more_is_better: bool = True

    @property
    def verdict(self) -> str:
        """`better` or `worse` (of the first) only where the interval leaves out zero."""
        low, high = (self.low, self.high) if self.more_is_better else (-self.high, -self.low)
        if low > 0:
            return "better"
        return "worse" if high < 0 else "no clear difference"

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"difference": self.first - self.second, "verdict": self.verdict}


def compare(first: Judgment, second: Judgment, targets: np.ndarray, *, target_precision: float) -> dict[str, Any]:
    """Accuracy (with McNemar's test), coverage at the target precision, calibration error. `targets` [n] names."""
    right = [judgment.best == targets for judgment in (first, second)]
    test = mcnemar(*right)
    return {
        "first": first.name,
        "second": second.name,
        "tickets": len(targets),
        "gained": test.only_first,
        "lost": test.only_second,
        "mcnemar_p": test.p_value,
        "accuracy": _difference("accuracy", _mean, *right).record(),
        "coverage_at_target": _difference(
            f"coverage at {target_precision:.0%} precision",
            partial(covered, precision=target_precision),
            (first.confidence, right_and_acted(first, targets), actable(first)),
            (second.confidence, right_and_acted(second, targets), actable(second)),
            draws=SLOW_DRAWS,
        ).record(),
        "ece": _difference(
            "calibration error",
            ece,
            (first.confidence, right_in_scope(first, targets)),
            (second.confidence, right_in_scope(second, targets)),
            draws=SLOW_DRAWS,
            more_is_better=False,
        ).record(),
    }


def _mean(right: np.ndarray) -> float:
    return float(np.mean(right)) if len(right) else 0.0


def _difference(
    figure: str,
    statistic: Callable[..., float],
    first: np.ndarray | tuple[np.ndarray, ...],
    second: np.ndarray | tuple[np.ndarray, ...],
    *,
    draws: int = DRAWS,
    more_is_better: bool = True,
) -> Difference:
    one = first if isinstance(first, tuple) else (first,)
    two = second if isinstance(second, tuple) else (second,)
    interval = bootstrap(lambda *c: statistic(*c[: len(one)]) - statistic(*c[len(one) :]), *one, *two, draws=draws)
    return Difference(
        figure=figure,
        first=statistic(*one),
        second=statistic(*two),
        low=interval.low,
        high=interval.high,
        more_is_better=more_is_better,
    )
