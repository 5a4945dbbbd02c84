"""The head's best types with their nearest labeled tickets, written down for the language model to compare.

Knows classes, similarities and the prompt's renderer; knows no model. Training and serving call the same functions; training
also says which labeled tickets a prompt must not show (the ticket itself, its near-copies).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.domain.triage import OTHERS
from orchestrator.triage.prompts import CODES, Option, candidate, rerank_prefix, rerank_suffix

ANYTHING_ELSE = "anything else"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One re-ranking question."""

    suffix: str  # behind `rerank_prefix()`
    codes: tuple[str, ...]
    classes: tuple[int, ...]  # what each code stands for

    @property
    def prompt(self) -> str:
        return rerank_prefix() + self.suffix


def choose_candidates(probabilities: np.ndarray, count: int, *, others: bool) -> np.ndarray:
    """[n, count (+ 1)] class numbers: the head's best `count` types in scope in the taxonomy's order, then Others if asked for.

    `probabilities` [n, classes], Others last.
    """
    scope = probabilities.shape[1] - 1
    count = min(count, scope)
    best = np.sort(np.argpartition(-probabilities[:, :scope], count - 1, axis=1)[:, :count], axis=1)
    return np.hstack([best, np.full((len(best), 1), scope)]) if others else best


def show_candidates(
    texts: Sequence[str],
    candidates: np.ndarray,
    similar: np.ndarray,
    *,
    classes: Sequence[str],
    neighbor_texts: Sequence[str],
    neighbor_labels: np.ndarray,
    examples: int,
) -> list[Shown]:
    """One question per text. `similar` [n, neighbors] cosines; what is not to be shown has -inf.

    `neighbor_labels` [neighbors] are class numbers.
    """
    members = {int(c): np.flatnonzero(neighbor_labels == c) for c in np.unique(candidates)}
    return [
        _show(text, chosen, row, members, classes, neighbor_texts, examples)
        for text, chosen, row in zip(texts, candidates, similar, strict=True)
    ]


def _show(
    text: str,
    chosen: np.ndarray,
    similar: np.ndarray,
    members: dict[int, np.ndarray],
    classes: Sequence[str],
    neighbor_texts: Sequence[str],
    examples: int,
) -> Shown:
    options: list[Option] = []
    for code, number in zip(CODES, (int(c) for c in chosen), strict=False):
        name = classes[number]
        if name == OTHERS:
            options.append(Option(code=code, name=OTHERS, means=ANYTHING_ELSE))
            continue
        own = members[number]
        nearest = own[np.argsort(-similar[own], kind="stable")[:examples]]
        shown = [neighbor_texts[i] for i in nearest if np.isfinite(similar[i])]
        options.append(candidate(code, name, shown))
    return Shown(
        suffix=rerank_suffix(options, text),
        codes=tuple(option.code for option in options),
        classes=tuple(int(c) for c in chosen),
    )
