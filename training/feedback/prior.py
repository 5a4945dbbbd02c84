"""How much of each type there is now, from predictions alone, and what that changes. Arrays only; knows no tickets and no models.

Saerens, Latinne, Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities": expectation and
maximization over posteriors that were right for the old shares. It holds while only the shares moved, not what tickets of a type look
like; the likelihood ratio says whether they moved more than chance.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

LEAST = 1e-4  # no share becomes nothing
MOST_RATIO = 5.0  # a share is moved by at most so much


@dataclass(frozen=True, kw_only=True, eq=False)
class Shift:
    before: np.ndarray  # [k] shares that the posteriors were right for
    after: np.ndarray  # [k]
    p_value: float  # of the likelihood-ratio test that nothing moved
    tickets: int
    rounds: int

    @property
    def log_ratios(self) -> np.ndarray:
        """[k] what is added to a classifier's log-probabilities, bounded."""
        limit = np.log(MOST_RATIO)
        bounded: np.ndarray = np.clip(np.log(self.after / self.before), -limit, limit)
        return bounded


def estimate_shift(posteriors: np.ndarray, before: np.ndarray, *, rounds: int = 500, close: float = 1e-6) -> Shift:
    """`posteriors` [n, k], rows sum to 1; `before` [k]."""
    before = _shares(before)
    after = before.copy()
    done = 0
    for done in range(1, rounds + 1):  # noqa: B007
        moved = adjusted(posteriors, np.log(after / before)).mean(axis=0)
        moved = _shares(moved)
        finished = float(np.abs(moved - after).max()) < close
        after = moved
        if finished:
            break
    gain = np.log(np.maximum(posteriors @ (after / before), 1e-300)).sum()
    p_value = float(chi2.sf(max(2.0 * float(gain), 0.0), max(len(before) - 1, 1)))
    return Shift(before=before, after=after, p_value=p_value, tickets=len(posteriors), rounds=done)


def shift_from_labels(counts: np.ndarray, before: np.ndarray) -> Shift:
    """From how many labeled tickets each type has now; one of each is added, so that no share is nothing."""
    before = _shares(before)
    after = _shares(counts + len(counts) * before)
    gain = float((counts * np.log(after / before)).sum())
    p_value = float(chi2.sf(max(2.0 * gain, 0.0), max(len(before) - 1, 1)))
    return Shift(before=before, after=after, p_value=p_value, tickets=int(counts.sum()), rounds=0)


def adjusted(posteriors: np.ndarray, log_ratios: np.ndarray) -> np.ndarray:
    """[n, k] posteriors under the new shares."""
    moved = posteriors * np.exp(log_ratios)
    scaled: np.ndarray = moved / np.maximum(moved.sum(axis=1, keepdims=True), 1e-300)
    return scaled


def _shares(values: np.ndarray) -> np.ndarray:
    shares = np.maximum(np.asarray(values, float), 0.0)
    shares = np.maximum(shares / max(shares.sum(), 1e-300), LEAST)
    out: np.ndarray = shares / shares.sum()
    return out
