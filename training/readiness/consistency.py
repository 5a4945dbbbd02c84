"""Consistency: near-copies that carry different labels, and tickets whose label is likely wrong.

Likely wrong is what two ways of looking agree on. (1) Confident learning (Northcutt, Jiang and Chuang 2021): out of cross-validated
probabilities, a ticket counts as another class when its probability of that class reaches the mean probability that tickets of that
class have of it. (2) Of its nearest tickets, more than half carry that same other label and at most a fifth its own.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from training.readiness.ceiling import BLIND, HARDLY_TOLD, TOO_FEW, Tried
from training.readiness.export import Export
from training.readiness.limits import found, unknown
from training.readiness.records import Example, Measure
from training.readiness.vectors import Space

SHOWN = 8
MOST = 0.5  # of the nearest tickets carry the other label
OWN = 0.2  # of them carry the ticket's own label, at most


def measure_copies(export: Export, compared: np.ndarray, clusters: np.ndarray) -> Measure:
    """Labeled tickets that have a near-copy with another label, beyond those that agree with the commonest label of their cluster."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, cluster in zip(compared, clusters, strict=True):
        if export.labels[row] is not None:
            members[int(cluster)].append(int(row))
    labeled = sum(map(len, members.values()))
    if not labeled:
        return unknown("conflicting_copies", "No ticket has a label, so nothing can be said about it.")
    torn = {cluster: rows for cluster, rows in members.items() if len({export.labels[row] for row in rows}) > 1}
    against = sum(len(rows) - Counter(export.labels[row] for row in rows).most_common(1)[0][1] for rows in torn.values())
    copies = sum(len(rows) for rows in members.values() if len(rows) > 1)
    share = against / labeled
    return found(
        "conflicting_copies", share,
        f"{len(torn):,} groups of near-identical texts carry more than one label; {against:,} tickets ({share:.1%} of all, "
        f"{against / max(copies, 1):.1%} of those with a near-copy) contradict the commonest label of their group.",
        "Agree on one label for each of these texts (they are shown side by side), write the rule down, and relabel.",
        affected=min(1.0, 3 * share),
        examples=_side_by_side(export, torn),
        details={"groups": len(torn), "against": against, "with_copies": copies, "labels": _torn_between(export, torn)},
    )  # fmt: skip


def _side_by_side(export: Export, torn: dict[int, list[int]]) -> list[Example]:
    """One ticket of each label of the groups with most tickets."""
    largest = sorted(torn.values(), key=len, reverse=True)[:SHOWN]
    return [
        Example(
            rows=tuple({export.labels[row]: row for row in reversed(rows)}.values())[:4],
            note=", ".join(f"{count} x {label!r}" for label, count in Counter(export.labels[row] for row in rows).most_common(4)),
        )
        for rows in largest
    ]


def _torn_between(export: Export, torn: dict[int, list[int]]) -> list[dict[str, object]]:
    """Which labels stand on equal texts, most often first."""
    pairs: Counter[tuple[str, str]] = Counter()
    for rows in torn.values():
        (one, _), (other, _) = Counter(str(export.labels[row]) for row in rows).most_common(2)
        pairs[min(one, other), max(one, other)] += 1
    return [{"classes": list(pair), "groups": count} for pair, count in pairs.most_common(10)]


def measure_noise(export: Export, tried: Tried | None, space: Space, compared: np.ndarray) -> Measure:
    """Share of tickets whose label both ways of looking call wrong; the larger estimate of confident learning alone is named, too."""
    if tried is None:
        return unknown("label_noise", TOO_FEW, "Collect more labeled tickets of at least two classes.")
    if tried.skill < BLIND:
        return unknown("label_noise", HARDLY_TOLD)
    other, estimate = confident(tried.targets, tried.probabilities)
    doubted = _agreed(export, tried, other, space, compared)
    share = len(doubted) / len(tried.rows)
    pairs = Counter((tried.classes[tried.targets[i]], tried.classes[other[i]]) for i in doubted)
    return found(
        "label_noise", share,
        f"{len(doubted):,} of {len(tried.rows):,} tickets ({share:.1%}) are likely mislabeled: model and neighbors agree on another label. "
        f"Confident learning alone, which also counts tickets that are merely hard, says {estimate:.1%}.",
        "Have two people relabel the tickets listed in the JSON report (worst first); a morning's work there beats a larger model.",
        affected=min(1.0, 3 * share),
        examples=[
            Example(rows=(int(tried.rows[i]),), note=f"labeled {tried.classes[tried.targets[i]]!r}, likely {tried.classes[other[i]]!r}")
            for i in doubted[:SHOWN]
        ],
        details={
            "confident_learning": estimate,
            "pairs": [{"labeled": one, "likely": likely, "tickets": count} for (one, likely), count in pairs.most_common(10)],
            "tickets": [
                {"id": export.rows[tried.rows[i]].id, "line": export.rows[tried.rows[i]].line, "labeled": tried.classes[tried.targets[i]],
                 "likely": tried.classes[other[i]], "probability": round(float(tried.probabilities[i, other[i]]), 3)}
                for i in doubted[:500]
            ],
        },
    )  # fmt: skip


def confident(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, float]:
    """([n] the class that each ticket counts as, its own where none other, estimated share of wrong labels)."""
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(targets)), targets]
    threshold = np.array([own[targets == label].mean() if (targets == label).any() else 1.0 for label in range(classes)])
    reached = np.where(probabilities >= threshold, probabilities, -1.0)
    counted = reached.max(1) >= 0
    said = np.where(counted, reached.argmax(1), targets)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (targets[counted], said[counted]), 1)
    weight = np.bincount(targets, minlength=classes) / np.maximum(joint.sum(1), 1)
    joint = joint * weight[:, None]
    return said, float(1 - np.trace(joint) / max(joint.sum(), 1e-9))


def _agreed(export: Export, tried: Tried, other: np.ndarray, space: Space, compared: np.ndarray) -> list[int]:
    """Places in `tried` of the tickets in doubt, surest first."""
    doubted = []
    for i in np.flatnonzero(other != tried.targets):
        near = [export.labels[row] for row in compared[space.neighbors[tried.places[i]]]]
        near = [label for label in near if label is not None]
        if near and _share(near, tried.classes[other[i]]) > MOST and _share(near, tried.classes[tried.targets[i]]) <= OWN:
            doubted.append(int(i))
    return sorted(doubted, key=lambda i: -float(tried.probabilities[i, other[i]] - tried.probabilities[i, tried.targets[i]]))


def _share(labels: Sequence[str], label: str) -> float:
    return sum(each == label for each in labels) / len(labels)
