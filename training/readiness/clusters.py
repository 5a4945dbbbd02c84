"""Clusters: what kinds of tickets there are, and which kinds are poor: empty talk, or labels mixed as much as in the whole export."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import CountVectorizer

from training.readiness.content import SAYS_NOTHING
from training.readiness.export import Export
from training.readiness.labels import effective_classes
from training.readiness.limits import found, unknown
from training.readiness.records import Example, Measure
from training.readiness.vectors import Space

LEAST = 60  # tickets below which nothing is clustered
MOST_CLUSTERS = 60
MIXED = 0.75  # of the whole export's effective number of classes (as a logarithm): as good as unsorted
EMPTY_TALK = 0.5  # of a cluster's tickets say nothing
TYPICAL_WORDS = 6
IN_TICKETS = 5  # that must have a word before it is shown: a name that stands once is nobody's business


def measure_clusters(export: Export, space: Space, compared: np.ndarray, poor: np.ndarray) -> Measure:
    """Share of the compared tickets in poor clusters. `poor` [n] bool over the export: the tickets that say nothing."""
    if len(compared) < LEAST:
        return unknown("poor_clusters", f"Fewer than {LEAST} tickets: nothing to cluster.")
    assigned, centers = _clustered(space.vectors)
    words = _typical(export, compared, assigned)
    overall = _mixing([export.labels[row] for row in compared])
    rows = [_described(export, space, compared, assigned, centers, poor, words, overall, number) for number in np.unique(assigned)]
    rows.sort(key=lambda row: (row["poor_because"] == "", -row["tickets"]))
    bad = [row for row in rows if row["poor_because"]]
    share = sum(row["tickets"] for row in bad) / len(compared)
    return found(
        "poor_clusters", share,
        f"{len(bad)} of {len(rows)} clusters are poor; they hold {share:.1%} of the tickets.",
        "Look through these clusters: give mixed ones a rule that tells their labels apart, and leave out the empty talk.",
        affected=share,
        examples=[Example(rows=tuple(row["rows"]), note=_named(row)) for row in bad[:6]],
        details={"clusters": [{key: value for key, value in row.items() if key != "rows"} for row in rows], "overall_mixing": overall},
    )  # fmt: skip


def _clustered(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    number = int(np.clip(np.sqrt(len(vectors) / 2), 5, MOST_CLUSTERS))
    number = min(number, len(np.unique(vectors.round(4), axis=0)))
    model = MiniBatchKMeans(number, random_state=0, n_init=2, batch_size=2048).fit(vectors)
    return model.labels_, model.cluster_centers_


def _mixing(labels: Sequence[str | None]) -> float:
    """Natural logarithm of the effective number of classes: 0 where all agree."""
    counts = Counter(label for label in labels if label is not None)
    return float(np.log(effective_classes(list(counts.values())))) if counts else 0.0


def _typical(export: Export, compared: np.ndarray, assigned: np.ndarray) -> dict[int, list[str]]:
    """Words that stand in many more tickets of a cluster than elsewhere. No numbers, no addresses, no rare words."""
    try:
        counter = CountVectorizer(
            binary=True, min_df=IN_TICKETS, max_features=8_000, token_pattern=r"(?<![\w@.])[^\W\d_]{3,}(?![\w@])",
            stop_words=sorted(SAYS_NOTHING),
        )  # fmt: skip
        counted = counter.fit_transform(export.texts[row][:2_000] for row in compared)
    except ValueError:  # no word stands in enough tickets
        return {}
    names, everywhere = counter.get_feature_names_out(), np.asarray(counted.mean(0)).ravel()
    typical = {}
    for number in np.unique(assigned):
        inside = counted[assigned == number]
        share = np.asarray(inside.mean(0)).ravel()
        score = share * np.log((share + 1e-3) / (everywhere + 1e-3))
        enough = np.asarray(inside.sum(0)).ravel() >= IN_TICKETS
        best = np.argsort(-np.where(enough, score, -1.0))[:TYPICAL_WORDS]
        typical[int(number)] = [str(names[index]) for index in best if enough[index] and score[index] > 0]
    return typical


def _described(
    export: Export, space: Space, compared: np.ndarray, assigned: np.ndarray, centers: np.ndarray, poor: np.ndarray,
    words: dict[int, list[str]], overall: float, number: int,
) -> dict[str, Any]:  # fmt: skip
    places = np.flatnonzero(assigned == number)
    labels = [export.labels[row] for row in compared[places]]
    mixing = _mixing(labels)
    empty = float(poor[compared[places]].mean())
    central = places[np.argsort(-(space.vectors[places] @ centers[number]))[:3]]
    commonest = Counter(label for label in labels if label is not None).most_common(3)
    mixed = overall > 0 and len(places) >= 10 and mixing >= MIXED * overall and commonest[0][1] < 0.5 * len(places)
    because = "says nothing" if empty >= EMPTY_TALK else "labels are mixed" if mixed else ""
    return {
        "tickets": len(places), "poor_because": because, "saying_nothing": empty, "label_entropy": mixing,
        "labels": [[label, count] for label, count in commonest], "words": words.get(int(number), []),
        "rows": [int(compared[place]) for place in central],
    }  # fmt: skip


def _named(row: dict[str, Any]) -> str:
    return f"{row['tickets']} tickets, {row['poor_because']}"
