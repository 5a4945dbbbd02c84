"""Words that training never saw, and what abstained tickets have in common. Knows texts with personal data replaced; no models."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.privacy.recognizers import PLACEHOLDER
from training.metrics import bootstrap

FEWEST_TICKETS = 3  # a word is shown once so many tickets have it: none names a person by chance
MOST_TEXTS = 1500  # newest abstained tickets that are compared with each other
SMALLEST = 5  # tickets of a cluster that is worth a look
APART = 0.85  # mean cosine distance at which two groups are still one
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, kw_only=True)
class NewWords:
    share: float  # of the words, repetitions counted
    low: float
    high: float
    expected: float  # share of new words in any ticket of the training data's kind: Good-Turing
    tickets: int
    examples: tuple[tuple[str, int], ...]  # word, tickets that have it


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Abstained tickets that speak alike."""

    tickets: int
    words: tuple[str, ...]  # that tell it from the others
    put_into: tuple[tuple[str, int], ...]  # where people put them
    ids: tuple[str, ...]

    @property
    def suspects_new_type(self) -> bool:
        """People did not put most of those that they put anywhere into one type that there is."""
        placed = sum(count for _, count in self.put_into)
        return placed == 0 or self.put_into[0][1] < 0.6 * placed


def words_of(text: str) -> list[str]:
    return _WORD.findall(PLACEHOLDER.sub(" ", text).casefold())


def new_words(texts: Sequence[str], known: Sequence[str]) -> NewWords | None:
    """None where there is nothing to compare with. Good-Turing: a new word comes as often as words that were seen once."""
    seen = Counter(word for text in known for word in words_of(text))
    rows = [(sum(word not in seen for word in words), len(words)) for text in texts if (words := words_of(text))]
    if not seen or not rows:
        return None
    strange, total = (np.array(column, float) for column in zip(*rows, strict=True))
    interval = bootstrap(lambda a, b: float(a.sum() / max(b.sum(), 1)), strange, total, draws=500)
    spread = Counter(word for text in texts for word in set(words_of(text)) if word not in seen)
    return NewWords(
        share=float(strange.sum() / total.sum()),
        low=interval.low,
        high=interval.high,
        expected=sum(count == 1 for count in seen.values()) / sum(seen.values()),
        tickets=len(rows),
        examples=tuple((word, count) for word, count in spread.most_common(20) if count >= FEWEST_TICKETS),
    )


def clusters(
    ids: Sequence[str], texts: Sequence[str], put_into: Sequence[str | None], *, background: Sequence[str] = ()
) -> tuple[Cluster, ...]:
    """Groups of tickets that share words, the largest first. The three sequences are parallel, newest last.

    `background` are other tickets of the desk: words that are common there count little.
    """
    ids, texts, put_into = ids[-MOST_TEXTS:], texts[-MOST_TEXTS:], put_into[-MOST_TEXTS:]
    if len(texts) < 2 * SMALLEST:
        return ()
    numbers, matrix, vocabulary = _grouped(texts, background)
    found = []
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        if len(rows) >= SMALLEST:
            found.append(_cluster(rows, numbers, matrix, vocabulary, ids, put_into))
    return tuple(sorted(found, key=lambda cluster: -cluster.tickets))


def _grouped(texts: Sequence[str], background: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(group of each text, tf-idf [n, words] of unit length, the words)."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=words_of, min_df=2, max_df=0.5, sublinear_tf=True, max_features=4000)
    try:
        vectorizer.fit([*texts, *background])
    except ValueError:  # no word is in two texts
        return np.arange(len(texts)), np.zeros((len(texts), 0)), np.zeros(0, str)
    matrix = vectorizer.transform(texts).toarray()
    empty = ~matrix.any(axis=1)
    distance = 1.0 - matrix @ matrix.T
    distance[empty], distance[:, empty] = 1.0, 1.0
    np.fill_diagonal(distance, 0.0)
    model = AgglomerativeClustering(n_clusters=None, metric="precomputed", linkage="average", distance_threshold=APART)
    return model.fit_predict(np.maximum(distance, 0.0)), matrix, vectorizer.get_feature_names_out()


def _cluster(
    rows: np.ndarray,
    numbers: np.ndarray,
    matrix: np.ndarray,
    vocabulary: np.ndarray,
    ids: Sequence[str],
    put_into: Sequence[str | None],
) -> Cluster:
    outside = np.setdiff1d(np.arange(len(numbers)), rows)
    typical = matrix[rows].mean(axis=0) - (matrix[outside].mean(axis=0) if len(outside) else 0.0)
    common = (matrix[rows] > 0).sum(axis=0) >= FEWEST_TICKETS
    order = [index for index in np.argsort(-typical) if common[index] and typical[index] > 0][:6]
    placed = Counter(put_into[row] for row in rows if put_into[row])
    return Cluster(
        tickets=len(rows),
        words=tuple(str(vocabulary[index]) for index in order),
        put_into=tuple((str(name), count) for name, count in placed.most_common(3)),
        ids=tuple(ids[row] for row in rows[-5:]),
    )
