"""What knowledge lacks: questions that failed, grouped by meaning. Knows vectors; knows no store.

Leaders: the newest question opens a group; each further one joins the group whose first question is nearest, where that is near
enough, else it opens another. Questions of the same group ask for the same article.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from orchestrator.ports import Gap

NEAR_ENOUGH = 0.6  # cosine to the group's first question
EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Questions that ask for the same thing, most asked first in a report."""

    count: int
    why: dict[str, int]  # below_threshold, nothing_found, no_reading, not_helpful: how many of each
    examples: tuple[str, ...]
    ticket_ids: tuple[str, ...]
    nearest_id: str  # the article that was nearest most often; "": none
    nearest_title: str
    best: float | None  # the highest cosine that was reached
    last_at: datetime


def cluster(gaps: Sequence[Gap], *, near_enough: float = NEAR_ENOUGH) -> list[Cluster]:
    """Largest group first, the newer one of two as large. A question without a vector stands alone unless its words are the same."""
    groups: list[list[Gap]] = []
    leaders: list[np.ndarray] = []
    owners: list[int] = []
    spoken: dict[str, int] = {}
    for gap in gaps:
        words = " ".join(gap.question.casefold().split())
        place = spoken.get(words)
        if place is None and gap.vector is not None and leaders:
            cosines = np.stack(leaders) @ gap.vector
            nearest = int(np.argmax(cosines))
            place = owners[nearest] if cosines[nearest] >= near_enough else None
        if place is None:
            place = len(groups)
            groups.append([])
            if gap.vector is not None:
                leaders.append(gap.vector)
                owners.append(place)
        spoken.setdefault(words, place)
        groups[place].append(gap)
    return sorted((_cluster(group) for group in groups), key=lambda each: (-each.count, -each.last_at.timestamp()))


def _cluster(group: Sequence[Gap]) -> Cluster:
    articles = Counter((gap.nearest_id, gap.nearest_title) for gap in group if gap.nearest_id)
    nearest_id, nearest_title = articles.most_common(1)[0][0] if articles else ("", "")
    return Cluster(
        count=len(group),
        why=dict(Counter(gap.why for gap in group).most_common()),
        examples=tuple(dict.fromkeys(" ".join(gap.question.split()) for gap in group))[:EXAMPLES],
        ticket_ids=tuple(gap.ticket_id for gap in group),
        nearest_id=nearest_id,
        nearest_title=nearest_title,
        best=max((gap.best for gap in group if gap.best is not None), default=None),
        last_at=max(gap.at for gap in group),
    )
